"""Lists of reflections in text files."""

import pytest

from nxmpi.errors import InputError
from nxmpi.nexus.reflections import read_reflections


def test_rows_are_hkl_and_radius(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# h k l radius\n1 0 0 0.3\n0.5 -1 2 0.25  # half\n")
    assert read_reflections(path) == ((1.0, 0.0, 0.0, 0.3), (0.5, -1.0, 2.0, 0.25))
    path.write_text("1 2 3\n")
    assert read_reflections(path) == ((1.0, 2.0, 3.0),)


@pytest.mark.parametrize("text", ["1 2\n", "1 2 3 4 5\n", "1 2 x\n", "1 2 3 0\n", "1 nan 3\n"])
def test_other_rows_are_refused_with_the_name_of_the_file(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(
        InputError, match=r"list\.txt: expected rows of h, ?k, ?l|list\.txt: expected rows of h k l"
    ):
        read_reflections(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt"):
        read_reflections(tmp_path / "none.txt")
