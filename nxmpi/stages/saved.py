"""What a rank knows in the middle of its frames, as arrays to be saved, and back."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.kernels.strong import Strong
from nxmpi.stages.profiles import FITTED
from nxmpi.stages.search import CANDIDATE, Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from nxmpi._typing import I8
    from nxmpi.stages.own_frames import OwnFrames

    Arrays = dict[str, NDArray[Any]]

BY_FRAME = ("frame_sums", "block_sums", "strong_sums", "strong_pixels")
"""Sums of a `PassResult`, of which those of frames that were seen are saved."""


def to_arrays(worker: OwnFrames) -> Arrays:
    """Return all that a rank knows but the frames that it holds: they are read again.

    Sums are of the narrowest type that holds them.
    """
    result, windows = worker.result, worker.windows
    seen = worker.seen - result.start
    waiting = [each for some in worker.candidates.values() for each in some]
    changed = list(worker.changed.values())
    strong = list(windows.strong.values())
    return {
        **{name: _narrow(getattr(result, name)[:seen]) for name in BY_FRAME},
        "total": _narrow(result.total),
        "large": worker.large,
        "largest": result.largest.reshape(-1)[worker.large],
        "seen": np.array(worker.seen),
        "looked at": np.array(worker.looked_at),
        "largest of windows": windows.largest,
        "bad frames": np.array(result.bad_frames, np.int64),
        "peaks": np.array(result.peaks, FITTED),
        "candidates": np.array(waiting, CANDIDATE),
        "changed": np.array(list(worker.changed), np.int64),
        "changed ends": _ends([len(each) for each in changed]),
        "changed bytes": np.frombuffer(b"".join(changed), np.uint8),
        "strong": np.array(list(windows.strong), np.int64).reshape(-1, 2),
        "strong ends": _ends([each.places.size for each in strong]),
        **{
            f"strong {name}": np.concatenate([getattr(each, name) for each in strong])
            for name in Strong._fields
            if strong
        },
    }


def restore(worker: OwnFrames, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Make a rank at its first frame know what `to_arrays` returned.

    The frames that it holds are to be given to `OwnFrames.hold_again`.
    """
    result, windows = worker.result, worker.windows
    for name in BY_FRAME:
        getattr(result, name)[: len(arrays[name])] = arrays[name]
    result.total[...] = arrays["total"]
    worker.large = arrays["large"]
    result.largest.reshape(-1)[worker.large] = arrays["largest"]
    worker.seen = int(arrays["seen"])
    worker.looked_at = arrays["looked at"].tolist()
    windows.largest = arrays["largest of windows"]
    result.bad_frames = arrays["bad frames"].tolist()
    result.peaks = list(arrays["peaks"])
    for each in arrays["candidates"].tolist():
        worker.wait(Candidate(*each))
    packed = arrays["changed bytes"].tobytes()
    for i, (low, high) in zip(
        arrays["changed"].tolist(), pairwise(arrays["changed ends"].tolist()), strict=True
    ):
        worker.changed[i] = packed[low:high]
    for (level, window), (low, high) in zip(
        arrays["strong"].tolist(), pairwise(arrays["strong ends"].tolist()), strict=True
    ):
        fields = (arrays[f"strong {name}"][low:high] for name in Strong._fields)
        windows.strong[level, window] = Strong(*fields)


def _narrow(sums: I8) -> NDArray[Any]:
    return sums.astype(np.min_scalar_type(int(sums.max(initial=0))))


def _ends(sizes: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
