"""The commands of `kdsr`: what they take. Each command's work lives in the room it belongs to."""
