"""Programs that several of these tests run."""

import os
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def nxrefine():
    """Return the Python that has NXRefine."""
    environment = CHECKOUT / ".venv-nxrefine"
    python = Path(os.environ.get("NXREFINE_PYTHON", environment / "bin" / "python"))
    if not python.exists():
        missing = f"no {python}: make its environment, or name one with NXREFINE_PYTHON"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return python


@pytest.fixture(scope="session")
def nxcctw(tmp_path_factory):
    """Return the program nxcctw of this checkout, installed or not."""
    path = tmp_path_factory.mktemp("bin") / "nxcctw"
    path.write_text(
        f"#!{sys.executable}\nimport sys\n\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from nxmpi.cli.main import main_of_nxcctw\n\nmain_of_nxcctw()\n"
    )
    path.chmod(0o755)
    return path
