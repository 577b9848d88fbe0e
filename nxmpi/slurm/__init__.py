"""Batch jobs: command lines for Slurm, the chain of a scan, and what was submitted."""
