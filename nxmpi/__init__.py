"""Parallel reduction of single-crystal diffuse x-ray scattering."""

# cctbx wheels bring a C++ library of their own; loaded after the system's (which scipy and
# numba bring in) it crashes the interpreter, loaded before them all go together. Loaded before
# numpy, in turn, it makes scipy's LAPACK return nonsense.
import numpy as _numpy  # noqa: F401
from cctbx import uctbx as _uctbx  # noqa: F401

__version__ = "0.1.0"
