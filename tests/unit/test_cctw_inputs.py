"""What volumes hold together, and how often it is read."""

from pathlib import Path

import h5py
import numpy as np

from nxmpi.cctw import inputs
from nxmpi.cctw.command import Place


def test_sums_read_everything_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    v, n = rng.integers(1, 9, (3, 2, 5, 6, 7)).astype(float), rng.random((3, 5, 6, 7))
    n[rng.random(n.shape) < 0.3] = 0.0
    places = []
    for number in range(3):
        places.append(Place(Path(tmp_path / f"{number}.nxs"), "/sums"))
        with h5py.File(places[-1].file, "w") as file:
            file["sums/v"], file["sums/n"] = v[number, 0], n[number]
    reads = []

    def read_part(dataset, where):
        reads.append((dataset.file.filename, dataset.name))
        return dataset[where]

    monkeypatch.setattr(inputs, "read_part", read_part)
    volumes = inputs.open_volumes(places)
    counts, norm = inputs.read_sums(volumes, np.s_[1:4, 2:6])
    np.testing.assert_array_equal(counts, (v[:, 0] * (n != 0)).sum(0)[1:4, 2:6])
    np.testing.assert_array_equal(norm, (n[0] + n[1] + n[2])[1:4, 2:6])
    assert len(reads) == len(set(reads)) == 6
    for volume in volumes:
        volume.counts.file.close()
