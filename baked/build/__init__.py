"""Makes files again only where something has changed."""
