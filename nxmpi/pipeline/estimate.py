"""What a machine makes of what a step takes: memory, disk and seconds, and whether it fits."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.filesize import decimal

from nxmpi.pipeline.step_cost import ORIENT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from nxmpi.pipeline.rates import Rates
    from nxmpi.pipeline.step_cost import Layout, StepCost


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a step is expected to take in a run."""

    step: str
    read: int
    """Bytes of files."""
    write: int
    """Bytes of files."""
    disk: int
    """Bytes that the results take in the end."""
    scratch: int
    """Bytes of a scratch file meanwhile."""
    memory_rank: int
    """Peak of the largest rank, the interpreter's own included [bytes]."""
    memory_node: int
    """Peak of the fullest node [bytes]."""
    least_node: int
    """With which it can still be done [bytes]."""
    sent: int
    """Bytes between ranks."""
    sent_is_exact: bool
    seconds: float
    parts: dict[str, float]
    """The seconds for reading, computing, exchange and writing."""
    limit: str
    """Which of these is the longest; ``memory`` if that does not suffice."""
    note: str
    is_known: bool
    """False where nobody can say before other steps are done: numbers mean nothing then."""


def estimate(
    cost: StepCost, rates: Rates, layout: Layout, *, node_memory: int, compressed: bool
) -> Estimate:  # fmt: skip
    """Return what a step is expected to take. Not collective.

    Parts are added up, though some of them go on at the same time.

    Parameters
    ----------
    node_memory : int
        Of each node; 0 if it is not known [bytes].
    compressed : bool
        Whether volumes are.
    """
    ratio = rates.ratio if compressed else 1.0
    read = cost.files + round(ratio * cost.unpacked)
    write = cost.masks + round(ratio * cost.written)
    speed = {
        "frames": rates.frames, "transform": rates.transform, "combine": rates.combine,
        "symmetrize": rates.symmetrize, "pdf": rates.fourier,
    }.get(cost.step)  # fmt: skip
    parts = {
        "reading": read / (rates.read * layout.nodes),
        "computing": cost.work / (speed * layout.ranks) if speed else ORIENT_SECONDS,
        "exchange": cost.sent / (rates.send * layout.ranks),
        "writing": max(
            cost.written / (rates.pack * layout.ranks), write / (rates.write * layout.nodes)
        ),
    }
    memory = cost.memory + int(rates.base.get(cost.step, 0))
    memory_node = memory * layout.ranks_per_node + cost.shared
    least_node = memory_node - cost.spared * layout.ranks_per_node
    limit = max(parts, key=lambda name: parts[name])
    if node_memory and least_node > node_memory:
        limit = "memory"
    return Estimate(
        step=cost.step, read=read, write=write, disk=cost.masks + round(ratio * cost.kept),
        scratch=cost.scratch, memory_rank=memory, memory_node=memory_node,
        least_node=least_node, sent=cost.sent,
        sent_is_exact=cost.is_exact, seconds=sum(parts.values()), parts=parts, limit=limit,
        note=cost.note, is_known=cost.is_known,
    )  # fmt: skip


def unknown_steps(estimates: Iterable[Estimate]) -> list[str]:
    """Return a line of steps for each reason why nothing is known of them. Not collective."""
    reasons: dict[str, list[str]] = {}
    for each in estimates:
        if not each.is_known:
            reasons.setdefault(each.note, []).append(each.step)
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]


def memory_warnings(estimates: Iterable[Estimate], node_memory: int) -> list[str]:
    """Return which steps cannot be done with the memory of a node. Not collective.

    Parameters
    ----------
    node_memory : int
        0 if it is not known [bytes].
    """
    return [
        f"{each.step}: expected {decimal(each.least_node)} of memory a node to be there, "
        f"found {decimal(node_memory)} (use more nodes, or fewer ranks on each)"
        for each in estimates
        if node_memory and each.least_node > node_memory
    ]


def disk_warnings(
    results: Mapping[Path, Collection[Estimate]], scratch: Path | None = None
) -> list[str]:
    """Return a line for each disk that results and scratch files do not fit on. Not collective.

    Parameters
    ----------
    results : mapping
        Estimates of the steps of each scan, by the folder of its results, whose nearest parent that
        exists tells how much disk there is. All scans may be at work at the same time.
    scratch : Path, optional
        Folder of scratch files; that of the results by default.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for results_folder, estimates in results.items():
        for folder, room in _rooms(results_folder, scratch or results_folder, estimates):
            there = next(each for each in (folder, *folder.parents) if each.exists())
            first, needed = disks.get(there.stat().st_dev, (there, 0))
            disks[there.stat().st_dev] = (first, needed + room)
    found = []
    for folder, needed in disks.values():
        free = shutil.disk_usage(folder).free
        if needed > free:
            found.append(
                f"{folder}: expected {decimal(needed)} of disk, found {decimal(free)} free"
            )
    return found


def _rooms(
    folder: Path, scratch: Path, estimates: Collection[Estimate]
) -> list[tuple[Path, int]]:  # fmt: skip
    """Return where a scan takes how much disk at most: old files stay until new ones are there."""
    kept = sum(each.disk for each in estimates)
    files = [each.write - each.disk for each in estimates]
    scratches = [each.scratch for each in estimates]
    if folder == scratch:
        both = map(sum, zip(files, scratches, strict=True))
        return [(folder, kept + max(both, default=0))]
    return [(folder, kept + max(files, default=0)), (scratch, max(scratches, default=0))]
