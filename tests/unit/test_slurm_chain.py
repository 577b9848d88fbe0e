"""Chains of jobs, and what they look like for sbatch."""

import subprocess
from pathlib import Path

import pytest

from nxmpi.errors import InputError
from nxmpi.slurm.chain import Wait, Work, plan_chain
from nxmpi.slurm.command import BatchError
from nxmpi.slurm.params import SubmitParams
from nxmpi.slurm.sbatch import (
    command_line,
    log_file,
    settings_of,
    shell_script,
    submit,
)
from nxmpi.slurm.site import read_site, write_site

pytestmark = pytest.mark.parallel([1])
BOTH = ("f1", "f2")
STEPS = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")
PARAMS = SubmitParams(jobs=Path("/jobs"))


def work(name, steps=STEPS, positions=BOTH, folder="/e/s/l", **options):
    return Work(
        wrapper=Path(folder) / f"s_{name}.nxs",
        folder=Path(folder) / name,
        steps=dict.fromkeys(steps, positions),
        options={step: tuple(options.get(step, ())) for step in steps},
    )


def after(chain):
    """Return for each job of a chain which others it waits for."""
    return [[wait.index for wait in planned.waits] for planned in chain]


def test_a_scan_alone_has_a_job_for_each_step_and_a_task_for_each_position():
    chain = plan_chain([work("300K")])
    assert [planned.step for planned in chain] == [*STEPS]
    assert after(chain) == [[], [0], [1], [2], [3], [4]]
    assert [planned.tasks for planned in chain] == [(), (), (1, 2), (), (), ()]
    assert chain[2].log == Path("/e/s/l/300K/logs/s_300K-transform")


@pytest.mark.parametrize("positions", [("f1",), ("f1", "back"), ("entry", "f2")])
def test_positions_that_no_task_can_stand_for_share_a_job(positions):
    assert plan_chain([work("300K", positions=positions)])[2].tasks == ()


def test_positions_are_together_where_that_is_wished():
    assert plan_chain([work("300K")], together=True)[2].tasks == ()


def test_scans_of_which_the_same_is_left_share_arrays():
    works = [work("300K"), work("310K"), work("320K", ("combine", "pdf")), work("330K")]
    chain = plan_chain(works)
    shared, alone = chain[:6], chain[6:]
    assert {planned.tasks for planned in shared} == {(0, 1, 2)}
    assert [path.name for path in shared[0].wrappers] == [f"s_{n}K.nxs" for n in (300, 310, 330)]
    assert {wait.tasks for planned in shared for wait in planned.waits} == {"matching"}
    assert after(chain) == [[], [0], [1], [2], [3], [4], [], [6]]
    assert [planned.step for planned in alone] == ["combine", "pdf"]


def test_scans_with_other_options_or_of_other_folders_share_none():
    works = [work("300K"), work("310K", pdf=("--radius", "0.3")), work("320K", folder="/e/s/m")]
    assert len(plan_chain(works)) == 18


def test_others_begin_after_the_transform_of_their_parent():
    works = [work("310K"), work("300K"), work("320K")]
    chain = plan_chain(works, parents={works[1].wrapper: None})
    assert chain[0].wrappers == (works[1].wrapper,)
    assert chain[2].step == "transform"
    assert chain[6].wrappers == (works[0].wrapper, works[2].wrapper)
    assert chain[6].waits == (Wait(index=2),)


def test_others_do_not_wait_for_a_parent_that_is_transformed():
    works = [work("310K"), work("300K", ("pdf",))]
    chain = plan_chain(works, parents={works[1].wrapper: None})
    assert after(chain)[:2] == [[], []]


