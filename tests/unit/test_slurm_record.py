"""The record of jobs beside a scan."""

import dataclasses
import json

import pytest

from nxmpi.errors import InputError
from nxmpi.slurm.record import Job, add_jobs, read_record, record_path

pytestmark = pytest.mark.parallel([1])
FRAMES = Job(step="frames", job=12, name="n", log="/l/a.log", submitted="2024-01-01T00:00:00+00:00")
TASK = dataclasses.replace(FRAMES, step="transform", job=13, task=2, position="f2")


def test_jobs_are_read_as_they_were_written(tmp_path):
    wrapper = tmp_path / "x_300K.nxs"
    assert read_record(wrapper) == []
    add_jobs(wrapper, [FRAMES, TASK])
    assert read_record(wrapper) == [FRAMES, TASK]
    assert [job.id for job in read_record(wrapper)] == ["12", "13_2"]
    assert [path.name for path in tmp_path.iterdir()] == ["x_300K.jobs.json"]


def test_later_jobs_replace_those_of_the_same_step_alone(tmp_path):
    wrapper = tmp_path / "x_300K.nxs"
    add_jobs(wrapper, [FRAMES, TASK])
    later = dataclasses.replace(TASK, job=20, task=None, position=None)
    add_jobs(wrapper, [later])
    assert read_record(wrapper) == [FRAMES, later]


def test_a_link_to_a_scan_has_the_record_of_the_scan(tmp_path):
    wrapper = tmp_path / "x_300K.nxs"
    wrapper.touch()
    (tmp_path / "link.nxs").symlink_to(wrapper)
    assert record_path(tmp_path / "link.nxs") == tmp_path / "x_300K.jobs.json"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"version": 1, "jobs": [{"step": "frames"}]}', '{"version": 2}']
)
def test_another_file_is_told(tmp_path, content):
    wrapper = tmp_path / "x_300K.nxs"
    record_path(wrapper).write_text(content)
    with pytest.raises(InputError, match=r"x_300K\.jobs\.json: expected"):
        read_record(wrapper)


def test_the_file_is_json_with_a_version(tmp_path):
    wrapper = tmp_path / "x_300K.nxs"
    add_jobs(wrapper, [TASK])
    content = json.loads(record_path(wrapper).read_text())
    assert content["version"] == 1
    assert content["jobs"][0]["job"] == 13
