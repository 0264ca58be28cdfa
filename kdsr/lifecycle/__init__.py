"""What happens to a training run: seeding and sampling, stopping, resuming, saving, locking, progress.

`kdsr.lifecycle.pipeline` tells the story in its order. `kdsr.replacements` puts these functions in BasicSR's place.
"""