def test_a_parent_begins_after_the_transform_of_its_own():
    c, b, a, other = (work(name) for name in ("c", "b", "a", "other"))
    parents = {b.wrapper: a.wrapper, a.wrapper: None}
    chain = plan_chain([c, b, a, other], parents=parents)
    firsts = [planned for planned in chain if planned.step == "frames"]
    names = [[path.stem for path in planned.wrappers] for planned in firsts]
    assert names == [["s_a"], ["s_b"], ["s_c", "s_other"]]
    assert [planned.waits for planned in firsts] == [
        (), (Wait(index=2),), (Wait(index=2), Wait(index=8)),
    ]  # fmt: skip
    # one of which all is done hands on what it would have waited for
    chain = plan_chain([c, a], parents=parents)
    assert chain[6].waits == (Wait(index=2),)


def test_a_parent_of_its_own_parent_is_refused():
    a, b = work("a"), work("b")
    with pytest.raises(InputError, match=r"parent of its parent, found .*s_a\.nxs, .*s_b\.nxs"):
        plan_chain([a, b], parents={a.wrapper: b.wrapper, b.wrapper: a.wrapper})


def test_command_line_of_an_array_that_waits():
    chain = plan_chain([work("300K"), work("310K")])
    params = SubmitParams(jobs=Path("/jobs"), nodes=4, ranks_per_node=8, mpi="pmi2", time="5")
    words = command_line(chain[1], params, [17], hold=False)
    assert words[:2] == ["sbatch", "--parsable"]
    assert words[-3:] == ["/jobs/orient.sbatch", "/e/s/l/s_300K.nxs", "/e/s/l/s_310K.nxs"]
    assert {
        "--dependency=aftercorr:17", "--kill-on-invalid-dep=yes", "--array=0,1", "--nodes=4",
        "--ntasks-per-node=8", "--time=5", "--output=/e/s/l/logs/s_300K+1-orient-%A_%a.log",
        "--export=ALL",
    } < {*words}  # fmt: skip
    assert "--hold" not in words


def test_log_is_where_it_is_looked_for_whatever_the_folder_is_called():
    (job,) = plan_chain([work("300K", ("pdf",), folder="/e/50%As/100%")])
    words = command_line(job, PARAMS, [], hold=False)
    assert "--output=/e/50%%As/100%%/300K/logs/s_300K-pdf-%j.log" in words
    assert log_file(job.log, 7, None) == Path("/e/50%As/100%/300K/logs/s_300K-pdf-7.log")
    (job,) = plan_chain([work("300K", ("pdf",), folder="/e/a\\b")])
    with pytest.raises(BatchError, match=r"^/e/a\\b/300K/logs: expected no backslash where Slurm"):
        command_line(job, PARAMS, [], hold=False)


def test_what_the_script_of_a_job_finds_as_variables():
    params = SubmitParams(jobs=Path("/a, b"), mpi="pmi2", extra=("--qos=low", "--signal=B:USR1@9"))
    assert settings_of(params) == {
        "NXMPI_JOBS": "/a, b", "NXMPI_MPI": "pmi2", "NXMPI_EXTRA": "--qos=low\n--signal=B:USR1@9",
    }  # fmt: skip
    assert settings_of(PARAMS) == {"NXMPI_JOBS": "/jobs"}
    params = SubmitParams(jobs=Path("/jobs"), ranks_per_node=8)
    assert settings_of(params) == {"NXMPI_JOBS": "/jobs", "NXMPI_RANKS_PER_NODE": ""}


def test_shell_script_holds_what_waits_for_nothing_until_the_end():
    chain = plan_chain([work("300K", ("combine", "pdf")), work("a b", ("pdf",))])
    lines = shell_script(chain, [PARAMS] * 3).splitlines()
    jobs = [line for line in lines if line.startswith("job")]
    assert [" --hold " in line for line in jobs] == [True, False, True]
    assert "--dependency=afterok:$job1" in jobs[1]
    assert "'/e/s/l/s_a b.nxs'" in jobs[2]
    assert "mkdir -p '/e/s/l/a b/logs'" in lines
    assert lines[-1] == "scontrol release $job1 $job3"


def test_no_jobs_need_no_script():
    assert shell_script([], []) == ""


