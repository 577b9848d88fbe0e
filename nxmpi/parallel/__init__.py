"""More than one process: who owns what, collective work, files written together."""
