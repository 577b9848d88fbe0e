"""Options of ``nxmpi reduce``, as the commands of its steps take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nxmpi.cli.combine import combine
from nxmpi.cli.frames import frames
from nxmpi.cli.orient import orient
from nxmpi.cli.pdf import pdf
from nxmpi.cli.symmetrize import symmetrize
from nxmpi.cli.transform import transform

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = {
    command.name: command for command in (frames, orient, transform, combine, symmetrize, pdf)
}


def step_options(context: click.Context, step: str, *, redo: bool) -> tuple[str, ...]:
    """Return those options that were given to ``nxmpi reduce`` and that a step takes.

    Parameters
    ----------
    context : click.Context
        Of the command line of ``nxmpi reduce``.
    redo : bool
        Do the step again even where it is complete.
    """
    values = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if redo:
        values["overwrite"] = True
    if not values.get("mask", True):
        values["no_mask"] = True
    return tuple(
        word
        for option in COMMANDS[step].params
        if isinstance(option, click.Option) and option.name in values
        for word in _words(option, values[option.name])
    )


def _words(option: click.Option, value: Any) -> Iterator[str]:
    """Yield the words that give an option its value."""
    if option.is_flag:
        yield option.opts[0] if value else option.secondary_opts[0]
        return
    for each in value if option.multiple else [value]:
        yield option.opts[0]
        yield from map(str, each if option.nargs > 1 else [each])