@pytest.fixture
def site(tmp_path):
    """Return a function that reads defaults from a text."""
    (tmp_path / "jobs").mkdir()
    for name in ("environment.sh", "run.sh"):
        (tmp_path / "jobs" / name).touch()

    def read(text, **given):
        path = tmp_path / "site.toml"
        path.write_text(f'jobs = "{tmp_path}/jobs"\n{text}')
        return read_site(path, STEPS, given)

    return read


def test_command_line_overrides_the_site_and_its_steps(site):
    text = 'nodes = 2\naccount = "a"\n[transform]\nnodes = 8\ntime = "5"\n'
    read = site(text)
    assert [read.of_step(step).nodes for step in STEPS] == [2, 1, 8, 2, 2, 2]
    assert read.of_step("transform").time == "5"
    read = site(text, nodes=3)
    assert [read.of_step(step).nodes for step in STEPS] == [3, 1, 3, 3, 3, 3]
    assert read.of_step("transform").account == "a"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes =", r"site\.toml: expected TOML"),
        ("nods = 1", r"site\.toml: nods: expected one of jobs, nodes"),
        ('nodes = "1"', r"site\.toml: nodes: expected a whole number, found '1'"),
        ("[pdf]\ntime = 5", r"site\.toml: pdf\.time: expected a text, found 5"),
        ("pdf = 5", r"site\.toml: pdf: expected a table, found 5"),
        ("[pdfs]\nnodes = 1", r"site\.toml: pdfs: expected one of jobs"),
        ("nodes = 0", "nodes: expected 1 or more, found 0"),
        ('extra = ["x"]', "extra: expected options of sbatch, found 'x'"),
    ],
)
def test_mistake_in_the_sites_defaults_is_named(site, text, told):
    with pytest.raises(InputError, match=told):
        site(text)


