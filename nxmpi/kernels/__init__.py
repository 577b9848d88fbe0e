"""Loops over pixels and voxels, compiled by numba: arrays in, arrays out, no checks."""
