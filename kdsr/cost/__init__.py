"""Parameters, operations, memory, time."""
