"""Options of single steps, which `nxmpi reduce` has too, and how they become parameters."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import click

from nxmpi.cli.options import FILE, Size
from nxmpi.parallel.memory import ranks_of_node
from nxmpi.params import (
    CombineParams,
    FramesParams,
    OrientParams,
    ParameterGroup,
    ScanParams,
    SymmetrizeParams,
    TransformParams,
    Voxels,
)

if TYPE_CHECKING:
    from mpi4py import MPI

GROUPS = get_args(ParameterGroup)
BRAVAIS = (
    "aP", "mP", "mC", "oP", "oC", "oI", "oF", "tP", "tI", "hP", "hR", "cP", "cI", "cF",
)  # fmt: skip
_FRAMES, _TRANSFORM, _ORIENT = FramesParams(), TransformParams(), OrientParams()
FRAMES = (
    click.option(
        "--sigma-background", type=float, default=_FRAMES.sigma_background, show_default=True,
        help="How far a place stands out of its surroundings to be looked at, in standard "
        "deviations.",
    ),
    click.option(
        "--sigma-strong", type=float, default=_FRAMES.sigma_strong, show_default=True,
        help="Least intensity of a peak, in standard deviations.",
    ),
    click.option("--threshold", type=float, help="Least largest count of a peak; any by default."),
    click.option(
        "--gain", type=float, default=_FRAMES.gain, show_default=True, help="Counts of one photon."
    ),
    click.option(
        "--mask-t1", default=f"{_FRAMES.mask_t1:g}", show_default=True,
        help="Change of a box between frames that is masked: counts per pixel, or 8sigma.",
    ),
    click.option(
        "--mask-h1", type=int, default=_FRAMES.mask_h1, show_default=True,
        help="Side of that box.",
    ),
    click.option(
        "--mask-t2", type=float, default=_FRAMES.mask_t2, show_default=True,
        help="Part of a larger box that must have changed.",
    ),
    click.option(
        "--mask-h2", type=int, default=_FRAMES.mask_h2, show_default=True,
        help="Side of that box.",
    ),
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
        "--engine", type=click.Choice(["native", "cctw"]), default=_TRANSFORM.engine,
        show_default=True,
        help="What bins the frames of each position, and adds positions: this program, or CCTW.",
    ),
    click.option(
        "--cctw", "program", envvar="NXMPI_CCTW", default=_TRANSFORM.program, show_default=True,
        help="Path of CCTW, or its name on PATH.",
    ),
    click.option(
        "--cctw-timeout", metavar="MINUTES", type=click.FloatRange(min=0, min_open=True),
        default=_TRANSFORM.program_time / 60, show_default=True,
        help="Minutes that CCTW may take for a volume.",
    ),
    click.option(
        "--cctw-silence", metavar="MINUTES", type=click.FloatRange(min=0, min_open=True),
        default=_TRANSFORM.program_silence / 60, show_default=True,
        help="Minutes in which CCTW may print nothing.",
    ),
)  # fmt: skip
BINNING = (
    click.option(
        "--voxels", type=click.Choice(get_args(Voxels)), default=_TRANSFORM.voxels,
        show_default=True, help="Where a voxel lies about its coordinate; CCTW's is lower-edge.",
    ),
    *READING,
    click.option(
        "--split", type=(int, int, int), default=_TRANSFORM.split, show_default=True,
        help="Parts of a pixel along fast and slow, and of a frame's rotation, each binned by "
        "itself: smoother volumes on fine grids, at so many times the cost.",
    ),
    click.option("--hits", is_flag=True, help="Count the pixels of each voxel too."),
    click.option(
        "--memory", type=Size(), default=_TRANSFORM.memory,
        help="For the volume, on each node; most of what is free by default.",
    ),
    click.option(
        "--batch-frames", default=_TRANSFORM.batch_frames, show_default=True,
        help="Frames a rank holds.",
    ),
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
        "--tolerance", type=click.FloatRange(0, min_open=True), default=_ORIENT.tolerance,
        show_default=True,
        help="Misfit up to which a cell that is found is taken for one of higher symmetry "
        "[degrees].",
    ),
    click.option(
        "--grains", type=click.IntRange(1), default=_ORIENT.grains, show_default=True,
        help="Crystals to look for.",
    ),
    click.option(
        "--min-indexed", type=click.FloatRange(0, 1, min_open=True), default=_ORIENT.min_indexed,
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


def followed(params: ScanParams, options: dict[str, Any]) -> ScanParams:
    """Return parameters with what the options of `FOLLOWING` say."""
    return replace(params, follow=options["follow_timeout"] if options["follow"] else None)


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
        **_program(options),
        **_checkpoint(options),
    )


def _program(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "engine": options["engine"],
        "program": options["program"],
        "program_time": 60 * options["cctw_timeout"],
        "program_silence": 60 * options["cctw_silence"],
    }


def orient_params(options: dict[str, Any]) -> OrientParams:
    """Return what the options of `ORIENTING` say."""
    both = set(options["free"]) & set(options["hold"])
    if both:
        raise click.UsageError(f"--free and --hold exclude each other: {', '.join(sorted(both))}")
    wanted = {*_ORIENT.free, *options["free"]} - {*options["hold"]}
    names = ("cell", "find_cell", "bravais", "tolerance", "grains", "min_indexed")
    return OrientParams(
        free=tuple(group for group in GROUPS if group in wanted),
        **{name: options[name] for name in names},
    )


def combine_params(options: dict[str, Any]) -> CombineParams:
    """Return what the options of `COMBINING` and `ENGINE` say."""
    background, scale = options["background"], options["background_scale"]
    if scale is not None and background is None:
        raise click.UsageError("--background-scale needs --background")
    return CombineParams(
        refine_scale=options["refine_scale"],
        background=background,
        **({} if scale is None else {"background_scale": scale}),
        **_program(options),
    )


def symmetrize_params(options: dict[str, Any]) -> SymmetrizeParams:
    """Return what the options of `SYMMETRY` say."""
    return SymmetrizeParams(laue=options["laue"], outliers=options["outliers"])
