"""Options of the way to real space, and how they become parameters."""

from __future__ import annotations

from typing import Any, get_args

import click

from nxmpi.cli.options import FILE
from nxmpi.nexus.reflections import read_reflections
from nxmpi.params import (
    Fill,
    Missing,
    PdfParams,
    Precision,
    PunchParams,
    Reflections,
    Support,
    WindowParams,
    WindowShape,
)
from nxmpi.pipeline.real_space import Choices

_PUNCH, _WINDOW, _PDF = PunchParams(), WindowParams(), PdfParams()
PUNCHING = (
    click.option(
        "--reflections", type=click.Choice(get_args(Reflections)), default=_PUNCH.reflections,
        show_default=True, help="Punch those that the space group allows, all integers, or none "
        "but those listed.",
    ),
    click.option(
        "--reflection-list", type=FILE,
        help="Text file of further ones: h k l and, if it has a fourth column, radius [1/Å].",
    ),
    click.option(
        "--satellite", "satellites", type=(float, float, float), multiple=True, metavar="H K L",
        help="Wave vector q: punch at ±q, and where symmetry brings it, too; more than once for "
        "more.",
    ),
    click.option(
        "--radius", type=float, help="Of the holes [1/Å, with 2π]; that of the scan, or 0.2."
    ),
    click.option(
        "--growth", type=float, default=_PUNCH.growth, show_default=True,
        help="What the radius grows by with |Q|.",
    ),
    click.option("--satellite-radius", type=float, help="Of satellites; as others by default."),
    click.option("--central-radius", type=float, help="At 0 0 0; as others by default."),
    click.option(
        "--fill", type=click.Choice(get_args(Fill)), default=_PUNCH.fill, show_default=True,
        help="How holes are filled.",
    ),
    click.option(
        "--matern-power", type=int, default=_PUNCH.power, show_default=True,
        help="m of (ε² - ∇²)^m u = 0."
    ),
    click.option(
        "--matern-epsilon", type=float, default=_PUNCH.epsilon, show_default=True, help="Its ε [Å]."
    ),
    click.option(
        "--missing", type=click.Choice(get_args(Missing)), default=_PUNCH.missing,
        show_default=True,
        help="Leave what was not measured to the window, or fill it as the holes are.",
    ),
    click.option(
        "--karen", type=int, metavar="VOXELS",
        help="Instead of all this, replace what stands out of the median of a box of this edge.",
    ),
)  # fmt: skip
WINDOWING = (
    click.option(
        "--window", type=click.Choice(get_args(WindowShape)), default=_WINDOW.window,
        show_default=True,
        help="What the volume is multiplied by, as a function of |Q|.",
    ),
    click.option(
        "--support", type=click.Choice(get_args(Support)), default=_WINDOW.support,
        show_default=True,
        help="Where the window ends: on a sphere, or on the ellipsoid of the lattice that touches "
        "the grid.",
    ),
    click.option(
        "--window-q-max", type=float,
        help="Radius of the sphere [1/Å, with 2π]; the largest in the grid by default.",
    ),
)  # fmt: skip
REAL_SPACE = (
    click.option("--keep-mean", is_flag=True, help="Do not take away the mean under the window."),
    click.option(
        "--spacing", type=float, metavar="Å",
        help="Widest spacing in real space; zeros around the volume make it finer.",
    ),
    click.option(
        "--precision", type=click.Choice(get_args(Precision)), default=_PDF.precision,
        show_default=True, help="Of the Fourier transform.",
    ),
)  # fmt: skip


def pdf_choices(options: dict[str, Any]) -> Choices:
    """Return what the options of `PUNCHING`, `WINDOWING` and `REAL_SPACE` say.

    Raises
    ------
    InputError
        If a list of reflections is none.
    """
    names = (
        "reflections", "satellites", "radius", "growth", "satellite_radius", "central_radius",
        "fill", "missing", "karen",
    )  # fmt: skip
    file = options["reflection_list"]
    punch = PunchParams(
        listed=read_reflections(file) if file else (),
        power=options["matern_power"],
        epsilon=options["matern_epsilon"],
        **{name: options[name] for name in names},
    )
    window = WindowParams(
        window=options["window"], support=options["support"], q_max=options["window_q_max"]
    )
    pdf = PdfParams(
        subtract_mean=not options["keep_mean"],
        spacing=options["spacing"],
        precision=options["precision"],
    )
    return Choices(punch=punch, window=window, pdf=pdf)
