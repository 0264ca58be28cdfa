"""Networks with their weights."""
