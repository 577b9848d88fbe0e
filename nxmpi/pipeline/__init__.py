"""Files in, files out: read, run a stage, write, publish; one module a stage."""