def test_folder_without_job_scripts_is_named(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(f'jobs = "{tmp_path}"\n')
    with pytest.raises(InputError, match=r"expected the job scripts, found no environment\.sh"):
        read_site(path, STEPS, {})


def test_defaults_that_are_written_are_read_and_never_replaced(tmp_path):
    path = tmp_path / "nxmpi" / "site.toml"
    write_site(path)
    site = read_site(path, STEPS, {})
    assert (site.params.jobs / "transform.sbatch").is_file()
    commented = path.read_text().replace("# ranks", "ranks").replace("# [transform]", "[transform]")
    path.write_text(commented)
    assert read_site(path, STEPS, {}).params.ranks_per_node == 32
    with pytest.raises(InputError, match="is there already, and is kept"):
        write_site(path)
    assert path.read_text() == commented


def test_table_of_orient_leaves_it_one_node(site):
    read = site('nodes = 4\n[orient]\ntime = "5"\n')
    assert (read.of_step("orient").nodes, read.of_step("orient").time) == (1, "5")
    assert site("[orient]\nnodes = 2\n", nodes=8).of_step("orient").nodes == 2


def test_further_options_of_the_command_line_are_added_to_those_of_the_site(site):
    read = site('extra = ["--qos=low"]\n[pdf]\nextra = ["--qos=high"]\n', extra=("--nice",))
    assert read.of_step("frames").extra == ("--qos=low", "--nice")
    assert read.of_step("pdf").extra == ("--qos=high", "--nice")


@pytest.mark.parametrize(
    ("option", "taken"),
    [
        ("--dependency=afterok:1", "--dependency"), ("--dep=afterok:1", "--dependency"),
        ("-d afterok:1", "--dependency"), ("-Jx", "--job-name"), ("--jo=x", "--job-name"),
        ("--hold", "--hold"), ("-sH", "--hold"), ("-a0-3", "--array"), ("--arr=0-3", "--array"),
        ("-oslurm.out", "--output"), ("--error=x", "--error"), ("-W", "--wait"),
        ("--test", "--test-only"), ("--wrap=true", "--wrap"), ("--export=NONE", "--export"),
        ("--parsable", "--parsable"), ("--kill-on-invalid-dep=no", "--kill-on-invalid-dep"),
        ("-M other", "--clusters"), ("--clusters=other", "--clusters"),
        ("--cluster=other", "--clusters"),
    ],
)  # fmt: skip
def test_options_that_the_chain_needs_are_refused(option, taken):
    told = f"^extra: expected no {taken}, found '{option}': "
    with pytest.raises(InputError, match=told):
        SubmitParams(jobs=Path("/jobs"), extra=("--qos=low", option))


@pytest.mark.parametrize("option", ["x", "", "-", "--", "=x"])
def test_what_is_no_option_of_sbatch_is_refused(option):
    with pytest.raises(InputError, match=r"^extra: expected options of sbatch, found "):
        SubmitParams(jobs=Path("/jobs"), extra=(option,))


def test_other_options_of_sbatch_are_taken():
    extra = (
        "--wait-all-nodes=1", "--cluster-constraint=a", "--begin=now+1hour", "--comment=a=b",
        "--nice", "--signal=B:USR1@900", "-C haswell", "-s", "-wn1", "--exclusive", "-qHigh",
    )  # fmt: skip
    assert SubmitParams(jobs=Path("/jobs"), extra=extra).extra == extra


@pytest.mark.parametrize("name", ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
def test_another_cluster_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, "other")
    with pytest.raises(BatchError, match=f"^{name}: expected jobs for the cluster of this"):
        submit(plan_chain([work("300K", ("pdf",))]), [PARAMS], lambda ids: None)


def test_jobs_that_wait_for_none_begin_after_another_that_is_named():
    chain = plan_chain([work("300K", ("combine", "pdf"))])
    params = SubmitParams(jobs=Path("/jobs"), after="12:13_1")
    first, second = (command_line(job, params, [17], hold=False) for job in chain)
    assert {"--dependency=afterok:12:13_1", "--kill-on-invalid-dep=yes"} < {*first}
    assert "--dependency=afterok:17" in second


@pytest.mark.parametrize("after", ["", "x", "12,13", "afterok:12", "12:", "$(id)"])
def test_what_is_no_number_of_a_job_is_refused(after):
    with pytest.raises(InputError, match=r"^after: expected jobs as 12 or 12:13, found"):
        SubmitParams(jobs=Path("/jobs"), after=after)


@pytest.fixture
def answering(commands):
    """Return the same, with commands that succeed and say nothing."""
    put, calls = commands
    for name in ("squeue", "scancel", "scontrol"):
        put(name)
    return put, calls


LEFT_OVER = {
    "NXMPI_RANKS_PER_NODE": "3", "NXMPI_WENT_ON": "7", "NXMPI_FIRST_JOB": "1", "NXMPI_EXTRA": "-x",
    "SBATCH_WAIT": "1", "SBATCH_ARRAY_INX": "0-9", "SBATCH_NO_REQUEUE": "1", "SBATCH_SIGNAL": "9",
    "SBATCH_OPEN_MODE": "truncate", "SBATCH_ERROR": "x",
}  # fmt: skip


@pytest.mark.parametrize("by_hand", [False, True], ids=["submit", "dry run"])
def test_what_is_exported_overrides_nothing(answering, tmp_path, monkeypatch, by_hand):
    put, calls = answering
    put("sbatch", f"env >{tmp_path}/env; echo 12")
    for name, value in (LEFT_OVER | {"SBATCH_ACCOUNT": "a", "NXMPI_GO_ON": "submit"}).items():
        monkeypatch.setenv(name, value)
    chain = plan_chain([work("300K", ("pdf",), folder=tmp_path)])
    params = [SubmitParams(jobs=Path("/jobs"), ranks_per_node=8)]
    if by_hand:
        subprocess.run(["bash", "-c", shell_script(chain, params)], check=True)
    else:
        submit(chain, params, lambda ids: None)
    assert "--ntasks-per-node=8 " in calls.read_text()
    found = {*(tmp_path / "env").read_text().splitlines()}
    left = {line for line in found if line.partition("=")[0] in LEFT_OVER}
    assert left == {"NXMPI_RANKS_PER_NODE="}
    assert {"SBATCH_ACCOUNT=a", "NXMPI_GO_ON=submit"} < found


def commands_like_those_of_a_site(answering, banner):
    """Let sbatch count jobs from 11 on, and say more than their numbers."""
    put, calls = answering
    count = calls.with_name("count")
    count.write_text("10")
    next_number = f"n=$(($(cat {count}) + 1)); echo $n >{count}"
    put("sbatch", f"{next_number}; {banner}")
    return calls


@pytest.mark.parametrize(
    "banner",
    [
        "echo $n",
        "echo '* 2 projects *'; echo 7 left; echo; echo $n",
        'echo 99; echo "$n;cluster 1"',
        "echo $n; echo Goodbye",
    ],
)
@pytest.mark.parametrize("by_hand", [False, True], ids=["submit", "dry run"])
def test_number_of_a_job_is_found_in_whatever_sbatch_says(answering, tmp_path, banner, by_hand):
    calls = commands_like_those_of_a_site(answering, banner)
    chain = plan_chain([work("300K", ("combine", "pdf"), folder=tmp_path)])
    if by_hand:
        subprocess.run(["bash", "-c", shell_script(chain, [PARAMS] * 2)], check=True)
    else:
        assert submit(chain, [PARAMS] * 2, lambda ids: None) == [11, 12]
    first, second, release = calls.read_text().splitlines()
    assert "--dependency" not in first
    assert "--dependency=afterok:11 " in second
    assert release == "scontrol release 11"


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        ("echo Hello", "sbatch: expected the number of a job, found 'Hello'"),
        ("echo 'sbatch: error: Socket timed out' >&2; exit 1", "sbatch: Socket timed out"),
    ],
)
def test_job_that_is_in_the_queue_although_sbatch_told_no_number_is_cancelled(
    answering, tmp_path, fails, told
):
    put, _ = answering
    calls = commands_like_those_of_a_site(answering, f"[ $n = 11 ] && echo $n && exit; {fails}")
    chain = plan_chain([work("300K", ("combine", "pdf"), folder=tmp_path, pdf=("--radius", "1"))])
    scan = chain[0].wrappers[0]
    queue = (
        f"11 s_300K-combine /jobs/combine.sbatch {scan}",
        f"12 s_300K-pdf /jobs/pdf.sbatch {scan} --radius 1",
        f"13 s_300K-pdf /jobs/pdf.sbatch /e/{scan.name} --radius 1",
        f"14 s_300K-pdf /jobs/pdf.sbatch {scan} --radius 2",
        f"15 b s_300K-pdf /jobs/pdf.sbatch {scan} --radius 1",
    )
    put("squeue", "cat <<END\n" + "\n".join(queue) + "\nEND")
    with pytest.raises(BatchError) as caught:
        submit(chain, [PARAMS] * 2, lambda ids: None)
    assert str(caught.value) == f"{scan}: pdf: {told}; nothing was submitted"
    cancelled = [line for line in calls.read_text().splitlines() if line.startswith("scancel")]
    assert cancelled == ["scancel 12", "scancel 11"]


def test_a_queue_that_cannot_be_looked_at_is_told(answering, tmp_path):
    put, _ = answering
    put("sbatch", "echo 'sbatch: error: Socket timed out' >&2; exit 1")
    put("squeue", "echo 'slurm_load_jobs error: no contact' >&2; exit 1")
    told = "Socket timed out; it may be in the queue nevertheless: squeue: slurm_load"
    with pytest.raises(BatchError, match=told):
        submit(plan_chain([work("a", ("pdf",), folder=tmp_path)]), [PARAMS], lambda ids: None)
