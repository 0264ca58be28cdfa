"""The core of every method: batches, network outputs, feature taps, teachers, views and the base of all losses."""
