"""Where volumes are punched: ellipsoids about reflections, satellites and the direct beam."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.metric import mean_metric
from nxmpi.crystal.symmetry import is_allowed
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from nxmpi._typing import F8, I8, Mask
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Lattice
    from nxmpi.params import PunchParams

SAME = 256
"""Places by the voxel that are told apart."""
SHIFT = 0.1234
"""Of places before they are cut to whole ones, so that no simple fraction is on an edge."""
MARGIN = 2
"""How far neighbours of a hole are from it, by and large [voxels]."""
CENTRE, LISTED = 1, 2
"""Whose radius counts where two are given: more than that of reflections and satellites (0)."""


class Holes(NamedTuple):
    """Ellipsoids |Q - Q of the centre| <= radius; each is there with all of its images."""

    group: VoxelGroup
    metric: F8
    """(3, 3) float64: of voxels, see `nxmpi.crystal.metric.mean_metric` [1/Å²]."""
    centres: F8
    """(n, 3) float64: along h, k, l, from the voxel of 0 0 0 [voxels]; inner ones come first."""
    radii: F8
    """(n,) float64 [1/Å]."""
    images: I8
    """(n_operators, n) int64: which hole is the image of each."""


class _Places(NamedTuple):
    """Places with radii and what is given where several are at the same."""

    hkl: F8
    radii: F8
    ranks: F8


def find_holes(
    group: VoxelGroup, grid: HKLGrid, lattice: Lattice, space_group: str, params: PunchParams
) -> Holes:
    """Return the holes that reach into a grid, and their images, which may be outside.

    Parameters
    ----------
    space_group : str
        Whose absences count where only allowed reflections are punched.
    params : PunchParams
        With a radius.

    Raises
    ------
    InputError
        If there is no radius.
    """
    if params.radius is None:
        raise InputError("punch: expected a radius, found none (--radius)")
    metric = mean_metric(group, grid, lattice)
    axes = np.array(grid.axes).T * np.array(grid.step)  # hkl = axes @ voxel
    places = _places((group, metric, axes), space_group, params)
    centres = np.linalg.solve(axes, places.hkl.T).T
    radii = np.where(
        places.ranks > 0, places.radii, places.radii + params.growth * _lengths(centres, metric)
    )
    inside = _reaches(centres, radii, metric, group)
    centres, scores = centres[inside], np.stack([places.ranks, radii], axis=1)[inside]
    order = np.lexsort(scores.T[::-1])[::-1]
    order = order[np.unique(_keys(centres[order]), return_index=True)[1]]
    return _closed(group, metric, centres[order], scores[order])


def _lengths(centres: F8, metric: F8) -> F8:
    return np.asarray(np.sqrt(np.einsum("ni,ij,nj->n", centres, metric, centres)))


def _extents(radii: F8, metric: F8) -> F8:
    """Return how far ellipsoids reach along h, k, l, (n, 3) [voxels]."""
    return np.multiply.outer(radii, np.sqrt(np.diag(np.linalg.inv(metric))))


def _reaches(
    centres: F8, radii: F8, metric: F8, group: VoxelGroup, margin: float = 0.0
) -> Mask:  # fmt: skip
    """Return which ellipsoids reach into the grid."""
    far = _extents(radii, metric) + margin
    return np.asarray(
        ((centres + far >= group.low) & (centres - far <= group.high)).all(axis=1)
    )  # fmt: skip


def _places(space: tuple[VoxelGroup, F8, F8], space_group: str, params: PunchParams) -> _Places:
    """Return reflections about the grid and their satellites, those that are listed, and 0 0 0."""
    group, metric, axes = space
    assert params.radius is not None
    operators = axes @ group.matrices @ np.linalg.inv(axes)
    star = [operators @ np.array(q) for q in params.satellites]
    stars = np.unique(np.round(np.concatenate([*star, np.zeros((0, 3))]), 9), axis=0)
    corners = np.array(list(product(*zip(group.low, group.high, strict=True))), dtype=float)
    largest = params.radius + params.growth * float(_lengths(corners, metric).max())
    wide = _extents(np.array([largest / (1 - params.growth)]), metric)[0] + 1
    edges = zip(group.low - wide, group.high + wide, strict=True)
    corners = np.array(list(product(*edges))) @ axes.T
    reach = np.abs(stars).max(axis=0, initial=0.0)
    first = np.ceil(corners.min(axis=0) - reach).astype(int)
    last = np.floor(corners.max(axis=0) + reach).astype(int)
    hkl = np.zeros((0, 3))
    if params.reflections != "none":
        ranges = (np.arange(a, b + 1) for a, b in zip(first, last, strict=True))
        hkl = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
        hkl = hkl[(hkl != 0).any(axis=1)]
    if params.reflections == "allowed":
        hkl = hkl[is_allowed(space_group, hkl)]
    parts = [_Places(hkl, np.full(len(hkl), params.radius), np.zeros(len(hkl)))]
    for h, k, l, *own in params.listed:
        images = operators @ np.array([h, k, l])
        rank = LISTED if own else 0
        parts.append(
            _Places(images, np.full(len(images), own[0] if own else params.radius),
                    np.full(len(images), float(rank)))
        )  # fmt: skip
    if params.reflections != "none" or params.central_radius is not None:
        radius = params.central_radius or params.radius
        parts.append(_Places(np.zeros((1, 3)), np.array([radius]), np.array([float(CENTRE)])))
    parents = np.concatenate([each.hkl for each in parts])
    satellites = (parents[:, None] + stars).reshape(-1, 3)
    radius = params.satellite_radius or params.radius
    parts.append(
        _Places(satellites, np.full(len(satellites), radius), np.zeros(len(satellites)))
    )  # fmt: skip
    return _Places(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _keys(centres: F8) -> I8:
    """Return a number for each place, (n, 3) to (n,) int64: the same where they are."""
    whole = np.floor(centres * SAME + SHIFT).astype(np.int64)
    odd = np.array([0x1F123BB5159A55E5, 0x2545F4914F6CDD1D, 0x1B87C0D9A3E2C9B7])
    return np.asarray((whole * odd).sum(axis=1))  # modulo 2⁶⁴


def _closed(group: VoxelGroup, metric: F8, centres: F8, scores: F8) -> Holes:
    """Return holes with their images, each orbit with the radius that counts most."""
    for matrix in group.matrices:
        moved = centres @ matrix.T
        new = ~np.isin(_keys(moved), _keys(centres))
        centres = np.concatenate([centres, moved[new]])
        scores = np.concatenate([scores, scores[new]])
    inner = _inside(centres, scores[:, 1], metric, group)
    order = np.lexsort((*np.rint(centres * SAME).T, ~inner))
    centres, scores = centres[order], scores[order]
    keys = _keys(centres)
    by_key = np.argsort(keys, kind="stable")
    images = np.stack(
        [by_key[np.searchsorted(keys[by_key], _keys(centres @ each.T))] for each in group.matrices]
    )
    value = np.empty(len(scores), np.int64)
    value[np.lexsort(scores.T[::-1])] = np.arange(len(scores))
    best = np.max(value[images], axis=0, initial=0)
    radii = scores[np.argsort(value)][best, 1]
    return Holes(group, metric, centres, radii, images)


def _inside(centres: F8, radii: F8, metric: F8, group: VoxelGroup) -> Mask:
    far = _extents(radii, metric) + MARGIN
    return np.asarray(
        ((centres - far >= group.low) & (centres + far <= group.high)).all(axis=1)
    )  # fmt: skip


class Shapes(NamedTuple):
    """The voxels of holes: those of a few shapes, at many places."""

    shapes: list[I8]
    """(n_voxels, 3) int64 along h, k, l, from the base of a hole [voxels]."""
    shape: I8
    """(n,) int64: of each hole, before its operator."""
    operators: I8
    """(n,) int64: index of the operator that is applied to the shape."""
    bases: I8
    """(n, 3) int64: where the shape is put, from the voxel of 0 0 0."""


def shapes_of(holes: Holes) -> Shapes:
    """Return the voxels of holes: of images these are images, to the voxel.

    Notes
    -----
    The voxels x with (x - centre) · metric (x - centre) <= radius², of the first hole of an orbit;
    rounding does not decide, as what is larger by 1e-9 counts too.
    """
    first = holes.images.min(axis=0, initial=len(holes.centres))
    found: dict[tuple[object, ...], int] = {}
    shapes: list[I8] = []
    shape, operators = np.zeros((2, len(first)), np.int64)
    bases = np.zeros((len(first), 3), np.int64)
    for i in np.unique(first).tolist():
        base = np.floor(holes.centres[i] + 0.5 + 1e-5).astype(np.int64)
        rest, radius = holes.centres[i] - base, float(holes.radii[i])
        key = (*np.rint(rest * 1e6).tolist(), radius)
        if key not in found:
            found[key] = len(shapes)
            shapes.append(_ellipsoid(rest, radius, holes.metric))
        members, operator = np.unique(holes.images[:, i], return_index=True)
        shape[members], operators[members] = found[key], operator
        bases[members] = holes.group.matrices[operator] @ base
    return Shapes(shapes, shape, operators, bases)


def _ellipsoid(centre: F8, radius: float, metric: F8) -> I8:
    far = np.ceil(_extents(np.array([radius]), metric)[0] + 1).astype(int)
    l, k, h = (np.arange(-n, n + 1) for n in far[::-1])
    voxels = np.stack(np.meshgrid(l, k, h, indexing="ij"), axis=-1)[..., ::-1].reshape(-1, 3)
    delta = voxels - centre
    kept = np.einsum("ni,ij,nj->n", delta, metric, delta) <= radius**2 * (1 + 1e-9)
    return np.asarray(voxels[kept].astype(np.int64))
