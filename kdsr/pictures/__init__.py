"""Metrics on folders of pictures, and rows of crops."""
