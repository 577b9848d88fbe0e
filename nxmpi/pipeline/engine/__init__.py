"""CCTW in the place of the native transform and combination: prepared, run, watched, checked."""
