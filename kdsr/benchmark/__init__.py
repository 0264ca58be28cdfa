"""Score networks on test sets."""
