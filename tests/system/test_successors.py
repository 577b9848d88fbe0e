"""Jobs that may not be requeued: others take their places, and what waits for them waits on."""

import re
import shutil

import pytest
from system.slurm import JOBS

pytestmark = pytest.mark.full


@pytest.fixture
def tmp_path(tmp_path):
    """Return a folder whose name has a pattern of Slurm's in it."""
    folder = tmp_path / "50%As"
    folder.mkdir()
    return folder


def output(path):
    """Return the option of sbatch for a log."""
    return f"--output={path.parent}/".replace("%", "%%") + path.name


@pytest.fixture
def stopping(tmp_path):
    """Return the environment of jobs whose program ends when there is a file for it.

    Task 1 of array 12 ends with 75 at ``stop-12_1``, and with 0 at ``end-12_1``.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nxmpi").write_text(
        "#!/bin/sh\n"
        "job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}\n"
        f'touch "{tmp_path}/began-$job"\n'
        f'while [ ! -e "{tmp_path}/stop-$job" ] && [ ! -e "{tmp_path}/end-$job" ]; do '
        "sleep 0.1; done\n"
        f'[ -e "{tmp_path}/end-$job" ] || exit 75\n'
    )
    (folder / "sbatch").write_text(  # of a site that says more than it is asked for
        '#!/bin/sh\ncase "$*" in *--comment=nxmpi*) echo "* 2 projects *";; esac\n'
        f'exec {shutil.which("sbatch")} "$@"\n'
    )
    for name in ("nxmpi", "sbatch"):
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin",
        "NXMPI_GO_ON": "submit",
        "NXMPI_EXTRA": "--oversubscribe\n--nice=7",
        "NXMPI_JOBS": str(JOBS),
        "SQUEUE_PARTITION": "project",
    }


def submit(slurm, tmp_path, env, *options):
    args = (
        "--ntasks-per-node=1",
        "--oversubscribe",
        "--mem=100",
        output(tmp_path / "l o g-%A_%a"),
    )
    return slurm.sbatch(*args, *options, JOBS / "transform.sbatch", "scan.nxs", env=env)


def begin(slurm, tmp_path, *names):
    slurm.until(lambda: all((tmp_path / f"began-{name}").exists() for name in names))


def go_on(slurm, tmp_path, *names):
    """Let jobs stop at once; return their successors, which have begun."""
    for name in names:
        (tmp_path / f"stop-{name}").touch()
    found = []
    for name in names:
        log = next(tmp_path.glob(f"l o g-{name}"), None) or next(
            path for path in tmp_path.glob("l o g-*") if f" job {name} on " in path.read_text()
        )

        def successor(log=log, name=name):
            text = log.read_text().partition(f" job {name} on ")[2]
            return re.search(r"job (\d+) goes on in place", text)

        found.append(f"{slurm.until(successor)[1]}_{name.partition('_')[2]}")
    begin(slurm, tmp_path, *found)
    return found


def dependency(slurm, job, task=None):
    fields = slurm.job(job, task)
    assert fields["JobState"] == "PENDING"
    return {*re.findall(r"\w+:[\d_*]+", fields["Dependency"])}


def end(slurm, tmp_path, *names):
    for name in names:
        (tmp_path / f"end-{name}").touch()
    slurm.finish(*(name.partition("_")[0] for name in names))


def test_task_waits_for_all_successors_of_its_own_predecessor_and_for_no_other(
    slurm, stopping, tmp_path
):
    first = submit(slurm, tmp_path, stopping, "--array=0,1")
    after = slurm.sbatch(
        f"--dependency=aftercorr:{first}", "--kill-on-invalid-dep=yes", "--array=0,1",
        output(tmp_path / "after-%a"), "--wrap", "true",
    )  # fmt: skip
    begin(slurm, tmp_path, f"{first}_0", f"{first}_1")
    zero, one = go_on(slurm, tmp_path, f"{first}_0", f"{first}_1")
    assert slurm.finish(first) == ["COMPLETED"] * 2
    slurm.until(lambda: "aftercorr" not in slurm.job(after, 0)["Dependency"])
    (one,) = go_on(slurm, tmp_path, one)
    (one,) = go_on(slurm, tmp_path, one)
    assert dependency(slurm, after, 0) == {f"afterok:{zero.replace('_0', '_*')}"}
    end(slurm, tmp_path, one)
    slurm.until(lambda: slurm.state(after, 1) == "COMPLETED")
    assert slurm.state(after, 0) == "PENDING"
    end(slurm, tmp_path, zero)
    assert slurm.finish(after) == ["COMPLETED"] * 2


@pytest.mark.parametrize("attempt", range(3))
def test_job_waits_for_the_successors_of_all_tasks_that_stop_at_once(
    slurm, stopping, tmp_path, attempt
):
    first = submit(slurm, tmp_path, stopping, "--array=1-4")
    after = slurm.sbatch(
        f"--dependency=afterok:{first}", output(tmp_path / "after"), "--wrap", "true"
    )
    names = [f"{first}_{task}" for task in range(1, 5)]
    begin(slurm, tmp_path, *names)
    found = go_on(slurm, tmp_path, *names)
    assert slurm.finish(first) == ["COMPLETED"] * 4
    wanted = {f"afterok:{name.partition('_')[0]}_*" for name in found}
    slurm.until(lambda: f"afterok:{first}_*" not in dependency(slurm, after))
    assert dependency(slurm, after) == wanted
    for name in found:
        fields = slurm.job(*name.split("_"))
        assert (fields["MinMemoryNode"], fields["Nice"]) == ("100M", "7")
    end(slurm, tmp_path, *found)
    assert slurm.finish(after) == ["COMPLETED"]


def test_chain_stops_where_what_waits_cannot_be_told_of_the_successor(slurm, stopping, tmp_path):
    (tmp_path / "bin" / "scontrol").write_text(
        '#!/bin/sh\n[ "$1" != update ] || { echo "no update today" >&2; exit 1; }\n'
        'PATH=${PATH#*:} exec scontrol "$@"\n'
    )
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    first = submit(slurm, tmp_path, stopping, "--array=1")
    after = slurm.sbatch(
        f"--dependency=afterok:{first}", "--kill-on-invalid-dep=yes", output(tmp_path / "after"),
        "--wrap", "true",
    )  # fmt: skip
    begin(slurm, tmp_path, f"{first}_1")
    (tmp_path / f"stop-{first}_1").touch()
    assert slurm.finish(first, after) == ["FAILED", "CANCELLED"]
    log = (tmp_path / f"l o g-{first}_1").read_text()
    assert "no update today\nnot gone on with: " in log
    (left,) = [fields for fields in slurm.jobs() if fields.get("Comment") == "nxmpi"
               and str(tmp_path.parent) in fields["StdOut"]]  # fmt: skip
    assert slurm.finish(left["JobId"]) == ["CANCELLED"]
    assert not [*tmp_path.glob(".*")]
