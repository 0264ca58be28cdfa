"""Looking at what was trained: numbers on images, and pictures that show where they come from."""
