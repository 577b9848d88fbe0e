"""Files that users keep, or that are kept for them, for all their work."""

import os
from pathlib import Path


def user_file(variable: str, name: str) -> Path:
    """Return the file that a variable names, or one of the user's configuration."""
    named = os.environ.get(variable)
    if named:
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "nxmpi" / name
