"""The commands in the pages about NXRefine, CCTW and Slurm are ones that there are."""

import re
import shlex
from pathlib import Path

import pytest

from nxmpi.cli.main import cli
from nxmpi.cli.nxcctw import nxcctw

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {"nxrefine.md": 9, "slurm.md": 7, "nxcctw.md": 3, "cctw_engine.md": 3}
"""With how many commands there are at least."""


def commands(page):
    """Return the commands of nxmpi and nxcctw in a page, as lists of words without mpiexec."""
    text = (DOCS / page).read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [*"\n".join(blocks).splitlines(), *re.findall(r"^    (.*)", text, re.MULTILINE)]
    # a # after a letter is not a comment for a shell
    words = [re.sub(r"^mpiexec -n \d+ ", "", re.sub(r"\s#.*", "", line)) for line in lines]
    return [shlex.split(line) for line in words if re.match(r"nx(mpi|cctw) ", line)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_understood(page):
    found = commands(page)
    assert len(found) >= PAGES[page]
    for program, *words in found:
        command = nxcctw
        if program == "nxmpi":
            command = cli.commands[words.pop(0)]
        context = command.make_context(program, words)
        assert not context.args
