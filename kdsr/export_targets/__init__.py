"""`kdsr export`: the files in which a network leaves for other programs, one module for each target."""
