"""Options that several commands share, and how they become parameters."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import numpy as np

from nxmpi.crystal.detector import as_matrix
from nxmpi.errors import InputError
from nxmpi.params import Compression, NormParams, OutputParams, ScanParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

FILE = click.Path(path_type=Path)
Axis = tuple[float, float, float]
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Size(click.ParamType[int]):
    """A size of memory, such as 6G."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", str(value).strip().upper())
        if match is None:
            self.fail(f"expected a size such as 6G, found '{value}'", param, ctx)
        return int(float(match[1]) * UNITS[match[2]])


OUTPUT = (
    click.option("--overwrite", is_flag=True, help="Do again what is complete."),
    click.option(
        "--compression", type=click.Choice(get_args(Compression)),
        default=OutputParams().compression, show_default=True,
        help="Of the volumes; gzip for programs without plugins.",
    ),
    click.option(
        "--root-writes", is_flag=True, help="Write through the root, without parallel HDF5."
    ),
    click.option("--scratch", type=FILE, help="Folder for volumes larger than the memory."),
)  # fmt: skip
USED = (
    click.option("--entry", "entries", multiple=True, help="A detector position; all by default."),
    click.option("--first", "first_frame", type=int, help="First frame used."),
    click.option("--last", "last_frame", type=int, help="Last frame used."),
    click.option("--monitor", "monitor_name", help="Name of the monitor."),
    click.option("--norm", "norm_counts", type=float, help="Monitor counts that count as 1."),
    click.option("--polarization", "fraction", type=float, help="Of the beam; 0.99 by default."),
)
SCAN = (
    *USED,
    click.option("--qh", type=(float, float, float), help="Start, step, stop along h [r.l.u.]."),
    click.option("--qk", type=(float, float, float), help="Start, step, stop along k [r.l.u.]."),
    click.option("--ql", type=(float, float, float), help="Start, step, stop along l [r.l.u.]."),
    click.option(
        "--axes",
        type=(float,) * 9,
        metavar="H K L H K L H K L",
        help="Three vectors for the axes of the grid, if not h, k and l: 1 1 0 1 -1 0 0 0 1; "
        "--qh, --qk and --ql are along them.",
    ),
    click.option("--settings", type=FILE, help="A settings file of CCTW, for one --entry."),
    click.option("--mask/--no-mask", default=True, help="Make the masked twin where there is one."),
)
FLUX = (
    click.option("--no-monitor", is_flag=True, help="Do not divide by the monitor."),
    click.option("--raw-monitor", is_flag=True, help="Do not smooth the monitor."),
    click.option("--no-attenuator", is_flag=True, help="Ignore the attenuator's transmission."),
    click.option("--no-filter", is_flag=True, help="Ignore the filter's transmission."),
)
NORM = (
    *FLUX,
    click.option(
        "--no-transmission", is_flag=True, help="Ignore what the frames tell of the sample's."
    ),
    click.option(
        "--keep-hot-pixels", is_flag=True, help="Bin pixels that nxmpi frames found hot or dead."
    ),
    click.option("--no-polarization", is_flag=True, help="Do not correct for polarization."),
    click.option("--no-solid-angle", is_flag=True, help="Do not correct for the solid angle."),
    click.option(
        "--efficiency", type=float, metavar="MU_T",
        help="Correct for the sensor's efficiency: its thickness in absorption lengths.",
    ),
    click.option(
        "--air", type=float, metavar="MU",
        help="Correct for absorption in the air [1/mm].",
    ),
    click.option(
        "--flat-field", type=click.Choice(["response", "correction"]),
        help="Correct for the detector's flatfield in the scan file: each pixel's response, or "
        "what its counts are to be multiplied by (Dectris).",
    ),
    click.option(
        "--dead-time", type=float, metavar="NS",
        help="Correct for a pixel's dead time after each count [ns].",
    ),
)  # fmt: skip


def with_options(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[Any], Any]:
    """Return a decorator that adds groups of options to a command."""

    def decorate(command: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def require_one_process(comm: MPI.Intracomm) -> None:
    """Refuse to run on several processes what is asked on a login node."""
    if comm.size > 1:
        raise click.UsageError(f"expected one process, found {comm.size}")


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn parameters that cannot be used into a usage error, the same on every rank."""
    try:
        yield
    except InputError as error:
        raise click.UsageError(str(error)) from error


def used_params(options: dict[str, Any]) -> ScanParams:
    """Return what the options of `USED` say."""
    return ScanParams(
        entries=options["entries"],
        first_frame=options["first_frame"],
        last_frame=options["last_frame"],
        monitor=options["monitor_name"],
        norm=options["norm_counts"],
        polarization=options["fraction"],
    )


def scan_params(options: dict[str, Any]) -> ScanParams:
    """Return what the options of `SCAN` say."""
    axes = tuple(options[name] for name in ("qh", "qk", "ql"))
    if any(axes) and not all(axes):
        raise click.UsageError("the grid needs all of --qh, --qk and --ql")
    return replace(
        used_params(options),
        grid=axes if all(axes) else None,
        axes=as_matrix(np.array(options["axes"])) if options["axes"] else None,
        settings=options["settings"],
        mask=options["mask"],
    )


def flux_params(options: dict[str, Any]) -> NormParams:
    """Return what the options of `FLUX` say."""
    return NormParams(
        monitor=not options["no_monitor"],
        raw_monitor=options["raw_monitor"],
        attenuator=not options["no_attenuator"],
        filter=not options["no_filter"],
    )


def norm_params(options: dict[str, Any]) -> NormParams:
    """Return what the options of `NORM` say."""
    return replace(
        flux_params(options),
        transmission=not options["no_transmission"],
        hot_pixels=options["keep_hot_pixels"],
        polarization=not options["no_polarization"],
        solid_angle=not options["no_solid_angle"],
        efficiency=options["efficiency"],
        air=options["air"],
        flat_field=options["flat_field"],
        dead_time=options["dead_time"],
    )


def output_params(options: dict[str, Any]) -> OutputParams:
    """Return what the options of `OUTPUT` say."""
    return OutputParams(
        compression=options["compression"],
        root_writes=options["root_writes"],
        overwrite=options["overwrite"],
        scratch=options["scratch"],
    )
