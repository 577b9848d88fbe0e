"""What the commands say of themselves."""

import click
import pytest

from nxmpi.cli.main import cli
from nxmpi.cli.nxcctw import nxcctw

COMMANDS = {**cli.commands, "nxmpi": cli, "nxcctw": nxcctw}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_examples_stand_on_lines_of_their_own(name):
    command = COMMANDS[name]
    text = command.get_help(click.Context(command, info_name=name))
    assert "\\b" not in text
    examples = (command.help or "").partition("\b\n")[2].split("\n")
    assert any(examples)
    lines = [line.strip() for line in text.splitlines()]
    assert all(example.strip() in lines for example in examples)
