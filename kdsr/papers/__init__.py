"""The papers' published numbers, and which of them a run is comparable with."""
