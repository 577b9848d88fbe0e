"""CCTW, the external transform program: settings files, its command line, runs that are watched."""
