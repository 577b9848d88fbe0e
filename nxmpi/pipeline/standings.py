"""How far scans are: from their files, locks, checkpoints and logs, and from Slurm where it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import open_file, positions_in
from nxmpi.parallel.checkpoint import MANIFEST
from nxmpi.parallel.locks import list_locks
from nxmpi.pipeline.status import scan_states
from nxmpi.slurm.left import ask_slurm
from nxmpi.slurm.queue import LEFT, ended
from nxmpi.slurm.record import read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nxmpi.parallel.locks import Lock
    from nxmpi.pipeline.reduce import Choices
    from nxmpi.slurm.queue import Queued, Seen
    from nxmpi.slurm.record import Job

    Queue = Mapping[tuple[str, str], Queued]
    """By number and name of the recorded job that each stands for."""

PROGRESS = re.compile(r"(\w+): (\d+) of (\d+) (\w+), .*left")
"""A line that `nxmpi.parallel.progress` writes to a log."""
TAIL = 64 * 2**10
"""Of a log, in which such lines are looked for [bytes]."""
WENT_ON = re.compile(rb"^job (\d+)\S* goes on in place of this one$", re.MULTILINE)
"""A line that jobs/run.sh writes to a log, to which that job writes too."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a step of a scan is."""

    step: str
    state: str
    """running, queued, failed, locked, or of `nxmpi.pipeline.status.State`."""
    detail: str = ""
    """Where and how far, why, or by whom."""
    jobs: tuple[str, ...] = ()
    """Of Slurm, as far as they still count."""
    progress: float | None = None
    """Part of the work of a position that is done, where that is known [1]."""


def find_scans(path: Path) -> list[Path]:
    """Return the scan files of an experiment, of one of its folders, or of a file itself.

    Not collective. Their names begin with that of the folder two above, as
    EXPERIMENT/SAMPLE/LABEL/SAMPLE_SCAN.nxs; what has no detector positions is left out.

    Raises
    ------
    InputError
        If there is nothing at the path.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: expected a folder or a scan file, found none")
    root = path.absolute()
    patterns = ("*.nxs", "*/*.nxs", "*/*/*.nxs")
    found = {file for pattern in patterns for file in root.glob(pattern)}
    named = [file for file in found if file.stem.startswith(f"{file.parent.parent.name}_")]
    return sorted(file for file in named if not _is_another(file))


def scans_among(files: Sequence[Path]) -> list[Path]:
    """Return files but those without detector positions; all of them if none would be left.

    Not collective. Parents of scans, slices and cuts lie beside scans and are called like them.
    """
    return [file for file in files if not _is_another(file)] or list(files)


def _is_another(file: Path) -> bool:
    """Return whether a file is no scan's; one that cannot be read is told of by who reads it."""
    try:
        with open_file(file) as opened:
            return not positions_in(opened)
    except InputError:
        return False


def find_ended(
    wrappers: Iterable[Path], queue: Sequence[Queued], known: Mapping[str, Seen]
) -> dict[str, Seen]:
    """Return how the last jobs of scans ended, those that are not in the queue. Not collective.

    Parameters
    ----------
    known : mapping
        What was returned before: of what has ended nobody is asked again.
    """
    waiting = {(item.stands_for, item.name) for item in queue}
    last = {
        _last_of(job)
        for wrapper in wrappers
        for job in _recorded(wrapper)
        if (job.id, job.name) not in waiting
    }
    kept = {job: how for job, how in known.items() if job in last and how.state not in LEFT}
    return kept | ended(last - kept.keys())


def _recorded(wrapper: Path) -> list[Job]:
    try:
        return read_record(wrapper)
    except InputError:
        return []  # `standings` tells of it


def _last_of(job: Job) -> str:
    """Return the number of the job that went on last with the work of one."""
    try:
        others = [match[1] for match in WENT_ON.finditer(Path(job.log).read_bytes())]
    except OSError:
        others = []
    if not others:
        return job.id
    number = others[-1].decode()
    return number if job.task is None else f"{number}_{job.task}"


def standings(
    wrapper: Path, choices: Choices, queue: Sequence[Queued], endings: Mapping[str, Seen]
) -> list[Standing]:
    """Return how far each step of a scan is. Not collective. Nothing is changed or locked.

    Parameters
    ----------
    queue : sequence
        Of `nxmpi.slurm.queue.queued`.
    endings : mapping
        Of `find_ended`.

    Raises
    ------
    InputError
        If the scan file cannot be read.
    """
    locks = list_locks(wrapper, ask_slurm())
    running = [lock for lock in locks if lock.state == "running"]
    unknown = [lock for lock in locks if lock.state == "unknown"]
    jobs, seen = read_record(wrapper), {(item.stands_for, item.name): item for item in queue}
    result = []
    for each in scan_states(wrapper, choices):
        own = [job for job in jobs if job.step == each.step]
        file_says = Standing(step=each.step, state=each.state, detail=each.reason)
        result.append(
            _running(wrapper, each.step, own, seen, running)
            or _queued(each.step, own, seen)
            or (_failed(each.step, own, endings) if each.state != "done" else None)
            or _locked(wrapper, each.step, unknown)
            or file_says
        )
    return result


