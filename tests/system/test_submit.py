"""Chains of jobs that `nxmpi submit` makes, through a real Slurm."""

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
from itertools import pairwise
from pathlib import Path

import h5py
import pytest
from system.mpi import error_lines, finish, start_mpi
from system.scans import TRANSFORMS, assert_same, contents, simulated, volumes
from system.slurm import JOBS

from nxmpi.parallel.owner import Owner

HERE = Path(__file__).parent
STEPS = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")
LATER = "--extra=--begin=now+1hour"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return a simulated scan without orientation."""
    return simulated(tmp_path_factory.mktemp("raw") / "e", "--no-orientation")


@pytest.fixture(scope="module")
def reduced(raw, tmp_path_factory, slurm):
    """Return the same scan, reduced by one rank without Slurm."""
    scan = raw.copy(tmp_path_factory.mktemp("reduced") / "e")
    slurm.nxmpi("reduce", scan.wrapper)
    return scan


@pytest.fixture(scope="module")
def oriented(reduced, tmp_path_factory):
    """Return the same scan with frames and orientations complete, and nothing else."""
    scan = reduced.copy(tmp_path_factory.mktemp("oriented") / "e")
    for name in volumes(scan):
        (scan.data / name).unlink()
    return scan


def record(scan):
    """Return the jobs of a scan as they were recorded."""
    path = scan.wrapper.with_suffix(".jobs.json")
    return json.loads(path.read_text())["jobs"] if path.exists() else []


def logs(scan):
    """Return what all jobs of a scan wrote."""
    return "\n".join(path.read_text() for path in scan.root.rglob("*.log"))


def in_place_of_nxmpi(folder, script, *args):
    """Return an environment in which jobs run a script of the tests for ``nxmpi``.

    Each start of a job has a folder of its own, which is ``@`` among the arguments.
    """
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    words = " ".join(str(arg) for arg in args).replace("@", '"$told"')
    (bin_folder / "nxmpi").write_text(
        f'#!/bin/sh\ntold={folder}/told-${{SLURM_RESTART_COUNT:-0}}\nmkdir -p "$told"\n'
        f'exec python {HERE / script} {words} -- "$@"\n'
    )
    (bin_folder / "nxmpi").chmod(0o755)
    return {"PATH": f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("nodes", "ranks", "mpi", "last"),
    [
        (2, 1, "pmix", "transform"),
        pytest.param(2, 1, "pmix", "pdf", marks=pytest.mark.full),
        pytest.param(1, 2, "mpiexec", "pdf", marks=pytest.mark.full),
        pytest.param(1, 2, "pmix", "pdf", marks=pytest.mark.full),
        pytest.param(2, 1, "mpiexec", "pdf", marks=pytest.mark.full),
    ],
)
def test_chain_gives_what_one_rank_gives(slurm, raw, reduced, tmp_path, nodes, ranks, mpi, last):
    scan = raw.copy(tmp_path / "50%As %%")  # patterns of Slurm's, but in a name
    asked = ("--nodes", nodes, "--ranks-per-node", ranks, "--mpi", mpi)
    options = ("--options", f"--to {last}")
    told = slurm.nxmpi("submit", scan.wrapper, *asked, *options)
    jobs = record(scan)
    steps = STEPS[: STEPS.index(last) + 1]
    assert [job["step"] for job in jobs] == [*steps[:3], "transform", *steps[3:]]
    assert [(job["position"], job["task"]) for job in jobs[2:4]] == [("f1", 1), ("f2", 2)]
    assert len(told.stdout.splitlines()) == len(jobs)
    states = slurm.finish(*{job["job"] for job in jobs}, limit=180)
    assert set(states) == {"COMPLETED"}, logs(scan)
    for job in jobs:
        text = Path(job["log"]).read_text()
        n = nodes * ranks if job["step"] != "orient" else ranks
        assert n == 1 or f"[0/{n}] " in text
        assert f"triclinite_300K-{job['step']}-" in job["log"]
    said = slurm.nxmpi("logs", scan.wrapper, "transform", "--entry", "f2").stdout
    assert "transform of f2" in said
    assert "transform of f1" not in said
    if last == "pdf":
        again = slurm.nxmpi("submit", scan.wrapper, *options)
        assert again.stdout == f"{scan.wrapper}: complete\n"
        assert record(scan) == jobs
    names = {*volumes(scan)}
    assert names == {*volumes(reduced)} if last == "pdf" else {*TRANSFORMS}
    # the 3-D mask of the frames is another file, so fingerprints differ
    assert_same(scan, reduced, names=names, but=("@fingerprint",))


MADE_BY = {
    "f1_mask.nxs": "frames",
    "f1_transform.nxs": "transform", "f1_masked_transform.nxs": "transform",
    "transform.nxs": "combine", "masked_transform.nxs": "combine",
    "symm_transform.nxs": "symmetrize", "masked_symm_transform.nxs": "symmetrize",
    "pdf.nxs": "pdf", "masked_pdf.nxs": "pdf",
}  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [
        "--refine-scale",
        "--radius 0.4",
        "--mask-t1 3",
        "--no-polarization --to symmetrize",
        "--only transform --entry f1",
        "--from symmetrize",
    ],
)
def test_steps_that_are_left_are_those_that_reduce_does(slurm, reduced, tmp_path, options):
    scan = reduced.copy(tmp_path / "e")
    printed = slurm.nxmpi("submit", scan.wrapper, "--dry-run", "--options", options).stdout
    planned = [step for step in STEPS if f"/{step}.sbatch" in printed]
    before = scan.files()
    slurm.nxmpi("reduce", scan.wrapper, *options.split())
    after = scan.files()
    done = {MADE_BY.get(Path(name).name) for name in after if before.get(name) != after[name]}
    expected = done - {None}
    if "pdf" in done and "--radius" in options:
        expected.remove("symmetrize")  # holes and fill are put into its file
    if "frames" in done:
        expected.add("orient")  # whether peaks change is not known before
    assert {*planned} == expected


def test_dry_run_prints_a_script_that_submits_the_same(slurm, oriented, tmp_path):
    scan = oriented.copy(tmp_path / "e")
    before = scan.files()
    asked = (scan.wrapper, "--time", "5", LATER, "--options", "--refine-scale --to symmetrize")
    printed = slurm.nxmpi("submit", *asked, "--dry-run").stdout
    assert scan.files() == before
    assert "combine.sbatch" in printed
    assert printed.count("--refine-scale") == 1
    assert "frames" not in printed
    assert "pdf" not in printed
    described = []
    for submitted in (
        lambda: slurm.run("bash", "-c", printed),
        lambda: slurm.nxmpi("submit", *asked),
    ):
        known = {fields["JobId"] for fields in slurm.jobs()}
        submitted()
        new = [fields for fields in slurm.jobs() if fields["JobId"] not in known]
        if not described:
            (first, *_) = (fields["ArrayJobId"] for fields in new if "ArrayJobId" in fields)
            slurm.run("scontrol", "update", f"JobId={first}", "StartTime=now")
            assert slurm.finish(first) == ["COMPLETED"] * 2, logs(scan)
            for name in volumes(scan):
                (scan.data / name).unlink()
        described.append(
            [
                tuple(fields[name] for name in ("JobName", "TimeLimit", "NumNodes", "Command"))
                for fields in new
            ]
        )
        slurm.run("scancel", *(fields["JobId"] for fields in new))
    assert described[0] == described[1]
    assert [name.rpartition("-")[2] for name, *_ in described[0]] == [
        "transform", "combine", "symmetrize",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--partition", "nowhere"], "sbatch: .*[Ii]nvalid partition"),
        pytest.param(
            ["--partition", "project", "--account", "other", "--time", "5"], "Invalid account",
            marks=pytest.mark.full,
        ),
        pytest.param(
            ["--nodes", "3"], "More processors requested than permitted|Node count",
            marks=pytest.mark.full,
        ),
    ],
)  # fmt: skip
def test_what_slurm_refuses_is_told_and_nothing_is_submitted(
    slurm, oriented, tmp_path, asked, told
):
    scan = oriented.copy(tmp_path / "e")
    known = {fields["JobId"] for fields in slurm.jobs()}
    refused = slurm.nxmpi("submit", scan.wrapper, *asked, check=False)
    assert refused.returncode == 1
    (line,) = error_lines(refused)
    assert line.startswith(f"Error: {scan.wrapper}: transform: sbatch: ")
    assert re.search(told, line), line
    assert line.endswith("; nothing was submitted")
    assert record(scan) == []
    assert {fields["JobId"] for fields in slurm.jobs()} == known
    assert scan.hidden() == []


def test_step_that_is_refused_takes_those_before_it_along(slurm, oriented, tmp_path):
    scan = oriented.copy(tmp_path / "e")
    site = tmp_path / "site.toml"
    site.write_text('[symmetrize]\npartition = "nowhere"\n')
    refused = slurm.nxmpi("submit", scan.wrapper, check=False, env={"NXMPI_SITE": str(site)})
    assert f"{scan.wrapper}: symmetrize: sbatch: " in refused.stderr
    mine = [fields for fields in slurm.jobs() if str(tmp_path) in fields["StdOut"]]
    assert {fields["JobState"] for fields in mine} == {"CANCELLED"}
    assert not (scan.data / "logs").exists() or not [*(scan.data / "logs").iterdir()]
    assert record(scan) == []
    printed = slurm.nxmpi("submit", scan.wrapper, "--dry-run", env={"NXMPI_SITE": str(site)})
    by_hand = slurm.run("bash", "-c", printed.stdout, check=False)
    assert by_hand.returncode == 1
    assert "nvalid partition" in by_hand.stderr
    more = [fields for fields in slurm.jobs() if str(tmp_path) in fields["StdOut"]]
    assert len(more) > len(mine)
    assert {fields["JobState"] for fields in more} == {"CANCELLED"}


@pytest.mark.full
def test_parent_is_known_through_another_link(slurm, three, tmp_path):
    _, (parent, *others) = three
    link = tmp_path / "link"
    link.symlink_to(parent.parent)
    asked = ("--dry-run", "--options", "--only transform", "--parent", link / parent.name)
    printed = slurm.nxmpi("submit", parent, *others, *asked).stdout
    assert "--dependency=afterok:$job1 --kill-on-invalid-dep=yes" in printed


def test_scan_begins_after_its_parent_which_begins_after_its_own(slurm, three):
    _, wrappers = three
    for scan, parent in pairwise(wrappers):  # the first is the last one's grandchild
        with h5py.File(scan, "r+") as file:
            file.require_group("entry/nxscans")["parent"] = parent.name
    printed = slurm.nxmpi("submit", *wrappers, "--dry-run", "--options", "--only transform").stdout
    found = {
        name: (job, dependency)
        for job, dependency, name in re.findall(
            r"^(job\d)=.*?sbatch.*?(?:--dependency=(\S+) .*)?/(triclinite_\d+K)\.nxs", printed, re.M
        )
    }
    assert found == {
        "triclinite_320K": ("job1", ""),
        "triclinite_310K": ("job2", "afterok:$job1"),
        "triclinite_300K": ("job3", "afterok:$job1,afterok:$job2"),
    }


@pytest.mark.full
def test_jobs_get_what_is_set_for_them_and_nothing_of_a_job_that_they_are_submitted_from(
    slurm, oriented, tmp_path
):
    scan = oriented.copy(tmp_path / "e")
    jobs = tmp_path / "job scripts, of this site"
    shutil.copytree(JOBS, jobs)
    site = tmp_path / "site.toml"
    site.write_text(f'jobs = "{jobs}"\nextra = ["--nice=3"]\n')
    env = in_place_of_nxmpi(tmp_path, "unused")
    (tmp_path / "bin" / "nxmpi").write_text("#!/bin/sh\nexec env\n")
    inherited = {
        "SLURM_NTASKS_PER_NODE": "7", "SLURM_RESTART_COUNT": "3", "SLURM_MEM_PER_NODE": "300",
        "SLURM_JOB_ID": "77", "OMPI_COMM_WORLD_RANK": "5",
    }  # fmt: skip
    asked = ("--extra=--comment=nxmpi beamtime", "--options", "--only transform --entry f1")
    slurm.nxmpi("submit", scan.wrapper, *asked, env=env | inherited | {"NXMPI_SITE": str(site)})
    (job,) = record(scan)
    assert slurm.finish(job["job"]) == ["COMPLETED"], logs(scan)
    assert slurm.job(job["job"])["Nice"] == "3"
    variables = Path(job["log"]).read_text().splitlines()
    assert f"NXMPI_JOBS={jobs}" in variables
    wanted = {"NTASKS_PER_NODE=2", f"JOB_ID={job['job']}"}
    names = ("NTASKS_PER_NODE=", "RESTART_COUNT=", "JOB_ID=")
    found = {line.removeprefix("SLURM_") for line in variables if line.startswith("SLURM_")}
    assert {line for line in found if line.startswith(names)} == wanted
    assert "SLURM_MEM_PER_NODE=300" not in variables
    assert "OMPI_COMM_WORLD_RANK=5" not in variables


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.full)])
def test_submission_that_is_ended_half_way_leaves_no_job(slurm, oriented, tmp_path, name):
    scan = oriented.copy(tmp_path / "e")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(
        f'#!/bin/sh\nPATH=${{PATH#*:}}\nsbatch "$@" && touch {tmp_path}/one && exec sleep 2\n'
    )
    (folder / "sbatch").chmod(0o755)
    process = start_mpi(
        0, "-m", "nxmpi", "submit", scan.wrapper,
        env=slurm.environment | {"PATH": f"{folder}:{slurm.environment['PATH']}"},
    )  # fmt: skip
    slurm.until(lambda: (tmp_path / "one").exists())
    process.send_signal(signal.Signals[name])
    ended = finish(process)
    assert ended.returncode == 1
    assert error_lines(ended) == [f"Error: stopped by {name}; nothing was submitted"]
    mine = [fields for fields in slurm.jobs() if str(tmp_path) in fields["StdOut"]]
    assert {fields["JobState"] for fields in mine} == {"CANCELLED"}
    assert record(scan) == []
    assert scan.hidden() == []


def test_job_that_slurm_took_although_sbatch_failed_is_cancelled(slurm, oriented, tmp_path):
    scan = oriented.copy(tmp_path / "e")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(
        '#!/bin/sh\nPATH=${PATH#*:}\nsbatch "$@" || exit\n'
        'echo "sbatch: error: Socket timed out" >&2; exit 1\n'
    )
    (folder / "sbatch").chmod(0o755)
    env = {"PATH": f"{folder}:{slurm.environment['PATH']}"}
    failed = slurm.nxmpi("submit", scan.wrapper, check=False, env=env)
    assert error_lines(failed) == [
        f"Error: {scan.wrapper}: transform: sbatch: Socket timed out; nothing was submitted"
    ]
    mine = [fields for fields in slurm.jobs() if str(tmp_path) in fields["StdOut"]]
    assert [fields["JobState"] for fields in mine] == ["CANCELLED"]
    assert record(scan) == []


def test_second_submission_is_refused_until_the_first_is_cancelled(slurm, oriented, tmp_path):
    scan = oriented.copy(tmp_path / "e")
    slurm.nxmpi("submit", scan.wrapper, LATER, "--extra=--comment=night 1|2")
    jobs = record(scan)
    refused = slurm.nxmpi("submit", scan.wrapper, check=False)
    assert refused.returncode == 1
    (line,) = error_lines(refused)
    for job in jobs:
        task = "" if job["task"] is None else f"_{job['task']}"
        assert f"{job['step']} {job['job']}{task} (PENDING, of " in line
    assert record(scan) == jobs
    cancelled = slurm.nxmpi("cancel", scan.wrapper).stdout
    assert cancelled.count(" cancelled, was PENDING") == len(jobs)
    assert set(slurm.finish(*{job["job"] for job in jobs})) == {"CANCELLED"}
    slurm.nxmpi("submit", scan.wrapper, LATER)
    again = {job["job"] for job in record(scan)}
    assert again.isdisjoint(job["job"] for job in jobs)
    slurm.run("scancel", *again)


def test_lock_of_a_job_on_another_node_is_honoured_until_slurm_says_that_it_ended(
    slurm, oriented, tmp_path
):
    scan = oriented.copy(tmp_path / "e")
    holder = slurm.sbatch("--wrap", "exec sleep 300", "--output", "/dev/null")
    slurm.until(lambda: slurm.state(holder) == "RUNNING")
    config = slurm.run("scontrol", "show", "config").stdout
    cluster = re.search(r"^ClusterName\s*=\s*(\S+)", config, re.MULTILINE)[1]
    owner = dataclasses.replace(Owner.here(), host="node17", job=holder, cluster=cluster)
    lock = scan.lock("f1", "transform")
    lock.write_bytes(owner.content())
    refused = slurm.nxmpi("submit", scan.wrapper, LATER, check=False)
    assert refused.returncode == 1
    (line,) = error_lines(refused)
    by = f"process {owner.pid} on node17 (job {holder})"
    assert f"f1 transform is being computed by {by}" in line
    assert lock.exists()
    assert record(scan) == []
    slurm.run("scancel", holder)
    slurm.finish(holder)
    slurm.nxmpi("submit", scan.wrapper, LATER)
    assert not lock.exists()
    slurm.run("scancel", *{job["job"] for job in record(scan)})


@pytest.fixture
def three(oriented, tmp_path):
    """Return three scans in one folder; frames of the second are gone."""
    scan = oriented.copy(tmp_path / "e")
    wrappers = [scan.wrapper]
    for name in ("310K", "320K"):
        wrappers.append(scan.folder / f"triclinite_{name}.nxs")
        shutil.copy(scan.wrapper, wrappers[-1])
        shutil.copytree(scan.data, scan.folder / name)
        with h5py.File(wrappers[-1], "r+") as file:
            for entry in ("f1", "f2"):
                del file[f"{entry}/data/data"]
                link = h5py.ExternalLink(f"{name}/{entry}.h5", "/entry/data/data")
                file[f"{entry}/data/data"] = link
    return scan, wrappers


@pytest.mark.full
def test_array_goes_on_where_a_step_did_not_fail_and_cancels_what_waits_for_it(slurm, three):
    scan, wrappers = three
    chosen = "--from transform --to combine"
    slurm.nxmpi("submit", *wrappers, LATER, "--ranks-per-node", 1, "--options", chosen)
    records = [json.loads(path.with_suffix(".jobs.json").read_text())["jobs"] for path in wrappers]
    assert [[job["task"] for job in jobs] for jobs in records] == [[0, 0], [1, 1], [2, 2]]
    transform, combine = (records[0][i]["job"] for i in (0, 1))
    (scan.folder / "310K" / "f2.h5").unlink()
    for job in (transform, combine):
        slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    slurm.finish(transform, combine)
    assert [slurm.state(transform, task) for task in range(3)] == [
        "COMPLETED", "FAILED", "COMPLETED",
    ]  # fmt: skip
    assert [slurm.state(combine, task) for task in range(3)] == [
        "COMPLETED", "CANCELLED", "COMPLETED",
    ]  # fmt: skip
    said = slurm.nxmpi("logs", wrappers[1], "transform").stdout
    assert "Error: " in said
    assert "f2.h5" in said
    (told,) = json.loads(slurm.nxmpi("status", wrappers[1], "--json").stdout)
    assert told["steps"]["transform"]["state"] == "failed", told
    assert "status 1" in json.dumps(told["steps"]["transform"])
    there = [(scan.folder / name / "transform.nxs").exists() for name in ("300K", "310K", "320K")]
    assert there == [True, False, True]


FRAMES = 24


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """Return a simulated scan with orientation."""
    root = tmp_path_factory.mktemp("longer") / "e"
    return simulated(root, "--frames", FRAMES)


@pytest.fixture(scope="module")
def transformed(longer, tmp_path_factory, slurm):
    """Return the same scan, f1 transformed by one rank without Slurm."""
    scan = longer.copy(tmp_path_factory.mktemp("transformed") / "e")
    slurm.nxmpi("transform", scan.wrapper, "--entry", "f1")
    return scan


def frames_told(folder, restarts):
    """Return the frames that all ranks worked on after so many restarts."""
    texts = [path.read_text() for path in (folder / f"told-{restarts}").glob("*.frames")]
    return {int(n) for text in texts for line in text.splitlines() for n in line.split()[1:]}


def submit_slowly(slurm, scan, tmp_path, *options, seconds=4, **changes):
    """Submit the transform of f1 by hand, whose first run is slow a batch; return job and log."""
    first = "[ ${SLURM_RESTART_COUNT:-0} = 0 ] && [ -z $NXMPI_WENT_ON ]"
    pause = f"$({first} && echo {seconds} || echo 0)"
    env = in_place_of_nxmpi(tmp_path, "tell_frames.py", "@", pause)
    args = ("--nodes=2", "--ntasks-per-node=1", f"--output={tmp_path}/log", *options)
    what = (JOBS / "transform.sbatch", scan.wrapper, "--entry", "f1", "--batch-frames", "2")
    job = slurm.sbatch(*args, *what, env=env | changes)
    slurm.until(lambda: frames_told(tmp_path, 0))
    return job, tmp_path / "log"


def assert_went_on(scan, transformed, tmp_path):
    before, after = frames_told(tmp_path, 0), frames_told(tmp_path, 1)
    assert before
    assert before.isdisjoint(after)
    assert before | after == set(range(FRAMES))
    assert_same(scan, transformed)


def test_job_that_hears_a_signal_requeues_itself_and_goes_on_to_the_same_bits(
    slurm, longer, transformed, tmp_path
):
    scan = longer.copy(tmp_path / "e")
    job, log = submit_slowly(slurm, scan, tmp_path)
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    assert slurm.finish(job) == ["COMPLETED"], log.read_text()
    assert slurm.job(job)["Restarts"] == "1"
    text = log.read_text()
    assert text.count("stopped by SIGUSR1: run the same command again to go on") == 1
    assert text.count(f" job {job} on ") == 2
    assert_went_on(scan, transformed, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("mpi", ["pmix", "mpiexec"])
def test_job_that_is_signalled_before_its_program_is_ready_goes_on(slurm, tmp_path, mpi):
    env = in_place_of_nxmpi(tmp_path, "unused")
    (tmp_path / "bin" / "nxmpi").write_text(
        '#!/bin/sh\n[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exec echo "second start"\n'
        f"touch {tmp_path}/started\nexec sleep 600\n"
    )
    job = slurm.sbatch(
        "--nodes=1", "--ntasks-per-node=2", f"--output={tmp_path}/log", JOBS / "pdf.sbatch",
        "scan.nxs", env=env | {"NXMPI_MPI": mpi},
    )  # fmt: skip
    slurm.until(lambda: (tmp_path / "started").exists())
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    assert slurm.finish(job) == ["COMPLETED"], (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text().count("second start") == 2


@pytest.mark.full
def test_task_of_an_array_goes_on_alone(slurm, longer, transformed, tmp_path):
    scan = longer.copy(tmp_path / "e")
    env = in_place_of_nxmpi(tmp_path, "tell_frames.py", "@", 0.5)
    what = (JOBS / "transform.sbatch", scan.wrapper, "--batch-frames", "2")
    args = ("--nodes=1", "--ntasks-per-node=1", "--array=1,2", f"--output={tmp_path}/%a.log")
    job = slurm.sbatch(*args, *what, env=env)
    tasks = slurm.until(
        lambda: [fields for fields in slurm.jobs() if fields.get("ArrayJobId") == job
                 and fields["JobState"] == "RUNNING"][1:] and slurm.jobs()
    )  # fmt: skip
    (whole,) = (int(fields["ArrayTaskId"]) for fields in tasks if fields["JobId"] == job)
    slurm.until(lambda: "transform" in (tmp_path / f"{whole}.log").read_text())
    slurm.until(lambda: frames_told(tmp_path, 0))
    slurm.run("scancel", "--batch", "--signal=USR1", f"{job}_{whole}")
    assert slurm.finish(job) == ["COMPLETED"] * 2
    restarts = {task: slurm.job(job, task)["Restarts"] for task in (1, 2)}
    assert restarts == {whole: "1", 3 - whole: "0"}
    assert not volumes(transformed).keys() - volumes(scan).keys()


@pytest.mark.full
@pytest.mark.parametrize("mpi", ["pmix", "mpiexec"])
def test_job_near_its_time_limit_stops_and_goes_on_to_the_same_bits(
    slurm, longer, transformed, tmp_path, mpi
):
    scan = longer.copy(tmp_path / "e")
    # Slurm sends it up to a minute before it is due: 60 to 120 s after the start
    limits = ("--time=3", "--signal=B:USR1@60")
    job, log = submit_slowly(slurm, scan, tmp_path, *limits, seconds=25, NXMPI_MPI=mpi)
    assert slurm.finish(job, limit=240) == ["COMPLETED"], log.read_text()
    assert slurm.job(job)["Restarts"] == "1"
    assert "stopped by SIGUSR1" in log.read_text()
    assert_went_on(scan, transformed, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("how", ["submit", "requeue"])
def test_job_that_may_not_be_requeued_has_a_successor_for_which_others_wait(
    slurm, longer, transformed, tmp_path, how
):
    scan = longer.copy(tmp_path / "e")
    job, log = submit_slowly(slurm, scan, tmp_path, "--no-requeue", NXMPI_GO_ON=how)
    after = slurm.sbatch(
        f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes", "--output=/dev/null",
        "--wrap", f"ls {scan.data}/f1_transform.nxs",
    )  # fmt: skip
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    assert slurm.finish(job) == ["COMPLETED"], log.read_text()
    found = slurm.until(lambda: re.search(r"job (\d+) goes on in place", log.read_text()))
    assert slurm.finish(found[1]) == ["COMPLETED"], log.read_text()
    assert slurm.finish(after) == ["COMPLETED"]
    assert slurm.job(found[1])["Comment"] == "nxmpi"  # and the number of the first
    assert_same(scan, transformed)


@pytest.mark.full
def test_job_is_not_gone_on_with_for_ever(slurm, longer, tmp_path):
    scan = longer.copy(tmp_path / "e")
    job, log = submit_slowly(slurm, scan, tmp_path, NXMPI_GO_ON_MOST="0")
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    assert slurm.finish(job) == ["FAILED"], log.read_text()
    assert slurm.job(job)["ExitCode"] == "75:0"
    assert "stopped again after 0 times: not gone on with" in log.read_text()


@pytest.mark.full
@pytest.mark.parametrize("how", ["requeue", "node"])
def test_job_that_slurm_requeues_begins_again_to_the_same_bits(
    slurm, longer, transformed, tmp_path, how
):
    scan = longer.copy(tmp_path / "e")
    job, log = submit_slowly(slurm, scan, tmp_path)
    if how == "requeue":
        slurm.run("scontrol", "requeue", job)
    else:
        slurm.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
        slurm.until(lambda: slurm.state(job) == "PENDING")
        # it may have come back by itself: ReturnToService
        slurm.run("scontrol", "update", "NodeName=n2", "State=RESUME", check=False)
    assert slurm.finish(job) == ["COMPLETED"], log.read_text()
    assert slurm.job(job)["Restarts"] == "1"
    assert frames_told(tmp_path, 0) | frames_told(tmp_path, 1) == set(range(FRAMES))
    assert_same(scan, transformed)


@pytest.mark.full
def test_job_cancelled_while_it_writes_leaves_nothing_half_written(
    slurm, longer, transformed, tmp_path
):
    scan = longer.copy(tmp_path / "e")
    before = contents(scan.wrapper)
    env = in_place_of_nxmpi(tmp_path, "kill_at.py", "after-round:f1_transform.nxs", 0, "--stop")
    args = ("--nodes=1", "--ntasks-per-node=2", f"--output={tmp_path}/log")
    job = slurm.sbatch(*args, JOBS / "transform.sbatch", scan.wrapper, "--entry", "f1", env=env)
    slurm.until(lambda: (scan.data / ".f1_transform.nxs.tmp").exists())
    slurm.run("scancel", job)
    assert slurm.finish(job) == ["CANCELLED"]
    slurm.until(lambda: not slurm.run("squeue", "-h", "-j", job, check=False).stdout)
    for path in volumes(scan):
        contents(scan.data / path)
    if not (scan.data / "f1_transform.nxs").exists():
        assert contents(scan.wrapper) == before
    assert slurm.job(job)["Restarts"] == "0"
    slurm.nxmpi("transform", scan.wrapper, "--entry", "f1")
    assert_same(scan, transformed)
