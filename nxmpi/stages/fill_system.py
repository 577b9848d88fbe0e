"""The equations of what fills a hole, and their solution."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from nxmpi.kernels.laplace import WIDTH, solve_columns
from nxmpi.stages.holes import numbers_of

if TYPE_CHECKING:
    from nxmpi._typing import F8, I4, I8, Mask
    from nxmpi.crystal.laplacian import Stencil
    from nxmpi.stages.holes import Shape

MEMORY = 256 * 2**20
"""Of factorizations that are kept for holes to come [bytes]."""
DETERMINED = 1e-6
"""Least spread of voxels along a direction in which a slope is taken from them, by the largest."""


class Equation(NamedTuple):
    """(epsilon² - ∇²)^power u = 0, or a plane through what is known where the power is 0."""

    stencil: Stencil
    metric: F8
    """(3, 3) float64: of voxels [1/Å²]."""
    power: int
    epsilon: float
    """[Å]"""

    @property
    def neighbours(self) -> I8:
        """(n, 3) int64: voxels that have a part in the equation of voxel 0."""
        near = self.stencil.neighbours
        every = np.zeros((1, 3), np.int64)
        for _ in range(max(self.power, 1)):
            every = np.unique((every[:, None] + near).reshape(-1, 3), axis=0)
        return every


class Factors(NamedTuple):
    """P A Pᵀ = L D Lᵀ; see `nxmpi.kernels.laplace.solve_columns`."""

    pointers: I4
    rows: I4
    values: F8
    diagonal: F8
    order: I8
    """(n,) int64: the row of P A Pᵀ of each row of A."""


class System(NamedTuple):
    """Makes unknown values, ``spread @ inv(A) @ coupling @ shell``, of those about them."""

    coupling: csr_array
    """On those of the shell that are measured."""
    factors: Factors | None
    """None for an A of 1."""
    spread: csr_array
    determined: Mask
    """(n_unknown,) bool: False for what is linked to nothing that is measured."""


def build_system(equation: Equation, shape: Shape, exists: Mask, measured: Mask) -> System:
    """Return the system of a hole.

    Parameters
    ----------
    exists : (n_unknown,) bool
        False for voxels outside of the grid.
    measured : (n_shell,) bool

    Notes
    -----
    Voxels that do not exist, or are not measured, have no part in any equation: the boundary is
    left to itself there. Rows are those of the power of the matrix of all voxels, as in
    LaplaceInterpolation.jl; for (epsilon² - ∇²)^m they need m neighbours in a row.
    """
    spread = csr_array((len(exists), 0))
    if not (exists.any() and measured.any()):
        coupling = csr_array((0, int(measured.sum())))
        return System(coupling, None, spread, np.zeros(len(exists), np.bool_))
    unknown, shell = shape.unknown[exists], shape.shell[measured]
    first, n = len(unknown), len(unknown) + len(shell)
    matrix = _matrix(equation, np.concatenate([unknown, shell]))
    n_parts, part = connected_components(matrix[:first, :first], directed=False)
    linked = abs(matrix[:first, first:]).sum(axis=1) > 0
    alive = (np.bincount(part, linked, minlength=n_parts) > 0)[part]
    determined = exists.copy()
    determined[exists] = alive
    if not alive.any():
        return System(csr_array((0, len(shell))), None, spread, determined)
    places = np.flatnonzero(determined)
    if equation.power == 0:
        return _plane(equation, shape, determined, measured, linked=_near(matrix, first, n))
    rows = matrix[:first][alive]
    for _ in range(equation.power - 1):
        rows = rows @ matrix
    spread = csr_array(
        (np.ones(len(places)), (places, np.arange(len(places)))), (len(exists), len(places))
    )
    own = csc_array(rows[:, :first][:, alive])
    return System(csr_array(-rows[:, first:]), _factorize(own), spread, determined)


def _near(matrix: csr_array, first: int, n: int) -> Mask:
    """Return which voxels of the shell are linked to unknown ones."""
    return np.asarray(abs(matrix[first:n, :first]).sum(axis=1) > 0)


def _matrix(equation: Equation, voxels: I8) -> csr_array:
    """Return epsilon² - ∇² on voxels, as far as these are linked, (n, n)."""
    numbers, n = numbers_of(voxels), len(voxels)
    order = np.argsort(numbers)
    diagonal = np.full(n, equation.epsilon**2)
    parts = []
    for vector, weight in zip(*equation.stencil, strict=True):
        wanted = numbers + numbers_of(vector) - numbers_of(np.zeros(3, np.int64))
        place = np.minimum(np.searchsorted(numbers, wanted, sorter=order), n - 1)
        one = np.flatnonzero(numbers[order[place]] == wanted)
        other = order[place[one]]
        for a, b in ((one, other), (other, one)):
            diagonal[a] += weight
            parts.append((a, b, np.full(len(a), -weight)))
    parts.append((np.arange(n), np.arange(n), diagonal))
    rows, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    return csr_array(coo_array((values, (rows, columns)), (n, n)))


def _factorize(matrix: csc_array) -> Factors:
    """Return the factors of a symmetric and positive matrix, without pivoting."""
    found = splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    lower = found.L.tocsc()
    lower.sort_indices()
    return Factors(
        lower.indptr, lower.indices, lower.data, found.U.diagonal(), found.perm_r.astype(np.int64)
    )


def _plane(
    equation: Equation, shape: Shape, determined: Mask, measured: Mask, linked: Mask
) -> System:
    """Return the system of the plane of least squares; of what does not determine it, the mean."""
    to_q = np.linalg.cholesky(equation.metric)
    shell, used = shape.shell[measured] @ to_q, np.flatnonzero(linked)
    middle = shell[used].mean(axis=0)
    design, wanted = (
        np.concatenate([np.ones((len(each), 1)), each - middle], axis=1)
        for each in (shell[used], shape.unknown @ to_q)
    )
    solution = np.zeros((4, len(shell)))
    solution[0, used] = 1 / len(used)
    solution[1:, used] = np.linalg.pinv(design[:, 1:], rcond=DETERMINED)
    wanted[~determined] = 0.0
    return System(csr_array(solution), None, csr_array(wanted), determined)


def solve(system: System, measured: F8) -> F8:
    """Return the values of unknown voxels.

    Parameters
    ----------
    measured : (n_measured, n) float64
        Values of each case on the measured voxels of the shell.

    Returns
    -------
    (n_unknown, n) float64
        NaN where nothing is known.

    Notes
    -----
    To the bit the same for each case, whatever the others are: nothing is added across them.
    """
    n = measured.shape[1]
    values = np.full((len(system.determined), n), np.nan)
    if not system.determined.any():
        return values
    for start in range(0, n, WIDTH):
        part = np.zeros((len(measured), WIDTH))
        part[:, : min(WIDTH, n - start)] = measured[:, start : start + WIDTH]
        columns = system.coupling @ part
        if system.factors is not None:
            pointers, rows, elements, diagonal, order = system.factors
            turned = np.empty_like(columns)
            turned[order] = columns
            solve_columns(pointers, rows, elements, diagonal, turned)
            columns = turned[order]
        spread = system.spread @ columns
        values[:, start : start + WIDTH] = spread[:, : n - start]
    values[~system.determined] = np.nan
    return values


class Systems:
    """Systems that were used last, as many as `MEMORY` holds."""

    def __init__(self, equation: Equation) -> None:
        self._equation = equation
        self._kept: OrderedDict[bytes, System] = OrderedDict()
        self._bytes = 0

    def find(self, key: bytes, shape: Shape, exists: Mask, measured: Mask) -> System:
        """Return the system of a hole, whose shape and masks the key stands for."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        system = build_system(self._equation, shape, exists, measured)
        self._kept[key] = system
        self._bytes += _size(system)
        while self._bytes > MEMORY and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return system


def _size(system: System) -> int:
    factors = 0 if system.factors is None else sum(each.nbytes for each in system.factors)
    return factors + int(system.coupling.data.nbytes) * 2
