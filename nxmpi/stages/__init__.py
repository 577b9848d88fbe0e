"""The steps: collective functions on model objects; no paths."""
