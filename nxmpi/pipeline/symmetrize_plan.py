"""What is to be averaged: volumes that are not complete, and what all ranks know of them."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING

import nxmpi
from nxmpi.crystal.laue import coset_leaders, keeps_lattice, laue_class, laue_operators, voxel_group
from nxmpi.errors import InputError
from nxmpi.log import ONCE
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.values import entry_names, find, open_file, require
from nxmpi.nexus.volume import read_grid, title_of
from nxmpi.pipeline.inputs import identity, json_input, reason_to_make

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi._typing import I8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.params import OutputParams, SymmetrizeParams
    from nxmpi.pipeline.inputs import Inputs

log = logging.getLogger(__name__)
STEP = "symmetrize"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What all ranks need to know of one volume."""

    twin: schema.Twin
    files: schema.ScanFiles
    grid: HKLGrid
    sample: Sample
    group: VoxelGroup
    outliers: float | None
    parts: int
    """That a count was divided into."""
    scale: float | None
    """Of the background that was subtracted; None where none was."""
    inputs: Inputs
    reason: str = ""
    """Why it is to be made."""

    @property
    def target(self) -> Path:
        """The file that is made."""
        return self.files.symmetrized(self.twin)

    @property
    def title(self) -> str:
        """What the volume is called."""
        return title_of(self.sample, self.files.scan, self.twin.symmetrized)


def averages_due(
    files: schema.ScanFiles, params: SymmetrizeParams, output: OutputParams
) -> list[Plan]:  # fmt: skip
    """Return what is to be averaged. Not collective. Nothing is changed.

    Raises
    ------
    InputError
        If there is no combined volume, its grid is not that of the symmetry, or another program
        made what is there.
    """
    plans = []
    with open_file(files.wrapper) as wrapper:
        sample = read_sample(wrapper[entry_names(wrapper)[0]])
        operators = operators_of(files.wrapper, sample, params)
        for twin in (schema.REGULAR, schema.MASKED):
            file = files.combined(twin)
            grid = read_grid(find(wrapper[schema.SHARED], twin.group))
            if twin is schema.MASKED and not file.exists():
                continue
            if grid is None or not file.exists():
                raise InputError(
                    f"{file}: expected a combined volume, found none (nxmpi combine makes it)"
                )
            scale, parts = _made_of(file)
            if scale is not None and params.outliers is not None:
                raise InputError(
                    f"{file}:/{schema.VOLUME}: expected counts alone, of which images can be left "
                    "out, found them less a background (do without --outliers)"
                )
            inputs: Inputs = {
                "program": f"nxmpi {nxmpi.__version__}", "laue": operators.tolist(),
                "outliers": params.outliers or 0.0,
                "cell": list(astuple(sample.lattice)), "grid": json_input(asdict(grid)),
                "volume": identity(file),
            }  # fmt: skip
            reason = reason_to_make(
                wrapper[schema.SHARED], twin.symmetrize_task, files.symmetrized(twin), inputs,
                overwrite=output.overwrite,
            )  # fmt: skip
            log.info("%s: %s", twin.symmetrize_task, reason or "complete")
            if reason:
                group = group_of(files.wrapper, operators, grid)
                plans.append(
                    Plan(twin=twin, files=files, grid=grid, sample=sample, group=group,
                         outliers=params.outliers, scale=scale, parts=parts,
                         inputs=inputs, reason=reason)
                )  # fmt: skip
    return plans


def _made_of(file: Path) -> tuple[float | None, int]:
    """Return the scale of the background, None where there is none, and the parts of counts."""
    with open_file(file) as data:
        attributes = require(data, schema.VOLUME, "a volume").attrs
        scale = attributes.get(schema.BACKGROUND_SCALE)
        parts = int(attributes.get(schema.COUNT_PARTS, 1))
        return None if scale is None else float(scale), parts


def operators_of(wrapper: Path, sample: Sample | None, params: SymmetrizeParams) -> I8:
    """Return the operators of the Laue group, (n, 3, 3) int64. Not collective.

    Raises
    ------
    InputError
        If nobody says what the symmetry is.
    """
    symbol = params.laue or (sample and (sample.space_group or sample.laue_group))
    where = f"{wrapper}:/{schema.SHARED}/{schema.SAMPLE}"
    if not symbol:
        raise InputError(
            f"{where}: expected a space group or Laue group, found neither (--laue names it)"
        )
    operators = laue_operators(symbol)
    if not params.laue and sample and sample.space_group and sample.laue_group:
        _compare(where, sample.space_group, sample.laue_group)
    if sample and not keeps_lattice(operators, sample.lattice):
        cell = " ".join(f"{value:g}" for value in astuple(sample.lattice))
        raise InputError(
            f"{where}: expected a cell with the symmetry {symbol}, found {cell} (--laue names "
            "another symmetry, or setting, such as 'R -3 m :R' or 'P 1 1 2/m')"
        )
    return operators


def _compare(where: str, space_group: str, laue_group: str) -> None:
    """Warn if a space group is not of the Laue group beside it, of which no use is made."""
    with suppress(InputError):  # one that is not known says nothing
        own, other = laue_class(space_group), laue_class(laue_group)
        if own != other:
            log.warning(
                "%s: space_group %s is of the Laue class %s, laue_group says %s: taking the space "
                "group (--laue decides)", where, space_group, own, other, extra=ONCE,
            )  # fmt: skip


def group_of(wrapper: Path, operators: I8, grid: HKLGrid) -> VoxelGroup:
    """Return the operators on a grid. Not collective.

    Raises
    ------
    InputError
        If they do not map it to itself.
    """
    try:
        group = voxel_group(operators, grid)
        coset_leaders(group.matrices)  # what cannot be done is told before work begins
    except InputError as error:
        raise InputError(
            f"{wrapper}: {error}; nxmpi reduce --to combine does without symmetry"
        ) from error
    return group
