"""Run the command line as ``python -m nxmpi``."""

from nxmpi.cli.main import main

main()
