"""Planes of the symmetrized volume and of the 3D-ΔPDF, from files as they are written."""

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.volume import REAL, VolumeFile, create_volume, write_volume_group
from nxmpi.plot.real_space import (
    RealSpace,
    crop,
    draw_real_space,
    draw_symmetrized,
    read_real_space,
    read_symmetrized,
)
from nxmpi.plot.slices import Plane

LATTICE = Lattice(a=5.0, b=5.0, c=8.0, alpha=90.0, beta=90.0, gamma=120.0)
N_Z, N = 15, 21
STEP = 0.25


def axis(n):
    return STEP * np.arange(-(n // 2), n // 2 + 1)


@pytest.fixture
def scan(tmp_path):
    """Return a scan file with a 3D-ΔPDF of which each value tells where it is, but at 0 0 0."""
    grid = HKLGrid(
        origin=(axis(N)[0], axis(N)[0], axis(N_Z)[0]), step=(STEP,) * 3, shape=(N, N, N_Z)
    )
    values = axis(N_Z)[:, None, None] * 100 + axis(N)[:, None] * 10 + axis(N)
    values[N_Z // 2, N // 2, N // 2] = 1e6
    volume = VolumeFile(
        path=tmp_path / "pdf.nxs", grid=grid, lattice=LATTICE, title="PDF",
        fills={schema.PDF_SIGNAL: np.nan}, dtype="f4", attributes={}, space=REAL,
    )  # fmt: skip
    with h5py.File(volume.path, "w") as file:
        create_volume(file, volume, {})
        file[f"{schema.PDF_VOLUME}/{schema.PDF_SIGNAL}"][...] = values
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        entry = file.create_group(schema.SHARED)
        links = {schema.PDF_SIGNAL: schema.PDF_SIGNAL}
        write_volume_group(entry, schema.REGULAR.pdf, volume, "test", links)
    return path


def test_planes_are_those_at_their_heights(scan):
    with h5py.File(scan) as file:
        found = read_real_space(file, schema.REGULAR)
    assert [plane.value for plane in found.planes] == [0.0, 0.5, 1.0]
    for plane in found.planes[1:]:
        np.testing.assert_allclose(
            plane.values, plane.value * 100 + plane.v[:, None] * 10 + plane.u, rtol=1e-6
        )
        assert plane.indices == "xy"
    assert found.lattice == LATTICE


def test_colours_are_symmetric_and_the_origin_does_not_count(scan):
    with h5py.File(scan) as file:
        found = read_real_space(file, schema.REGULAR)
    figure = Figure()
    panels = [figure.add_subplot(1, 3, i) for i in (1, 2, 3)]
    draw_real_space(figure, panels, found)
    norms = [panel.images[0].norm for panel in panels]
    assert all(norm is norms[0] for norm in norms)
    assert norms[0].vmin == -norms[0].vmax
    assert 100 < norms[0].vmax < 200
    assert [panel.get_title() for panel in panels] == [
        f"3D-ΔPDF at $z = {z}$" for z in ("0", "0.5", "1")
    ]
    to_paper = panels[0].images[0].get_transform() - panels[0].transData
    x, y = to_paper.transform([[1, 0], [0, 1]]) - to_paper.transform([[0, 0]] * 2)
    angle = np.degrees(np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
    assert angle == pytest.approx(120)
    assert np.linalg.norm(x) == pytest.approx(LATTICE.a)


def spots(n, step, places):
    """Return three planes, 10 at the origin, 1 at some places, and little noise."""
    coordinates = step * np.arange(-(n // 2), n // 2 + 1)
    values = np.random.default_rng(2).normal(0, 1e-4, size=(3, n, n))
    values[0, n // 2, n // 2] = 10
    for x, y in places:
        values[0, round(y / step) + n // 2, round(x / step) + n // 2] = 1
    planes = [
        Plane(normal="z", value=z, has_zero=True, u=coordinates, v=coordinates, values=one,
              letters="xyz")
        for z, one in zip((0.0, 0.5, 1.0), values, strict=True)
    ]  # fmt: skip
    return RealSpace(planes=planes, lattice=LATTICE)


def test_planes_end_where_there_is_nothing_more():
    shown = crop(spots(201, 0.1, [(1, 0), (-1, 0), (3, -2), (-3, 2)]))
    for plane in shown.planes:
        assert plane.values.shape == (plane.v.size, plane.u.size)
        np.testing.assert_allclose([plane.u[0], plane.u[-1]], [-3.9, 3.9])
        np.testing.assert_allclose([plane.v[0], plane.v[-1]], [-2.6, 2.6])
    one = shown.planes[0]
    assert one.values[one.v.searchsorted(-2.01), one.u.searchsorted(2.99)] == 1


def test_planes_of_noise_are_shown_whole_and_zeros_too():
    noise = spots(201, 0.1, [])
    assert crop(noise).planes[0].values.shape == (201, 201)
    for plane in noise.planes:
        plane.values[...] = 0
    assert crop(noise).planes[0].values.shape == (201, 201)
    figure = Figure()
    panels = [figure.add_subplot(1, 3, i) for i in (1, 2, 3)]
    draw_real_space(figure, panels, noise)
    assert panels[0].images[0].norm.vmax == 1


def test_what_is_not_there_is_said(scan):
    with h5py.File(scan) as file:
        assert read_real_space(file, schema.MASKED) is None
        planes = read_symmetrized(file, schema.REGULAR, "nxmpi symmetrize scan.nxs")
    assert planes == ["nxmpi symmetrize scan.nxs"] * 3
    figure = Figure()
    panels = [figure.add_subplot(2, 3, i) for i in range(1, 7)]
    draw_symmetrized(figure, panels[:3], planes, None, "$hk0$")
    draw_real_space(figure, panels[3:], "nxmpi pdf scan.nxs")
    for panel in panels:
        assert "scan.nxs" in panel.texts[0].get_text()
