"""The factors of the norm that belong to frames, from an entry in the scan file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import location
from nxmpi.nexus.weights import read_monitor, read_transmission
from nxmpi.pipeline.parameters import Layers, resolve

if TYPE_CHECKING:
    import h5py

    from nxmpi._typing import F8
    from nxmpi.params import NormParams, ScanParams

MONITOR_COUNTS = 50000.0
"""Monitor counts that count as 1 unless a number is given; NXRefine's default."""


def read_frame_factors(
    entry: h5py.Group, params: ScanParams, norm: NormParams, layers: Layers, used: slice, n: int
) -> tuple[dict[str, F8], dict[str, str]]:
    """Return the factors of each frame, (n_frames,) float64, and where they came from.

    Not collective. Without the sample's transmission, which comes from the frames.

    Raises
    ------
    InputError
        If the monitor is missing, or their product is not positive in a frame used.
    """
    factors, origins = {}, {}
    if norm.monitor:
        name = resolve("monitor", params.monitor, layers, None, str)
        counts = resolve("norm", params.norm, layers, MONITOR_COUNTS, float)
        if not counts > 0:
            raise InputError(f"{entry.file.filename}: norm: expected above 0, found {counts:g}")
        monitor, where = read_monitor(entry, name, used, n, raw=norm.raw_monitor)
        factors["monitor"] = monitor / counts
        origins["monitor"] = f"{where} / {counts:g}{' unsmoothed' if norm.raw_monitor else ''}"
    for factor, path, wanted in (
        ("attenuator", schema.ATTENUATOR, norm.attenuator),
        ("filter", schema.FILTER, norm.filter),
    ):
        transmission = read_transmission(entry, path, used, n) if wanted else None
        if transmission is not None:
            factors[factor] = transmission
            origins[factor] = location(entry, path)
    weight = weight_of(factors, n)
    if not (weight[used] > 0).all():
        frame = int(np.flatnonzero(~(weight[used] > 0))[0]) + used.start
        raise InputError(
            f"{entry.file.filename}:{entry.name}: expected a positive weight in all frames used, "
            f"found {weight[frame]:g} in frame {frame}, of {', '.join(factors)}"
        )
    return factors, origins


def weight_of(factors: dict[str, F8], n_frames: int) -> F8:
    """Return the product of the factors of each frame, (n_frames,) float64."""
    return np.asarray(math.prod(factors.values(), start=np.ones(n_frames)))
