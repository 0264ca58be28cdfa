"""The arguments of the `kdsr` commands. The work of each command is in another room."""
