"""What is wrong with an experiment, found before anything is built: `kdsr check`, and the start of every run."""
