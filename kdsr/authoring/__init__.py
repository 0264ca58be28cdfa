"""Write and examine option files."""