def _running(
    wrapper: Path, step: str, jobs: list[Job], seen: Queue, locks: Iterable[Lock]
) -> Standing | None:
    told, parts, ids = [], [], []
    for job in jobs:
        here = seen.get((job.id, job.name))
        if here is None or here.state in ("PENDING", "REQUEUED"):
            continue
        far, part = _progress_of(Path(job.log), step)
        where = f"job {here.id} on {here.nodes}, {here.elapsed}"
        told.append(" ".join(text for text in (job.position, far, where) if text))
        parts.append(part)
        ids.append(here.id)
    if not ids:
        told, parts = _holders(wrapper, step, locks)
    if not told:
        return None
    known = [part for part in parts if part is not None]
    progress = sum(known) / len(known) if known else None
    return Standing(
        step=step, state="running", detail="; ".join(told), jobs=tuple(ids), progress=progress
    )


def _holders(
    wrapper: Path, step: str, locks: Iterable[Lock]
) -> tuple[list[str], list[float | None]]:  # fmt: skip
    """Return who holds the locks of a step, in words, and how far they are, as parts."""
    told, parts = [], []
    for lock in locks:
        entry, _, name = lock.subject.rpartition(" ")
        if name == step:
            far, part = _saved_progress(wrapper, entry, step)
            position = "" if entry == schema.SHARED else entry
            told.append(" ".join(t for t in (position, far, f"by {lock.owner}") if t))
            parts.append(part)
    return told, parts


def _locked(wrapper: Path, step: str, locks: Iterable[Lock]) -> Standing | None:
    told, _ = _holders(wrapper, step, locks)
    if not told:
        return None
    detail = f"{'; '.join(told)}, of which it is not known here whether it still runs"
    return Standing(step=step, state="locked", detail=detail)


def _queued(step: str, jobs: list[Job], seen: Queue) -> Standing | None:
    found = [seen.get((job.id, job.name)) for job in jobs]
    waiting = [item for item in found if item is not None]
    if not waiting:
        return None
    detail = "; ".join(
        f"job {item.id}{f' ({item.reason})' if item.reason else ''}" for item in waiting
    )
    return Standing(
        step=step, state="queued", detail=detail, jobs=tuple(item.id for item in waiting)
    )  # fmt: skip


def _failed(step: str, jobs: list[Job], endings: Mapping[str, Seen]) -> Standing | None:
    told = []
    for job in jobs:
        last = _last_of(job)
        how, error = endings.get(last), _last_error(Path(job.log))
        bad = how is not None and how.state not in (*LEFT, "COMPLETED")
        if bad or (how is None and error):
            words = [word for word in (error, how.reason if how else "") if word]
            told.append(f"job {last}: {', '.join(words)}")
    if not told:
        return None
    return Standing(step=step, state="failed", detail="; ".join(told))


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - TAIL, 0))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _last_error(log: Path) -> str:
    lines = [line for line in _tail(log) if line.startswith("Error: ")]
    return lines[-1].removeprefix("Error: ") if lines else ""


def _progress_of(log: Path, step: str) -> tuple[str, float | None]:
    """Return how far the log of a job says it is, in words and as a part."""
    found = [match for line in _tail(log) if (match := PROGRESS.search(line))]
    own = [match for match in found if match[1] == step]
    if not own:
        return "", None
    _, done, total, unit = own[-1].groups()
    return f"{done} of {total} {unit}", int(done) / max(int(total), 1)


def _saved_progress(wrapper: Path, entry: str, step: str) -> tuple[str, float | None]:
    """Return how many frames the last checkpoint of a position holds."""
    manifest = schema.ScanFiles(wrapper).checkpoint(entry, step) / MANIFEST
    if step != "transform" or not manifest.exists():
        return "", None
    try:
        done = len(json.loads(manifest.read_text())["state"]["frames"])
        with open_file(wrapper) as file:
            total = int(file[f"{entry}/{schema.RAW}"].shape[0])
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return "", None  # it is being written, or is gone
    return f"{done} of {total} frames saved", done / max(total, 1)


def after_failures(steps: list[Standing]) -> list[Standing]:
    """Return how far steps are, those behind a failed one told so."""
    failed = next((each.step for each in steps if each.state == "failed"), None)
    if failed is None:
        return steps
    names = [each.step for each in steps]
    return [
        replace(each, detail=f"after {failed}, which failed")
        if names.index(each.step) > names.index(failed) and each.state == "to do"
        else each
        for each in steps
    ]
