"""A failure on one rank is a failure on all, told once."""

import time

import pytest

from nxmpi.errors import CollectiveError, InputError
from nxmpi.parallel.collective import all_or_none, describe, first_to_speak, on_root, or_abort

from pytest_mpi import parallel_assert  # isort: skip

RANKS = [1, 2, 3, 4, 7]


def message(comm, body):
    """Return what is raised by a body under `all_or_none`, the same on all ranks."""
    with pytest.raises(CollectiveError) as caught, all_or_none(comm):
        body()
    texts = comm.allgather(str(caught.value))
    parallel_assert(len(set(texts)) == 1, msg=f"different texts: {texts}")
    return texts[0]


def fail(error):
    raise error


@pytest.mark.parallel(RANKS)
def test_success_everywhere_is_silent(comm):
    with all_or_none(comm):
        pass
    assert comm.allgather(comm.rank) == list(range(comm.size))


@pytest.mark.parallel(RANKS)
def test_failure_on_all_ranks_is_told_without_them(comm):
    assert message(comm, lambda: fail(InputError("scan.nxs: bad"))) == "scan.nxs: bad"


@pytest.mark.parallel(RANKS)
def test_failure_on_the_last_rank_names_it(comm):
    text = message(
        comm, lambda: fail(InputError("scan.nxs: bad")) if comm.rank == comm.size - 1 else None
    )
    assert text == ("scan.nxs: bad" if comm.size == 1 else f"scan.nxs: bad [rank {comm.size - 1}]")


@pytest.mark.parallel([3, 4, 7])
def test_failure_on_some_ranks_names_them(comm):
    text = message(comm, lambda: fail(ValueError(f"r{comm.rank}")) if comm.rank in (1, 2) else None)
    assert text == "ValueError: r1 [ranks 1, 2]"


@pytest.mark.parallel([1, 3])
def test_cause_is_kept_on_the_rank_that_failed(comm):
    error = KeyError("v")
    with pytest.raises(CollectiveError) as caught, all_or_none(comm):
        fail(error) if comm.rank == 0 else None
    assert caught.value.__cause__ is (error if comm.rank == 0 else None)


@pytest.mark.parallel(RANKS)
def test_ranks_go_on_together_after_a_failure(comm):
    message(comm, lambda: fail(ValueError("first")) if comm.rank == 0 else None)
    assert comm.allreduce(1) == comm.size


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n  lines\n"), "ValueError: two; lines"),
        (MemoryError(), "MemoryError"),
        (InputError("f1: bad\nvery"), "f1: bad; very"),
        (PermissionError(13, "Permission denied", "a/b"), "a/b: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(28, "No space left on device", "from", None, "to"), "to: No space left on device"),
    ],
)
def test_description_is_one_line(error, text):
    assert describe(error) == text


def test_description_of_a_stack_is_short_and_has_both_ends():
    text = describe(OSError("Can't write\n" + "in the middle\n" * 1000 + "disk full"))
    assert text.startswith("OSError: Can't write; in the middle")
    assert text.endswith("disk full")
    assert len(text) < 700


def test_description_for_the_user_is_never_shortened():
    assert describe(InputError("x" * 5000)) == "x" * 5000


@pytest.mark.parallel(RANKS)
def test_result_of_the_root_reaches_all_ranks(comm):
    calls = []

    def read():
        calls.append(comm.rank)
        return {"cell": (5.1, 5.2)}

    assert on_root(comm, read) == {"cell": (5.1, 5.2)}
    assert calls == ([0] if comm.rank == 0 else [])


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("result", [None, 0, ""])
def test_result_may_be_nothing(comm, result):
    assert on_root(comm, lambda: result) == result


@pytest.mark.parallel(RANKS)
def test_failure_of_the_root_is_raised_on_all_without_its_rank(comm):
    with pytest.raises(CollectiveError, match=r"^scan\.nxs: no such file$"):
        on_root(comm, lambda: fail(InputError("scan.nxs: no such file")))


@pytest.mark.parallel(RANKS)
def test_result_that_cannot_be_sent_is_a_failure_on_all(comm):
    with pytest.raises(CollectiveError, match="pickle"):
        on_root(comm, lambda: lambda: None)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("apart", [0.0, 0.2], ids=["together", "one after another"])
def test_one_rank_speaks_of_all_that_fail(comm, apart):
    with first_to_speak(comm) as may_speak:
        time.sleep(apart * (comm.size - 1 - comm.rank))
        spoke = comm.allgather(may_speak())
    assert sum(spoke) == 1


@pytest.mark.parallel(RANKS)
def test_rank_that_fails_alone_speaks_while_the_others_wait(comm):
    with first_to_speak(comm) as may_speak:
        spoke = may_speak() if comm.rank == comm.size - 1 else False
        comm.barrier()
    assert spoke == (comm.rank == comm.size - 1)


@pytest.mark.parallel(RANKS)
def test_nothing_is_aborted_when_all_goes_well(comm):
    for _ in range(3):
        with or_abort(comm):
            total = comm.allreduce(comm.rank)
    assert total == comm.size * (comm.size - 1) // 2


@pytest.mark.parallel(RANKS)
def test_failure_of_all_together_is_raised_not_aborted(comm):
    with pytest.raises(CollectiveError, match="together"), or_abort(comm), all_or_none(comm):
        fail(InputError("together"))


@pytest.mark.parallel(1)
def test_failure_of_a_single_rank_is_raised_with_its_file(comm, tmp_path):
    with (
        pytest.raises(CollectiveError, match=r"f1_mask\.nxs: OSError: disk full$"),
        or_abort(comm, tmp_path / "f1_mask.nxs"),
    ):
        fail(OSError("disk full"))
