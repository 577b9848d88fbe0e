"""Names of planes, and grids along them."""

import numpy as np
import pytest

from nxmpi.crystal.plane import parse_plane, span
from nxmpi.errors import InputError
from nxmpi.model import HKLGrid
from nxmpi.params import SliceParams
from nxmpi.pipeline.slice import section_grid

GRID = HKLGrid(origin=(-3.0, -4.0, -5.0), step=(0.1, 0.2, 0.25), shape=(61, 41, 41))


@pytest.mark.parametrize(
    ("text", "points"),
    [  # what two numbers stand for, by hand
        ("h k 0.5", lambda u, v: (u, v, 0.5)),
        ("h,0,l", lambda u, v: (u, 0, v)),
        ("-1/3 k l", lambda u, v: (-1 / 3, u, v)),
        ("h h l", lambda u, v: (u, u, v)),
        ("h -h l", lambda u, v: (u, -u, v)),
        ("-h 2h l+0.25", lambda u, v: (-u, 2 * u, v + 0.25)),
        ("h+k h-k 1", lambda u, v: (u + v, u - v, 1)),
        ("h h+1 l", lambda u, v: (u, u + 1, v)),
        ("l 0.5*k -l", lambda u, v: (v, 0.5 * u, -v)),
        ("1/2h k .5", lambda u, v: (u / 2, v, 0.5)),
    ],
)
def test_points_of_a_plane_lie_at_its_place_on_the_grid(text, points):
    plane = parse_plane(text)
    rows = np.array(plane.axes)
    for u, v in ((0, 0), (1, 0), (0, 1), (-2.5, 3.25)):
        along = np.linalg.solve(rows.T, points(u, v))
        wanted = np.array(plane.place)
        wanted[[i for i in range(3) if i != plane.normal]] += (u, v)
        np.testing.assert_allclose(along, wanted, atol=1e-11)


@pytest.mark.parametrize(
    ("text", "normal", "row"),
    [
        ("h k 0.5", 2, (0, 0, 1)), ("h 0.5 l", 1, (0, 1, 0)), ("2 k l", 0, (1, 0, 0)),
        ("h h l", 1, (1, -1, 0)), ("h -h l", 1, (1, 1, 0)),
    ],
)  # fmt: skip
def test_normals(text, normal, row):
    plane = parse_plane(text)
    assert plane.normal == normal
    assert plane.axes[normal] == row


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("h k", "expected three of the kind"), ("h k l", "found h, k, l"), ("h 0 0", "found h"),
        ("1 2 3", "found none"), ("h k x", "expected three"), ("h k 0.5 1", "expected three"),
        ("h+ k 1", "expected three"), ("hk h l", "expected three"), ("h 1/0 l", "division by 0"),
        ("h+k h+k 1", "found a line"), ("h k --1", "expected three"), ("", "expected three"),
    ],
)  # fmt: skip
def test_what_is_no_plane_is_refused(text, told):
    with pytest.raises(InputError, match=told):
        parse_plane(text)


def test_spans_are_as_far_as_the_grid_reaches():
    assert span(GRID, (0, 1, 0)) == (-4.0, 0.2, pytest.approx(4.0))
    start, step, stop = span(GRID, (1, 1, 0))
    assert (start, step, stop) == (pytest.approx(-3.0), 0.1, pytest.approx(3.0))
    start, step, stop = span(GRID, (0, -2, 1))  # k of 2 is the end: -2 <= -2u <= 2 ...
    assert (start, step, stop) == (pytest.approx(-2.0), pytest.approx(0.1), pytest.approx(2.0))
    off = HKLGrid(origin=(1.0, -4.0, -5.0), step=GRID.step, shape=(11, 41, 41))
    assert span(off, (1, 0, 0)) == (1.0, 0.1, pytest.approx(2.0))
    apart = HKLGrid(origin=(1.0, -4.0, -5.0), step=GRID.step, shape=(11, 11, 41))
    with pytest.raises(InputError, match="reach of the grid"):
        span(apart, (1, 1, 0))


def test_grids_of_slices_agree_with_those_of_the_scan():
    grid = section_grid(SliceParams(plane="h 0.6 l"), GRID)
    assert grid.shape == (61, 1, 41)
    assert grid.origin == (-3.0, 0.6, -5.0)
    assert grid.step == GRID.step
    assert grid.axes == GRID.axes
    given = ((-1.0, 0.5, 1.0), None, None)
    grid = section_grid(SliceParams(plane="h h+1 l", ranges=given, thickness=0.3), GRID)
    assert grid.shape == (5, 1, 41)
    assert grid.axes == ((1, 1, 0), (1, -1, 0), (0, 0, 1))
    assert grid.origin == (-0.5, -0.5, -5.0)  # (0, 1, 0) is (1, 1, 0)/2 - (1, -1, 0)/2
    assert grid.step == (0.5, 0.3, 0.25)
    box = section_grid(SliceParams(box=(0, 1, -1, 1, 0.5, 0.5)), GRID)
    assert box.origin == (0, -1, 0.5)
    assert box.shape == (11, 11, 1)
    with pytest.raises(InputError, match=r"--qk: 'h 0.6 l' has no k that varies"):
        section_grid(SliceParams(plane="h 0.6 l", ranges=(None, (0, 1, 2), None)), GRID)
    along = HKLGrid(origin=GRID.origin, step=GRID.step, shape=GRID.shape,
                    axes=((1, 1, 0), (1, -1, 0), (0, 0, 1)))  # fmt: skip
    with pytest.raises(InputError, match="found other axes"):
        section_grid(SliceParams(plane="h h l"), along)


@pytest.mark.parametrize(
    "values",
    [{}, {"plane": "h k 0", "box": (0, 1, 0, 1, 0, 1)}, {"plane": "h k 0", "thickness": -1.0},
     {"box": (0, 1, 0, 1, 0, 1), "thickness": 0.1}],
)  # fmt: skip
def test_choices_that_exclude_each_other(values):
    with pytest.raises(InputError):
        SliceParams(**values)
