"""Holes that have to be filled together, one of each kind that symmetry makes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from nxmpi.crystal.holes import shapes_of
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from nxmpi._typing import I8, Mask
    from nxmpi.crystal.holes import Holes, Shapes

LARGEST = 200_000
"""Voxels that are filled together at most: what a factorization holds in a few GiB."""
BITS, MIDDLE = 17, 2**16
"""Of the three parts of the number of a voxel."""


class Shape(NamedTuple):
    """Voxels from a common base, along h, k, l; in the order of the volume: by l, then k, h."""

    unknown: I8
    """(n_unknown, 3) int64: those to be filled."""
    shell: I8
    """(n_shell, 3) int64: those about them that decide about their values."""


class Clusters(NamedTuple):
    """Holes that are linked with each other; of several that are images of each other, one."""

    group_images: list[I8]
    """Of each cluster, indices of the operators that lead to its different images in the grid."""
    shapes: list[Shape]
    shape: I8
    """(n,) int64: of each cluster."""
    bases: I8
    """(n, 3) int64: where its shape is put, from the voxel of 0 0 0."""
    leaders: list[I8]
    """(n_unknown,) int64 of each cluster: the image, in itself, whose value a voxel takes."""
    n_holes: I8
    """(n,) int64: with a voxel in the grid, of all images together."""
    n_cut: I8
    """(n,) int64: of these, holes with voxels outside of it."""
    n_linked: I8
    """(n,) int64: of these, holes that are filled together with others."""


def numbers_of(voxels: I8) -> I8:
    """Return a number for each voxel, (…, 3) to (…) int64: ascending as the volume is ordered.

    Those of a sum of two vectors is the sum of theirs, less that of 0.
    """
    return np.asarray((((voxels[..., 2] + MIDDLE) << BITS) + voxels[..., 1] + MIDDLE << BITS)
                      + voxels[..., 0] + MIDDLE)  # fmt: skip


def voxels_of(numbers: I8) -> I8:
    """Return voxels, (n, 3) int64, by their numbers."""
    part = (1 << BITS) - 1
    return np.stack([numbers & part, numbers >> BITS & part, numbers >> 2 * BITS], axis=1) - MIDDLE


def find_clusters(holes: Holes, neighbours: I8, linked: bool = True) -> Clusters:
    """Return what has to be solved, and where the results go.

    Parameters
    ----------
    neighbours : (n, 3) int64
        Voxels that have a part in the equation of voxel 0, itself among them.
    linked : bool, optional
        Take holes together where one has a voxel in the equations of another.

    Raises
    ------
    InputError
        If more than `LARGEST` voxels are to be solved together.
    """
    shapes = shapes_of(holes)
    touched, cut = _in_grid(holes, shapes)
    n = len(touched)
    pairs = _linked(holes, shapes, neighbours) if linked and n else np.zeros((0, 2), np.int64)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (n, n))
    _, labels = connected_components(graph, directed=False)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    reached = np.bincount(labels, touched) > 0
    found: dict[object, int] = {}
    made: list[Shape] = []
    known: dict[object, I8] = {}
    rows: list[tuple[int, I8, I8, I8, tuple[int, int, int]]] = []
    for one in np.unique(holes.images.min(axis=0, initial=n)).tolist():
        own = members[labels[one]]
        if holes.images[:, own].min() < one:
            continue  # an image of a cluster that came before
        led = labels[holes.images[:, one]]
        images, operators = np.unique(led, return_index=True)
        kept = reached[images]
        if not kept.any():
            continue
        key, voxels = _voxels(holes, shapes, own, one)
        if key not in found:
            found[key] = len(made)
            made.append(Shape(voxels, _shell(voxels, neighbours)))
        keeping = holes.group.matrices[led == labels[one]]
        moves = keeping @ shapes.bases[one] - shapes.bases[one]
        way = found[key], keeping.tobytes(), moves.tobytes()
        if way not in known:
            known[way] = _leaders(voxels, keeping, moves)
        every = np.concatenate([members[label] for label in images[kept]])
        n_touched = int(touched[every].sum())
        numbers = n_touched, int((touched & cut)[every].sum()), n_touched * (len(own) > 1)
        rows.append((found[key], shapes.bases[one], operators[kept], known[way], numbers))
    rows.sort(key=lambda row: row[0])
    counts = np.array([row[4] for row in rows], np.int64).reshape(-1, 3).T
    return Clusters(
        [row[2] for row in rows], made, np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64).reshape(-1, 3), [row[3] for row in rows],
        counts[0], counts[1], counts[2],
    )  # fmt: skip


def _in_grid(holes: Holes, shapes: Shapes) -> tuple[Mask, Mask]:
    """Return which holes have voxels in the grid, and which outside of it."""
    low, high = holes.group.low, holes.group.high
    touched, cut = np.zeros((2, len(holes.centres)), np.bool_)
    kinds = np.stack([shapes.shape, shapes.operators], axis=1)
    every, kind = np.unique(kinds, axis=0, return_inverse=True)
    for i, (shape, operator) in enumerate(every):
        offsets = shapes.shapes[shape] @ holes.group.matrices[operator].T
        of_kind = np.flatnonzero(kind == i)
        if not len(offsets):
            continue
        first = shapes.bases[of_kind] + offsets.min(axis=0)
        last = shapes.bases[of_kind] + offsets.max(axis=0)
        cut[of_kind] = ((first < low) | (last > high)).any(axis=1)
        touched[of_kind] = ((first <= high) & (last >= low)).all(axis=1)
        for j in of_kind[touched[of_kind] & cut[of_kind]]:
            place = offsets + shapes.bases[j]
            touched[j] = ((place >= low) & (place <= high)).all(axis=1).any()
    return touched, cut


def _linked(holes: Holes, shapes: Shapes, neighbours: I8) -> I8:
    """Return the pairs of holes with a voxel of one among the neighbours of the other's."""
    lengths = np.sqrt(np.einsum("ni,ij,nj->n", neighbours, holes.metric, neighbours))
    reach = float(lengths.max()) * (1 + 1e-9)
    centres = holes.centres @ np.linalg.cholesky(holes.metric)
    tree = cKDTree(centres)
    pairs = tree.query_pairs(2 * holes.radii.max() + reach, output_type="ndarray")
    apart = np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1)
    pairs = pairs[apart <= holes.radii[pairs].sum(axis=1) + reach].astype(np.int64)
    one, other = pairs.T
    cases = np.concatenate(
        [
            np.stack([values[side] for side in (one, other) for values in shapes[1:3]], axis=1),
            shapes.bases[other] - shapes.bases[one],
        ],
        axis=1,
    )
    cases, case = np.unique(cases, axis=0, return_inverse=True)
    together = np.zeros(len(cases), np.bool_)
    for i, row in enumerate(cases):
        voxels, others = (
            shapes.shapes[shape] @ holes.group.matrices[operator].T
            for shape, operator in (row[:2], row[2:4])
        )
        near = numbers_of(voxels[:, None] + neighbours)
        together[i] = np.isin(numbers_of(others + row[4:]), near).any()
    return np.asarray(pairs[together[case.reshape(-1)]])


