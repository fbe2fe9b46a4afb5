"""``pipeline``: jobs written in YAML."""
