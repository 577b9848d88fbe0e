"""A volume's file copied without some datasets: the rest is the same, chunks as they were."""

import h5py
import numpy as np
import pytest

from nxmpi.nexus import schema
from nxmpi.nexus.chunks import filters_of
from nxmpi.nexus.copied import copy_all_but
from nxmpi.nexus.values import put, replace_group
from nxmpi.parallel.h5 import filters


@pytest.fixture(params=["bitshuffle-lz4", "gzip", "none"])
def source(request, tmp_path):
    with h5py.File(tmp_path / "old.nxs", "w") as file:
        file.attrs["default"] = schema.SHARED
        replace_group(file, schema.SHARED, "NXentry").attrs["default"] = schema.DATA
        data = replace_group(file, schema.VOLUME, "NXdata")
        data.attrs["axes"] = ["Ql", "Qk", "Qh"]
        put(data, "title", "Å", long_name="a title")
        replace_group(file, f"{schema.SHARED}/shells", "NXcollection")["q"] = [1.0, 2.0]
        for name in ("fill", "symm"):
            data.create_dataset(
                name,
                (5, 6, 7),
                "f4",
                chunks=(2, 3, 4),
                fillvalue=np.nan,
                **filters(request.param),
            )
            data[name][2:, :4] = np.arange(84).reshape(3, 4, 7)  # some chunks are not written
        yield file


def test_rest_is_the_same_to_the_byte(source, tmp_path):
    with h5py.File(tmp_path / "new.nxs", "w") as file:
        data = copy_all_but(source, file, ["fill"])
        assert sorted(data) == ["symm", "title"]
        assert dict(file.attrs) == dict(source.attrs)
        assert list(data.attrs["axes"]) == ["Ql", "Qk", "Qh"]
        old, new = source[schema.VOLUME]["symm"], data["symm"]
        assert (new.dtype, new.chunks) == (old.dtype, old.chunks)
        assert filters_of(new) == filters_of(old)
        np.testing.assert_array_equal(new, old)
        assert new.id.get_num_chunks() == old.id.get_num_chunks() == 8
        assert new.id.read_direct_chunk((2, 3, 4)) == old.id.read_direct_chunk((2, 3, 4))
        assert data["title"][()] == source[schema.VOLUME]["title"][()]
        assert data["title"].dtype == source[schema.VOLUME]["title"].dtype
        assert data["title"].attrs["long_name"] == "a title"
        shells = file[schema.SHARED]["shells"]
        assert shells.attrs["NX_class"] == "NXcollection"
        np.testing.assert_array_equal(shells["q"], [1.0, 2.0])


def test_chunk_that_is_there_but_cannot_be_read_is_not_taken_for_unwritten(source, tmp_path):
    path = tmp_path / "short.nxs"
    source.flush()
    chunks = source[schema.VOLUME]["symm"].id
    last = max(chunks.get_chunk_info(i).byte_offset for i in range(chunks.get_num_chunks()))
    path.write_bytes((tmp_path / "old.nxs").read_bytes())
    with h5py.File(path) as short, h5py.File(tmp_path / "new.nxs", "w") as file:
        with path.open("r+b") as raw:
            raw.truncate(last)
        with pytest.raises((OSError, RuntimeError)):
            copy_all_but(short, file, ["fill"])
