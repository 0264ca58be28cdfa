"""Image files of any origin: read with all their bits, written row by row, with their metadata."""
