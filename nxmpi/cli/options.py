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
from nxmpi.parallel.memory import ranks_of_node
from nxmpi.params import (
    CombineParams,
    FramesParams,
    NormParams,
    OrientParams,
    OutputParams,
    ParameterGroup,
    ScanParams,
    SymmetrizeParams,
    TransformParams,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

FILE = click.Path(path_type=Path)
Axis = tuple[float, float, float]
GROUPS = get_args(ParameterGroup)
BRAVAIS = (
    "aP", "mP", "mC", "oP", "oC", "oI", "oF", "tP", "tI", "hP", "hR", "cP", "cI", "cF",
)  # fmt: skip
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
        "--compression", type=click.Choice(["bitshuffle-lz4", "gzip", "none"]),
        default="bitshuffle-lz4", show_default=True,
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
FRAMES = (
    click.option(
        "--sigma-background", type=float, default=5.0, show_default=True,
        help="How far a place stands out of its surroundings to be looked at, in standard "
        "deviations.",
    ),
    click.option(
        "--sigma-strong", type=float, default=7.5, show_default=True,
        help="Least intensity of a peak, in standard deviations.",
    ),
    click.option("--threshold", type=float, help="Least largest count of a peak; any by default."),
    click.option(
        "--gain", type=float, default=1.0, show_default=True, help="Counts of one photon."
    ),
    click.option(
        "--mask-t1", default="2", show_default=True,
        help="Change of a box between frames that is masked: counts per pixel, or 8sigma.",
    ),
    click.option("--mask-h1", type=int, default=11, show_default=True, help="Side of that box."),
    click.option(
        "--mask-t2", type=float, default=0.8, show_default=True,
        help="Part of a larger box that must have changed.",
    ),
    click.option("--mask-h2", type=int, default=51, show_default=True, help="Side of that box."),
    click.option("--qmin", "q_min", type=float, help="Of the transmission's annulus [1/Å]."),
    click.option("--qmax", "q_max", type=float, help="Of the transmission's annulus [1/Å]."),
)  # fmt: skip
READING = (
    click.option("--skip-bad-frames", is_flag=True, help="Leave out frames that cannot be read."),
    click.option(
        "--checkpoint", metavar="MINUTES", type=click.FloatRange(min=0, min_open=True),
        help="Minutes between checkpoints; by default 10 in the transform, and in the frames pass "
        "one after each batch, as far as they take no more than a tenth of the time.",
    ),
)  # fmt: skip
FOLLOWING = (
    click.option(
        "--follow", is_flag=True,
        help="Frames are still being written: wait for as many as the scan file announces.",
    ),
    click.option(
        "--follow-timeout", type=click.FloatRange(0, min_open=True), default=60.0,
        show_default=True, metavar="SECONDS", help="How long to wait for the next frame.",
    ),
)  # fmt: skip
ENGINE = (
    click.option(
        "--engine", type=click.Choice(["native", "cctw"]), default="native", show_default=True,
        help="What bins the frames: this program, or CCTW, a process for each position.",
    ),
    click.option(
        "--cctw", "program", envvar="NXMPI_CCTW", default="cctw", show_default=True,
        help="Path of CCTW, or its name on PATH.",
    ),
    click.option(
        "--cctw-timeout", metavar="MINUTES", type=click.FloatRange(min=0, min_open=True),
        help="Minutes that CCTW may take for a volume.",
    ),
    click.option(
        "--cctw-silence", metavar="MINUTES", type=click.FloatRange(min=0, min_open=True),
        default=30.0, show_default=True, help="Minutes in which CCTW may print nothing.",
    ),
)  # fmt: skip
BINNING = (
    click.option(
        "--voxels", type=click.Choice(["centred", "lower-edge"]), default="centred",
        show_default=True, help="Where a voxel lies about its coordinate; CCTW's is lower-edge.",
    ),
    *READING,
    click.option(
        "--split", type=(int, int, int), default=(1, 1, 1), show_default=True,
        help="Parts of a pixel along fast and slow, and of a frame's rotation, each binned by "
        "itself: smoother volumes on fine grids, at so many times the cost.",
    ),
    click.option("--hits", is_flag=True, help="Count the pixels of each voxel too."),
    click.option(
        "--memory", type=Size(), default=0,
        help="For the volume, on each node; most of what is free by default.",
    ),
    click.option("--batch-frames", default=32, show_default=True, help="Frames a rank holds."),
    *ENGINE,
)  # fmt: skip
ORIENTING = (
    click.option(
        "--cell", type=(float,) * 6, metavar="A B C ALPHA BETA GAMMA",
        help="Unit cell, in place of the one in the scan file [Å, degrees].",
    ),
    click.option("--find-cell", is_flag=True, help="Find the cell, whatever the file says."),
    click.option(
        "--lattice", "bravais", type=click.Choice(BRAVAIS), metavar="BRAVAIS",
        help="Find the cell, and take it for a lattice such as cF, of those that fit.",
    ),
    click.option(
        "--tolerance", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True,
        help="Misfit up to which a cell that is found is taken for one of higher symmetry "
        "[degrees].",
    ),
    click.option(
        "--grains", type=click.IntRange(1), default=1, show_default=True,
        help="Crystals to look for.",
    ),
    click.option(
        "--min-indexed", type=click.FloatRange(0, 1, min_open=True), default=0.5,
        show_default=True,
        help="Part of the strong peaks, the brighter half of each position, that must be "
        "explained.",
    ),
    click.option(
        "--free", multiple=True, type=click.Choice(GROUPS),
        help="Refine this too; more than once for more.",
    ),
    click.option("--hold", multiple=True, type=click.Choice(GROUPS), help="Do not refine this."),
)  # fmt: skip
COMBINING = (
    click.option(
        "--refine-scale", is_flag=True,
        help="Bring positions to one scale, that of the first, by their overlaps.",
    ),
    click.option(
        "--background", type=FILE,
        help="Scan of the empty beam or can, transformed on the same grid, to subtract.",
    ),
    click.option(
        "--background-scale", type=float, metavar="S",
        help="What its intensity is multiplied by; 1 by default.",
    ),
)  # fmt: skip
SYMMETRY = (
    click.option(
        "--laue", metavar="GROUP",
        help="Laue class, such as 6/mmm or -31m, or a space group; the sample's by default.",
    ),
    click.option(
        "--outliers", type=float, metavar="SIGMAS",
        help="Leave out images of a voxel that are farther from the others, of three or more, than "
        "so many standard deviations.",
    ),
)  # fmt: skip


def with_options(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[Any], Any]:
    """Return a decorator that adds groups of options to a command."""

    def decorate(command: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


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


def followed(params: ScanParams, options: dict[str, Any]) -> ScanParams:
    """Return parameters with what the options of `FOLLOWING` say."""
    return replace(params, follow=options["follow_timeout"] if options["follow"] else None)


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
        polarization=not options["no_polarization"],
        solid_angle=not options["no_solid_angle"],
        efficiency=options["efficiency"],
        air=options["air"],
        flat_field=options["flat_field"],
        dead_time=options["dead_time"],
    )


def frames_params(
    options: dict[str, Any], *, sums: bool = True, peaks: bool = True, mask: bool = True
) -> FramesParams:
    """Return what the options of `FRAMES` and `READING` say."""
    match = re.fullmatch(r"([\d.]+)\s*(s|sigmas?)?", options["mask_t1"].strip().lower())
    if match is None:
        raise click.UsageError(
            f"--mask-t1: expected counts or a number of sigma such as 8sigma, found "
            f"'{options['mask_t1']}'"
        )
    return FramesParams(
        sums=sums, peaks=peaks, mask=mask,
        sigma_background=options["sigma_background"],
        sigma_strong=options["sigma_strong"],
        threshold=options["threshold"],
        gain=options["gain"],
        mask_t1=float(match[1]),
        mask_in_sigmas=match[2] is not None,
        mask_h1=options["mask_h1"],
        mask_t2=options["mask_t2"],
        mask_h2=options["mask_h2"],
        q_min=options["q_min"],
        q_max=options["q_max"],
        skip_bad_frames=options["skip_bad_frames"],
        **_checkpoint(options),
    )  # fmt: skip


def _checkpoint(options: dict[str, Any]) -> dict[str, Any]:
    minutes = options["checkpoint"]
    return {} if minutes is None else {"checkpoint": 60 * minutes}


def transform_params(comm: MPI.Intracomm, options: dict[str, Any]) -> TransformParams:
    """Return what the options of `BINNING` say. Collective on ``comm``."""
    return TransformParams(
        voxels=options["voxels"],
        skip_bad_frames=options["skip_bad_frames"],
        split=options["split"],
        hits=options["hits"],
        batch_frames=options["batch_frames"],
        memory=options["memory"] // ranks_of_node(comm),
        engine=options["engine"],
        program=options["program"],
        program_time=None if options["cctw_timeout"] is None else 60 * options["cctw_timeout"],
        program_silence=60 * options["cctw_silence"],
        **_checkpoint(options),
    )


def orient_params(options: dict[str, Any]) -> OrientParams:
    """Return what the options of `ORIENTING` say."""
    both = set(options["free"]) & set(options["hold"])
    if both:
        raise click.UsageError(f"--free and --hold exclude each other: {', '.join(sorted(both))}")
    wanted = {*OrientParams().free, *options["free"]} - {*options["hold"]}
    names = ("cell", "find_cell", "bravais", "tolerance", "grains", "min_indexed")
    return OrientParams(
        free=tuple(group for group in GROUPS if group in wanted),
        **{name: options[name] for name in names},
    )


def combine_params(options: dict[str, Any]) -> CombineParams:
    """Return what the options of `COMBINING` say."""
    background, scale = options["background"], options["background_scale"]
    if scale is not None and background is None:
        raise click.UsageError("--background-scale needs --background")
    return CombineParams(
        refine_scale=options["refine_scale"],
        background=background,
        background_scale=1.0 if scale is None else scale,
    )


def symmetrize_params(options: dict[str, Any]) -> SymmetrizeParams:
    """Return what the options of `SYMMETRY` say."""
    return SymmetrizeParams(laue=options["laue"], outliers=options["outliers"])


def output_params(options: dict[str, Any]) -> OutputParams:
    """Return what the options of `OUTPUT` say."""
    return OutputParams(
        compression=options["compression"],
        root_writes=options["root_writes"],
        overwrite=options["overwrite"],
        scratch=options["scratch"],
    )
