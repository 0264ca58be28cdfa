"""Numbers on finished images."""
