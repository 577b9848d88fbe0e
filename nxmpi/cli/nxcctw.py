"""``nxcctw``: CCTW's command line."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import click

import nxmpi
from nxmpi import log
from nxmpi.cctw.command import (
    CctwParams,
    parse_subset,
    settings_of_circle,
    settings_of_dimensions,
)
from nxmpi.cctw.script import CIRCLES
from nxmpi.cli import options as shared
from nxmpi.errors import InputError
from nxmpi.parallel.signals import undo_at_signals
from nxmpi.pipeline.nxcctw import run_cctw_merge, run_cctw_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mpi4py import MPI

MODES = ("transform", "merge", "norm")
ORDER, VERBOSE = "nxmpi.order", "--verbosity=1"
QUIET, CHATTY = 1, 3
"""Verbosities from which on all is logged that the root has to tell, and all that any rank has."""


class InOrder(click.Command):
    """A command that knows the order of its options, in ``context.meta``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a verbosity is one only where it is attached."""
        args = [VERBOSE if arg in ("-v", "--verbosity") else arg for arg in args]
        ctx.meta[ORDER] = [param.name for param in self.make_parser(ctx).parse_args([*args])[2]]
        return super().parse_args(ctx, args)


@click.command("nxcctw", cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nxmpi.__version__, prog_name="nxcctw")
@click.argument("mode", type=click.Choice(MODES))
@click.argument("inputs", nargs=-1)
@click.option("--input", "-i", "more_inputs", multiple=True, help="Another input.")
@click.option("--output", "-o", required=True, metavar="FILE#PATH", help="Replaced if there.")
@click.option("--script", "-s", "scripts", type=shared.FILE, multiple=True, help="Settings.")
@click.option(
    "--command",
    "-c",
    "settings",
    multiple=True,
    metavar="'NAME = VALUE;'",
    help="Settings; as with all of these, later ones hold.",
)
@click.option("--mask", "-m", metavar="FILE#PATH", help="Pixels to leave out: not 0.")
@click.option("--mask3d", "-M", metavar="FILE#PATH", help="The same of every frame.")
@click.option(
    "--weights",
    "-w",
    multiple=True,
    metavar="FILE#PATH",
    help="Of frames (1-D); twice for those of pixels (2-D) too.",
)
@click.option("--angles", "-a", metavar="FILE#PATH", help="Frames whose angle is NaN are left out.")
@click.option(
    "--twotheta", multiple=True, metavar="START[,STEP]", help="[radians], as the next three."
)
@click.option("--omega", multiple=True, metavar="START[,STEP]")
@click.option("--chi", multiple=True, metavar="START[,STEP]")
@click.option("--phi", multiple=True, metavar="START[,STEP]")
@click.option("--outputdims", multiple=True, metavar="AxBxC", help="Voxels along h, k, l.")
@click.option(
    "--normalization",
    "-N",
    type=int,
    default=1,
    show_default=True,
    help="0 for v and n in a group; else v/n alone.",
)
@click.option(
    "--compression", "-z", type=int, multiple=True, help="Level of gzip; below 0 for LZF."
)
@click.option("--subset", "-S", default="0/1", metavar="I/M", help="Part I, from 0, of M.")
@click.option("--threads", "-j", type=click.IntRange(0), help="Of no effect: ranks are.")
@click.option("--verbosity", "-v", type=click.IntRange(0, 3), default=0, help="1 as -v alone.")
@click.option("--skip-bad-frames", is_flag=True, help="Leave out frames that cannot be read.")
@click.pass_context
def nxcctw(context: click.Context, /, mode: str, **options: Any) -> None:
    """Transform frames, or merge volumes, as CCTW does; MODE is transform, merge or norm.

    \b
    mpiexec -n 4 nxcctw transform -s f1_transform.pars raw.h5#/entry/data/data \\
        -o f1_transform.nxs#/entry/data --normalization 0
    """
    comm: MPI.Intracomm = context.obj
    undo_at_signals()
    verbosity = options["verbosity"]
    log.configure(comm.rank, comm.size, verbose=verbosity >= CHATTY)
    if verbosity < QUIET:  # what is on standard error, NXRefine calls errors
        logging.getLogger("nxmpi").setLevel(logging.WARNING)
    with shared.usage_errors():
        params = _params(mode, options, context.meta[ORDER])
    run = run_cctw_transform if mode == "transform" else run_cctw_merge
    click.echo(run(comm, params))


def _params(mode: str, options: dict[str, Any], order: list[str]) -> CctwParams:
    inputs = (*options["inputs"], *options["more_inputs"])
    if mode != "merge" and len(inputs) != 1:
        raise InputError(f"{mode}: expected one input, found {len(inputs)}: {' '.join(inputs)}")
    if mode == "merge" and not inputs:
        raise InputError("merge: expected volumes as inputs, found none")
    if mode != "transform":
        _refuse_others(mode, options)
    merged = mode != "transform"
    return CctwParams(
        inputs=inputs,
        settings=() if merged else _settings(options, order),
        compression=(None, *options["compression"])[-1] if merged else None,
        subset=parse_subset(options["subset"]),
        **{
            name: options[name]
            for name in (
                "output", "mask", "mask3d", "weights", "angles", "normalization", "skip_bad_frames",
            )
        },
    )  # fmt: skip


def _settings(options: dict[str, Any], order: list[str]) -> tuple[Path | str, ...]:
    """Return the settings of a transform, in the order of their options."""
    texts: dict[str, Callable[[Any], Path | str]] = {
        "scripts": lambda path: path,
        "settings": lambda text: text,
        "outputdims": settings_of_dimensions,
        "compression": lambda level: f"outputData.compression = {level};",
        **{circle.lower(): partial(settings_of_circle, circle) for circle in CIRCLES},
    }
    values = {name: iter(options[name]) for name in texts}
    return tuple(texts[name](next(values[name])) for name in order if name in texts)


def _refuse_others(mode: str, options: dict[str, Any]) -> None:
    """Refuse options that only a transform heeds."""
    names = ("mask", "mask3d", "weights", "angles", "outputdims", "skip_bad_frames")
    circles = [circle.lower() for circle in CIRCLES]
    for name in (*names, *circles, "scripts", "settings"):
        if options[name]:
            option = {"scripts": "script", "settings": "command"}.get(name, name)
            raise InputError(f"{mode}: expected no --{option.replace('_', '-')}, found one")
    if options["subset"] != "0/1":
        raise InputError(f"{mode}: expected no --subset, found {options['subset']}")
