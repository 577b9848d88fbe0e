"""A wrong folder for what is to be written is told before anything is read."""

import pytest
from click.testing import CliRunner
from mpi4py import MPI

from nxmpi.cli.main import cli
from nxmpi.errors import CollectiveError


@pytest.mark.parametrize(
    ("command", "options", "name"),
    [
        ("slice", ("--plane", "h k 0"), "out"),
        ("cut", ("--line", "0 0 0", "1 0 0"), "out.csv"),
        ("plot", (), "out.png"),
        ("predict", (), "out.csv"),
    ],
)
def test_folder_is_looked_for_first(tmp_path, command, options, name):
    args = [command, "none.nxs", *options, "--output", str(tmp_path / "no" / name)]
    result = CliRunner().invoke(cli, args, obj=MPI.COMM_SELF)
    assert isinstance(result.exception, CollectiveError)
    assert f"/no/{name}" in str(result.exception)
    assert str(result.exception).endswith(f": expected a folder {tmp_path}/no, found none")
