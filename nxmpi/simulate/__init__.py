"""Synthetic experiments with a known answer, in the layout of real ones."""
