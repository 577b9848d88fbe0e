"""``nxmpi simulate``: an experiment with a known answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import click

from nxmpi.cli.options import FILE, usage_errors
from nxmpi.model import Lattice
from nxmpi.params import Compression
from nxmpi.simulate.experiment import Dtype
from nxmpi.simulate.halos import Halos
from nxmpi.simulate.presets import PRESETS, preset, rotated
from nxmpi.simulate.write import simulate as write_experiment

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.model import Vector

CELL = (float, float, float, float, float, float)


@click.command()
@click.argument("directory", type=FILE)
@click.option(
    "--preset", "name", type=click.Choice(list(PRESETS)), default="demo", show_default=True
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of intensities and noise."
)
@click.option("--frames", type=click.IntRange(1), help="Frames of each position.")
@click.option("--dtype", type=click.Choice(get_args(Dtype)), default="int32", show_default=True)
@click.option(
    "--compression",
    type=click.Choice(get_args(Compression)),
    show_default=True,
    default="bitshuffle-lz4",
)
@click.option(
    "--chunk-frames",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Frames stored together.",
)
@click.option("--cell", type=CELL, help="a, b, c [Å], alpha, beta, gamma [degrees].")
@click.option("--space-group", help="Symbol or number.")
@click.option(
    "--rotate",
    type=(float, float, float),
    help="Orientation of the crystal: about x, y, z [degrees].",
)
@click.option(
    "--transmission-drift",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Change of the sample's own transmission.",
)
@click.option("--mosaic", type=click.FloatRange(0), help="Mosaic spread of the crystal [degrees].")
@click.option("--halos", is_flag=True, help="Halos around the strongest peaks.")
@click.option("--dead-pixels", type=click.IntRange(0), help="Half of them in the pixel mask.")
@click.option("--hot-pixels", type=click.IntRange(0), help="Not in the pixel mask.")
@click.option("--saturation", type=click.IntRange(1), help="Largest count of a pixel.")
@click.option("--no-noise", is_flag=True, help="Rounded expected counts, without counting noise.")
@click.option("--no-orientation", is_flag=True, help="Leave the orientation out of the file.")
@click.option("--no-monitor", is_flag=True, help="Constant flux that is not recorded.")
@click.option("--overwrite", is_flag=True, help="Replace a simulation and what was made from it.")
@click.pass_obj
def simulate(
    comm: MPI.Intracomm, directory: Path, *, name: str, seed: int, frames: int | None,
    dtype: Dtype, compression: Compression, chunk_frames: int, cell: tuple[float, ...] | None,
    space_group: str | None, rotate: Vector | None, transmission_drift: float,
    mosaic: float | None, halos: bool, dead_pixels: int | None, hot_pixels: int | None,
    saturation: int | None, no_noise: bool, no_orientation: bool, no_monitor: bool,
    overwrite: bool,
) -> None:  # fmt: skip
    """Write an experiment with a known answer to DIRECTORY, in NXRefine's layout.

    Frames, scan file, settings, and beside the frames truth.h5 with the formula of the
    scattering, all factors, Bragg peaks, halos, dead and hot pixels. Presets: tiny takes a
    second, demo half a minute; pilatus2m is of real size, 3 x 3650 frames of 2 Mpixel unless
    there are fewer --frames.

    \b
    mpiexec -n 2 nxmpi simulate demo --preset demo
    mpiexec -n 2 nxmpi simulate large --preset pilatus2m --frames 100
    """
    changes: dict[str, Any] = {
        "seed": seed, "dtype": dtype, "compression": compression, "chunk_frames": chunk_frames,
        "transmission_drift": transmission_drift, "poisson": not no_noise,
        "orientation": not no_orientation, "monitor": not no_monitor,
    }  # fmt: skip
    faults: dict[str, Any] = {"dead": dead_pixels, "hot": hot_pixels, "saturation": saturation}
    with usage_errors():
        named = preset(name)
        if cell is not None:
            changes["lattice"] = Lattice(**dict(zip(Lattice.__slots__, cell, strict=True)))
        if space_group is not None:
            changes["space_group"] = space_group
        if rotate is not None:
            changes["U"] = rotated(rotate)
        if frames is not None:
            changes["positions"] = tuple(replace(each, n_frames=frames) for each in named.positions)
        if mosaic is not None:
            changes["bragg"] = replace(named.bragg, mosaic=mosaic)
        if halos and named.halos is None:
            changes["halos"] = Halos()
        given = {key: value for key, value in faults.items() if value is not None}
        changes["pixels"] = replace(named.pixels, **given)
        experiment = replace(named, **changes)
    path = write_experiment(comm, directory, experiment, overwrite=overwrite)
    click.echo(f"{path}: {len(experiment.positions)} positions; the answer is in truth.h5")
