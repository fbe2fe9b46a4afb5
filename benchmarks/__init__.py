"""Measures job_stream against the standard ways of running Python in parallel; run as `python -m benchmarks`."""
