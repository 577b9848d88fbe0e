"""Whether transforms that are added or subtracted were made alike, by what is recorded of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.nexus.process import read_inputs
from nxmpi.nexus.values import entry_names

if TYPE_CHECKING:
    import h5py

    from nxmpi.nexus import schema
    from nxmpi.pipeline.inputs import Inputs

log = logging.getLogger(__name__)
FACTOR = "factor_"
"""Before the names of factors of the norm among what a transform depends on."""
OF_ALL = ("polarization", "solid_angle", "efficiency", "air")
"""Factors that are the same number at all positions."""
IN_USE = ("monitor", "flat_field", "dead_time")
"""Factors that are in use at all positions or at none."""
WHERE_RECORDED = ("attenuator", "filter", "transmission")
"""Factors of positions whose entry has them; 1 at others."""


def require_alike(wrapper: h5py.File, names: list[str], twin: schema.Twin) -> None:
    """Make sure that the transforms of positions can be added. Not collective.

    Those of other programs, which tell nothing, count as alike.

    Raises
    ------
    InputError
        If voxels lie differently about their coordinates, or norms have other factors or units.
    """
    records = {name: read_inputs(wrapper[name], twin.transform_task) for name in names}
    told = {name: record for name, record in records.items() if record}
    first = next(iter(told), "")
    for name, record in told.items():
        ours, others = _must_agree(record), _must_agree(told[first])
        wrong = [key for key in others if ours[key] != others[key]]
        if wrong:
            raise InputError(
                f"{wrapper.filename}:/{name}: expected a transform made like that of {first}, "
                f"found {'; '.join(f'{key} {ours[key]}, not {others[key]}' for key in wrong)} "
                "(nxmpi transform makes them alike)"
            )
    for factor in WHERE_RECORDED:
        lacking = [name for name in told if f"{FACTOR}{factor}" not in told[name]]
        if 0 < len(lacking) < len(told):
            log.warning("%s: none at %s, unlike other positions", factor, ", ".join(lacking))


def _must_agree(record: Inputs) -> dict[str, str]:
    """Return what must be the same at all positions, as text."""
    texts = {name: f"{record.get(f'{FACTOR}{name}', 'none')}" for name in (*OF_ALL, *IN_USE)}
    found = {"voxels": f"{record.get('voxels')}", **{name: texts[name] for name in OF_ALL}}
    for name in IN_USE:
        found[name] = "none" if texts[name] == "none" else "in use"
    if " / " in texts["monitor"]:
        found["monitor"] = f"in units of {texts['monitor'].rpartition(' / ')[2].split()[0]} counts"
    return found


def compare_with_background(
    scan: h5py.File, wrapper: h5py.File, name: str, twins: tuple[schema.Twin, schema.Twin]
) -> None:
    """Look for differences between a background's position and the scan's that would be wrong.

    Not collective. Other factors of the norm are a warning.

    Raises
    ------
    InputError
        If voxels lie differently about their coordinates.
    """
    same = name if name in scan else entry_names(scan)[0]
    of_scan = read_inputs(scan[same], twins[0].transform_task)
    of_background = read_inputs(wrapper[name], twins[1].transform_task)
    if not of_scan or not of_background:  # of another program, which tells nothing
        return
    if of_scan.get("voxels") != of_background.get("voxels"):
        raise InputError(
            f"{wrapper.filename}:/{name}: expected {of_scan.get('voxels')} voxels as in "
            f"{scan.filename}, found them {of_background.get('voxels')} (--voxels)"
        )
    factors = sorted(
        key for key in of_scan.keys() | of_background.keys() if key.startswith(FACTOR)
    )  # fmt: skip
    told = [
        f"{key.removeprefix(FACTOR)}: {of_scan.get(key, 'none')}, background "
        f"{of_background.get(key, 'none')}"
        for key in factors
        if of_scan.get(key) != of_background.get(key)
    ]
    if told:
        log.warning("%s: factors of the norm differ: %s", name, "; ".join(told))
