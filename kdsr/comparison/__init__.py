"""Train and compare several runs."""
