"""The job scripts: valid shell, and commands that the program takes."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from mpi4py import MPI

from nxmpi.cli.main import cli
from nxmpi.pipeline.reduce import STEPS

pytestmark = pytest.mark.parallel([1])
JOBS = Path(__file__).parents[2] / "jobs"
SCRIPTS = sorted(JOBS.glob("*.sbatch"))
STANDS_FOR = {
    '"$scan"': "scan.nxs", '"${scratch[@]}"': "--scratch /scratch", '"${entry[@]}"': "--entry f1",
    '"$@"': "",
}  # fmt: skip


def test_there_is_one_script_a_step_and_one_for_everything():
    assert {script.stem for script in SCRIPTS} == {*STEPS, "reduce"}


@pytest.mark.parametrize("script", [*SCRIPTS, *sorted(JOBS.glob("*.sh"))], ids=lambda p: p.name)
def test_script_is_valid_shell(script):
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def parse(line):
    for name, value in STANDS_FOR.items():
        line = line.replace(name, value)
    assert "$" not in line, line
    name, *args = shlex.split(line)
    return cli.commands[name].make_context(name, args, obj=MPI.COMM_SELF)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_command_of_a_script_is_understood(script):
    lines = re.findall(r"^run nxmpi (.+)$", script.read_text(), re.MULTILINE)
    assert len(lines) == 1
    context = parse(lines[0])
    assert context.info_name == script.stem
    assert context.params["scan"] == Path("scan.nxs")
    taken = {option for one in context.command.params for option in one.opts}
    assert ("--scratch" in taken) == ("scratch" in lines[0])


def test_misspelt_option_would_be_found():
    with pytest.raises(click.NoSuchOption):
        parse('transform "$scan" --scrach x')


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_script_asks_for_a_signal_to_its_shell_and_appends_to_its_log(script):
    text = script.read_text()
    told = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE))
    assert told["signal"] == "B:USR1@300"
    assert told["open-mode"] == "append"
    assert told["output"] == f"%x-{script.stem}-%j.log"
    assert "requeue" in told


@pytest.mark.parametrize(
    ("sockets", "cores", "cpus", "variables", "ranks"),
    [
        (2, 8, 16, {}, 16),
        (2, 8, 32, {}, 16),
        (2, 8, 32, {"SLURM_CPUS_PER_TASK": "2"}, 16),
        (2, 8, 32, {"SLURM_CPUS_PER_TASK": "4"}, 8),
        (2, 8, 32, {"SLURM_CPUS_ON_NODE": "8"}, 4),
        (2, 8, 32, {"SLURM_NTASKS_PER_NODE": "5"}, 5),
        (2, 8, 32, {"SLURM_NTASKS_PER_NODE": "5", "NXMPI_RANKS_PER_NODE": "3"}, 3),
        (2, 8, 32, {"SLURM_NTASKS_PER_NODE": "5", "NXMPI_RANKS_PER_NODE": ""}, 5),
        (2, 8, 32, {"SLURM_NTASKS_PER_NODE": "5", "SLURM_NTASKS": "8"}, 5),
        (2, 8, 32, {"SLURM_NTASKS": "8"}, 4),
    ],
)
def test_job_has_a_rank_for_each_core_by_default(tmp_path, sockets, cores, cpus, variables, ranks):
    told = (
        f"NodeName=n1 CoresPerSocket={cores}\n   CPUAlloc=1 CPUEfctv=9 CPUTot={cpus} CPULoad=1.5\n"
    )
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho '{told}   Sockets={sockets} Boards=1'\n")
    (tmp_path / "scontrol").chmod(0o755)
    script = f'. {JOBS / "environment.sh"}; echo "$NXMPI_RANKS_PER_NODE"'
    job = {
        "SLURM_CPUS_ON_NODE": str(cpus), "SLURMD_NODENAME": "n1", "SLURM_JOB_NUM_NODES": "2",
    }  # fmt: skip
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | job | variables
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)
    assert (result.stdout, result.stderr) == (f"{ranks}\n", "")


@pytest.fixture
def run_job(tmp_path):
    """Return a function that runs a script as a job; what would be started is in a file."""
    (tmp_path / "srun").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/started\n')
    (tmp_path / "srun").chmod(0o755)

    def run(jobs, script, *args, **variables):
        job = {
            "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1",
            "SLURM_NTASKS_PER_NODE": "1", "NXMPI_JOBS": str(jobs),
            "PATH": f"{tmp_path}:/usr/bin:/bin",
        }  # fmt: skip
        result = subprocess.run(
            ["bash", jobs / f"{script}.sbatch", *args], capture_output=True, text=True,
            env=job | variables,
        )  # fmt: skip
        started = tmp_path / "started"
        return result, started.read_text() if started.exists() else ""

    return run


def test_array_over_positions_is_for_the_transform_alone(run_job):
    result, started = run_job(JOBS, "transform", "a.nxs", SLURM_ARRAY_TASK_ID="2")
    assert (result.returncode, result.stderr) == (0, "")
    assert started.endswith(" nxmpi transform a.nxs --entry f2\n")


@pytest.mark.parametrize("script", sorted({*STEPS, "reduce"} - {"transform"}))
def test_other_scripts_refuse_an_array_for_one_scan(run_job, script):
    result, started = run_job(JOBS, script, "a.nxs", "--verbose", SLURM_ARRAY_TASK_ID="2")
    assert result.returncode == 2
    assert result.stderr == (
        "expected an array over several scans, or over positions in transform.sbatch; "
        "found task 2 for one scan\n"
    )
    assert started == ""
    result, started = run_job(JOBS, script, "a.nxs", "b.nxs", SLURM_ARRAY_TASK_ID="1")
    assert (result.returncode, result.stderr) == (0, "")
    assert started.endswith(f" nxmpi {script} b.nxs\n")


def test_site_may_use_variables_that_are_not_set(run_job, tmp_path):
    jobs = tmp_path / "jobs"
    shutil.copytree(JOBS, jobs)
    edited = (jobs / "environment.sh").read_text().replace(
        '# source "$HOME/nxmpi/.venv/bin/activate"', 'site="$_CE_CONDA"; false; export site=ours'
    )  # fmt: skip
    assert "site=ours" in edited
    (jobs / "environment.sh").write_text(edited)
    (tmp_path / "srun").write_text("#!/bin/sh\necho $site\n")
    result, _ = run_job(jobs, "pdf", "a.nxs")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\nours\n")
