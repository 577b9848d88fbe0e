"""The figure: planes of volumes and of the 3D-ΔPDF, frames, residuals, how positions agree."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nxmpi.model import Lattice
from nxmpi.plot.agreement import Maps, draw_maps, draw_table
from nxmpi.plot.findings import Findings
from nxmpi.plot.frames import Picture
from nxmpi.plot.graphs import draw_masked_parts, draw_radial, draw_transmission
from nxmpi.plot.oblique import INK, draw_plane
from nxmpi.plot.panels import add_bar, add_title, draw_text
from nxmpi.plot.pictures import draw_picture, mark_peaks
from nxmpi.plot.real_space import RealSpace, draw_real_space, draw_symmetrized
from nxmpi.plot.reflections import Reflections
from nxmpi.plot.residuals import draw_reflections
from nxmpi.plot.scales import COVERAGE, INTENSITY, between_peaks, colors, logarithmic, square_root
from nxmpi.plot.slices import Plane

NAMES = {"l": "$hk0$", "k": "$h0l$", "h": "$0kl$"}
WIDTH, HEIGHT = 15.0, 35.4
"""[inches]"""
PANEL = 3.62
"""Height of a panel [inches]."""
BETWEEN = 0.85
"""Two panels that share the place of one [inches]."""
VOLUME, SYMMETRIZED, PDF, FRAMES, FINDINGS, ORIENTATION, AGREEMENT = (
    30.66, 25.86, 21.06, 16.26, 11.46, 6.66, 1.86,
)  # fmt: skip
"""Lower ends of the panels, from the lower edge [inches]."""
TABLE = (0.15, 1.05)
"""Lower end and height of the table of positions [inches]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What a figure shows; text stands where something is not there yet."""

    title: str
    subtitle: str
    lattice: Lattice | None
    """There where planes are."""
    planes: list[Plane | str]
    """hk0, h0l, 0kl."""
    coverage: Plane | str
    agreement: Maps | str
    frame: Picture | str
    summed: Picture | str
    findings: Findings
    reflections: Reflections | str
    symmetrized: list[Plane | str]
    """hk0 as it is, with holes, and filled."""
    real_space: RealSpace | str


def draw(contents: Contents, vmax: float | None) -> Figure:
    """Return the figure.

    Parameters
    ----------
    vmax : float or None
        Intensity of the brightest colour of the planes; None = from their values.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=200, facecolor="white")
    for text, below, size, ink in (
        (contents.title, 0.27, 17, INK), (contents.subtitle, 0.56, 11, "0.4")
    ):  # fmt: skip
        place = 1 - below / HEIGHT
        figure.text(0.5, place, text, ha="center", va="center", fontsize=size, color=ink)
    _draw_volume(figure, contents, vmax)
    _draw_pdf(figure, contents)
    frame, summed = (_add_panel(figure, left, 0.235, FRAMES) for left in (0.055, 0.378))
    draw_picture(figure, frame, contents.frame, "Raw frame")
    draw_picture(figure, summed, contents.summed, "Summed frame")
    if isinstance(contents.summed, Picture):
        mark_peaks(summed, contents.findings.marks)
    _draw_findings(figure, contents.findings)
    _draw_orientation(figure, contents.reflections)
    _draw_agreement(figure, contents)
    return figure


def _add_panel(
    figure: Figure, left: float, width: float, bottom: float, height: float = PANEL
) -> Axes:
    """Return new axes; left and width in parts of the figure's width, the others in inches."""
    return figure.add_axes((left, bottom / HEIGHT, width, height / HEIGHT))


def _add_pair(figure: Figure, bottom: float) -> tuple[Axes, Axes]:
    """Return an upper and a lower panel in the middle of a row."""
    height = (PANEL - BETWEEN) / 2
    upper = _add_panel(figure, 0.4, 0.24, bottom + PANEL - height, height)
    return upper, _add_panel(figure, 0.4, 0.24, bottom, height)


