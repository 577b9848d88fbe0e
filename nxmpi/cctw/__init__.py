"""CCTW, the external transform program: what its settings files say."""
