"""Run the command line as ``python -m nxmpi``."""

from nxmpi.cli.start import main

main()