def _draw_pdf(figure: Figure, contents: Contents) -> None:
    above = [_add_panel(figure, left, 0.262, SYMMETRIZED) for left in (0.055, 0.368, 0.678)]
    below = [_add_panel(figure, left, 0.262, PDF) for left in (0.04, 0.352, 0.662)]
    first = contents.symmetrized[0]
    where = _plane_title(first) if isinstance(first, Plane) else NAMES["l"]
    draw_symmetrized(figure, above, contents.symmetrized, contents.lattice, where)
    draw_real_space(figure, below, contents.real_space)


def _draw_findings(figure: Figure, findings: Findings) -> None:
    masked = _add_panel(figure, 0.055, 0.235, FINDINGS)
    draw_picture(figure, masked, findings.masked, "Frame and its mask")
    upper, lower = _add_pair(figure, FINDINGS)
    draw_transmission(upper, findings.transmission, findings.name)
    draw_masked_parts(lower, findings.masked_parts)
    draw_radial(_add_panel(figure, 0.71, 0.25, FINDINGS), findings.radial)


def _draw_orientation(figure: Figure, reflections: Reflections | str) -> None:
    vectors, indices = (_add_panel(figure, left, 0.235, ORIENTATION) for left in (0.055, 0.7))
    draw_reflections(figure, [vectors, *_add_pair(figure, ORIENTATION), indices], reflections)


def _draw_agreement(figure: Figure, contents: Contents) -> None:
    maps = contents.agreement
    panels = [_add_panel(figure, left, 0.235, AGREEMENT) for left in (0.055, 0.378, 0.7)]
    where = _plane_title(maps.chi2) if isinstance(maps, Maps) else NAMES["l"]
    draw_maps(figure, panels, maps, contents.lattice, where)
    if isinstance(maps, Maps):
        draw_table(figure, maps.table, TABLE[0] / HEIGHT, TABLE[1] / HEIGHT)


def _draw_volume(figure: Figure, contents: Contents, vmax: float | None) -> None:
    panels = [_add_panel(figure, left, 0.262, VOLUME) for left in (0.055, 0.368, 0.678)]
    planes = [plane for plane in contents.planes if isinstance(plane, Plane)]
    shared = logarithmic([between_peaks(plane) for plane in planes], vmax)
    for axes, name, plane in zip(panels, NAMES, contents.planes, strict=True):
        _draw_slice(axes, plane, contents.lattice, shared, INTENSITY)
        add_title(axes, _plane_title(plane) if isinstance(plane, Plane) else NAMES[name])
    if planes:
        add_bar(figure, panels[2], ScalarMappable(shared, colors(INTENSITY)), "intensity")
    axes, coverage = _add_panel(figure, 0.7, 0.235, FRAMES), contents.coverage
    scale = square_root(coverage.values) if isinstance(coverage, Plane) else Normalize()
    image = _draw_slice(axes, coverage, contents.lattice, scale, COVERAGE)
    where = _plane_title(coverage) if isinstance(coverage, Plane) else NAMES["l"]
    add_title(axes, f"Coverage of {where}")
    if image is not None:
        add_bar(figure, axes, image, "norm")


def _draw_slice(
    axes: Axes, plane: Plane | str, lattice: Lattice | None, norm: Normalize, name: str
) -> ScalarMappable | None:
    if isinstance(plane, str) or lattice is None:
        draw_text(axes, str(plane))
        return None
    return draw_plane(axes, plane, lattice, norm, colors(name))


def _plane_title(plane: Plane) -> str:
    if not plane.has_zero:
        return f"${plane.indices}$, ${plane.normal} = {plane.value:g}$ (the grid has no 0)"
    if abs(plane.value) > 1e-6:
        return f"{NAMES[plane.normal]}  (${plane.normal} = {plane.value:.3g}$)"
    return NAMES[plane.normal]
