"""The job scripts: valid shell, and commands that the program takes."""

import re
import shlex
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
    ],
)
def test_job_has_a_rank_for_each_core_by_default(tmp_path, sockets, cores, cpus, variables, ranks):
    told = (
        f"NodeName=n1 CoresPerSocket={cores}\n   CPUAlloc=1 CPUEfctv=9 CPUTot={cpus} CPULoad=1.5\n"
    )
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho '{told}   Sockets={sockets} Boards=1'\n")
    (tmp_path / "scontrol").chmod(0o755)
    script = f'. {JOBS / "environment.sh"}; echo "$NXMPI_RANKS_PER_NODE"'
    job = {"SLURM_CPUS_ON_NODE": str(cpus), "SLURMD_NODENAME": "n1"}
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | job | variables
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)
    assert (result.stdout, result.stderr) == (f"{ranks}\n", "")