def _voxels(holes: Holes, shapes: Shapes, own: I8, one: int) -> tuple[object, I8]:
    """Return the voxels of linked holes from the base of one of them, and what they are known by.

    Raises
    ------
    InputError
        If they are too many.
    """
    if len(own) == 1:
        return int(shapes.shape[one]), shapes.shapes[shapes.shape[one]]
    numbers = np.zeros(0, np.int64)
    for i in own:
        matrix = holes.group.matrices[shapes.operators[i]]
        voxels = shapes.shapes[shapes.shape[i]] @ matrix.T + shapes.bases[i] - shapes.bases[one]
        numbers = np.union1d(numbers, numbers_of(voxels))
        if len(numbers) > LARGEST:
            raise InputError(
                f"punch: expected holes apart from each other, or at most {LARGEST} voxels in "
                f"those that touch, found {len(own)} that run together (a smaller radius would do)"
            )
    return numbers.tobytes(), voxels_of(numbers)


def _shell(voxels: I8, neighbours: I8) -> I8:
    numbers = np.unique(numbers_of(voxels[:, None] + neighbours))
    return voxels_of(np.setdiff1d(numbers, numbers_of(voxels), assume_unique=True))


def _leaders(voxels: I8, keeping: I8, moves: I8) -> I8:
    """Return the last image of each voxel of a cluster under the operators that keep it."""
    numbers = numbers_of(voxels)
    leaders = np.arange(len(numbers))
    for matrix, move in zip(keeping, moves, strict=True):
        image = numbers_of(voxels @ matrix.T + move)
        leaders = np.maximum(leaders, np.searchsorted(numbers, image))
    return leaders
