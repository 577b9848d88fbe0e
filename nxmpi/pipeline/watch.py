"""How far scans are: from their files, locks, checkpoints and logs, and from Slurm where it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import open_file
from nxmpi.parallel.checkpoint import MANIFEST
from nxmpi.parallel.locks import list_locks
from nxmpi.pipeline.status import scan_states
from nxmpi.pipeline.transform import checkpoint_folder
from nxmpi.slurm import queue
from nxmpi.slurm.record import read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nxmpi.parallel.locks import Lock
    from nxmpi.pipeline.reduce import Choices
    from nxmpi.slurm.queue import Seen
    from nxmpi.slurm.record import Job

PROGRESS = re.compile(r"(\w+): (\d+) of (\d+) (\w+), .*left")
"""A line that `nxmpi.parallel.progress` writes to a log."""
TAIL = 64 * 2**10
"""Of a log, in which such lines are looked for [bytes]."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a step of a scan is."""

    step: str
    state: str
    """running, queued, failed, or of `nxmpi.pipeline.status.State`."""
    detail: str = ""
    """Where and how far, why, or by whom."""
    jobs: tuple[str, ...] = ()
    """Of Slurm, as far as they still count."""
    progress: float | None = None
    """Part of the work of a position that is done, where that is known [1]."""


def find_scans(path: Path) -> list[Path]:
    """Return the scan files of an experiment, of one of its folders, or of a file itself.

    Not collective. Their names begin with that of the folder two above, as
    EXPERIMENT/SAMPLE/LABEL/SAMPLE_SCAN.nxs; parents of scans are left out.

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
    return sorted(file for file in found if _is_scan(file))


def _is_scan(file: Path) -> bool:
    sample = file.parent.parent.name
    named = file.stem.startswith(f"{sample}_") and not file.stem.endswith("_scans")
    return named and not file.name.startswith(".")


def standings(wrapper: Path, choices: Choices, seen: Mapping[str, Seen]) -> list[Standing]:
    """Return how far each step of a scan is. Not collective. Nothing is changed or locked.

    Parameters
    ----------
    seen : mapping
        Of `nxmpi.slurm.queue.waiting_and_running`.

    Raises
    ------
    InputError
        If the scan file cannot be read.
    """
    locks = [lock for lock in list_locks(wrapper) if lock.state != "ended"]
    jobs = read_record(wrapper)
    result = []
    for each in scan_states(wrapper, choices):
        own = [job for job in jobs if job.step == each.step]
        file_says = Standing(step=each.step, state=each.state, detail=each.reason)
        result.append(
            _running(wrapper, each.step, own, seen, locks)
            or _queued(each.step, own, seen)
            or (_failed(each.step, own) if each.state != "done" else None)
            or file_says
        )
    return result


def _running(
    wrapper: Path, step: str, jobs: list[Job], seen: Mapping[str, Seen], locks: Iterable[Lock]
) -> Standing | None:
    told, parts, ids = [], [], []
    for job in jobs:
        here = seen.get(job.id)
        if here is None or here.state in ("PENDING", "REQUEUED"):
            continue
        far, part = _progress_of(Path(job.log), step)
        where = f"job {job.id} on {here.nodes}, {here.elapsed}"
        told.append(" ".join(text for text in (job.position, far, where) if text))
        parts.append(part)
        ids.append(job.id)
    if not ids:
        for lock in locks:
            entry, _, name = lock.subject.rpartition(" ")
            if name == step:
                far, part = _saved_progress(wrapper, entry, step)
                position = "" if entry == schema.SHARED else entry
                told.append(" ".join(t for t in (position, far, f"by {lock.owner}") if t))
                parts.append(part)
    if not told:
        return None
    known = [part for part in parts if part is not None]
    progress = sum(known) / len(known) if known else None
    return Standing(
        step=step, state="running", detail="; ".join(told), jobs=tuple(ids), progress=progress
    )


def _queued(step: str, jobs: list[Job], seen: Mapping[str, Seen]) -> Standing | None:
    waiting = [(job.id, seen[job.id].reason) for job in jobs if job.id in seen]
    if not waiting:
        return None
    detail = "; ".join(f"job {job}{f' ({why})' if why else ''}" for job, why in waiting)
    return Standing(
        step=step, state="queued", detail=detail, jobs=tuple(job for job, _ in waiting)
    )  # fmt: skip


def _failed(step: str, jobs: list[Job]) -> Standing | None:
    told = []
    for job in jobs:
        how = queue.ended(job.id)
        said = _last_error(Path(job.log))
        bad = how is not None and how.state not in (*queue.LEFT, "COMPLETED")
        if bad or (how is None and said):
            words = [word for word in (said, how.reason if how else "") if word]
            told.append(f"job {job.id}: {', '.join(words)}")
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
    manifest = checkpoint_folder(schema.ScanFiles(wrapper), entry) / MANIFEST
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
