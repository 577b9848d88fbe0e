"""What transform, averages and real space are going to take, from what is known of a scan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.holes import find_holes
from nxmpi.kernels.bricks import VOXELS
from nxmpi.nexus import schema
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.values import entry_names, open_file
from nxmpi.pipeline.pdf import absences_of, with_radius
from nxmpi.pipeline.real_space import Plan as PdfPlan
from nxmpi.pipeline.real_space import sizes_of
from nxmpi.pipeline.step_cost import Layout, Left, StepCost, together
from nxmpi.pipeline.symmetrize_plan import group_of, operators_of
from nxmpi.pipeline.transform import tables_of
from nxmpi.stages import cost
from nxmpi.stages.bricks import BRICK_BYTES
from nxmpi.stages.cost_volumes import (
    combine_memory,
    holes_sent,
    pdf_memory,
    pdf_sent,
    pdf_shared,
    symmetrize_memory,
    symmetrize_sent,
)
from nxmpi.stages.tables import (
    covered_bricks,
    covered_bytes,
    tables_bytes,
    tables_of_volumes,
)
from nxmpi.stages.touched import batch_of_rank, count_touched
from nxmpi.stages.transform import LARGEST_WEDGE

if TYPE_CHECKING:
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.kernels.tiles import Tables
    from nxmpi.model import Sample
    from nxmpi.pipeline.reduce import Choices
    from nxmpi.pipeline.scan import Measured, Scan

MOST_PIXELS = 1e9
"""That are binned to count bricks, unless they are to be counted exactly."""


class Volumes:
    """What is known of a scan's volumes while its plan is made."""

    def __init__(
        self, scan: Scan, choices: Choices, layout: Layout, *, mask_to_come: bool, oriented: bool
    ) -> None:
        self.scan, self.choices, self.layout = scan, choices, layout
        self.guesses = [] if oriented else ["orientation guessed"]
        """What else bricks depend on that is not known yet."""
        if choices.transform.engine != "native":
            self.guesses.append("as if by this program")
        if mask_to_come:
            self.guesses.append("mask not known")
        has_mask = mask_to_come or any(each.mask for each in scan.measured)
        self.twins = 2 if has_mask else 1
        self.covered: list[int] = []
        """Bricks of each position."""

    def transform(self, left: Left, *, exact: bool) -> StepCost:
        """Return what the transform takes; bricks are counted."""
        positions = []
        for measured in self.scan.measured:
            tables = tables_of(self.scan.grid, measured, self.choices.transform)
            self.covered.append(covered_bricks(tables))
            if left is None or measured.position.name in left:
                positions.append(self._position(measured, tables, exact=exact))
        step = together("transform", positions)
        notes = [*self.guesses]
        if not step.is_exact and not notes:
            notes.append("bricks estimated")
        if step.scratch:
            notes.append("the volume lies in a scratch file")
        return replace(step, note=", ".join(notes))

    def _position(self, measured: Measured, tables: Tables, *, exact: bool) -> StepCost:
        params, layout = self.choices.transform, self.layout
        reader = StackReader(measured.raw, measured.mask, skip_bad_frames=params.skip_bad_frames)
        counted = count_touched(
            tables, layout.ranks, layout.ranks_per_node, params, reader,
            math.inf if exact else MOST_PIXELS,
        )  # fmt: skip
        reader.close()
        covered, n_volumes = self.covered[-1], 2 if params.hits else 1
        most, total = counted.most, counted.total
        owned = covered * n_volumes // layout.ranks
        narrow, limit = max(most.narrow, owned), layout.memory // layout.ranks_per_node
        kept = owned * BRICK_BYTES + tables_of_volumes(tables) * n_volumes
        scratch = covered_bytes(tables) * n_volumes if limit and kept > limit else 0
        foreign = most.sent * BRICK_BYTES
        if foreign > LARGEST_WEDGE:
            narrow -= (foreign - LARGEST_WEDGE) // BRICK_BYTES
        if limit:
            narrow = min(narrow, max(limit // BRICK_BYTES, owned))
        one_round = foreign <= LARGEST_WEDGE and not (limit and narrow * BRICK_BYTES >= limit)
        n_pixels, n_frames = tables.pixels.size, int((tables.scales > 0).sum())
        itemsize = max(np.dtype(measured.raw.dtype).itemsize, 4) + (measured.mask is not None)
        batch = batch_of_rank(
            n_frames, math.prod(measured.raw.shape[1:]) * itemsize, params.batch_frames,
            (layout.ranks, layout.ranks_per_node),
        )  # fmt: skip
        memory = cost.memory(narrow, most.wide, self.scan.grid.array_shape, n_pixels, batch)
        voxels = covered * VOXELS * 8 * (2 + params.hits) * self.twins
        sent = tables_bytes(tables) * (layout.ranks - 1)
        sent += cost.bytes_sent(total.sent, total.integers)
        mask = measured.mask.identity[0] if measured.mask else 0
        return StepCost(
            step="transform",
            files=measured.raw.identity[0] + mask,
            written=voxels,
            kept=voxels,
            scratch=scratch,
            memory=memory,
            spared=narrow * BRICK_BYTES if limit else 0,
            sent=sent,
            is_exact=counted.is_exact and one_round and not self.guesses,
            work=n_frames * math.prod(measured.raw.shape[1:]),
        )

    @property
    def covered_voxels(self) -> int:
        """Of the union of all positions, as far as it is known without looking."""
        grid = math.prod(self.scan.grid.shape)
        left = math.prod(1 - min(c * VOXELS / grid, 1.0) for c in self.covered)
        return int(grid * (1 - left))

    def _symmetry(self) -> tuple[Sample, VoxelGroup]:
        """Return sample and group of the averages, which no settings file stands for."""
        path = self.scan.files.wrapper
        with open_file(path) as file:
            sample = read_sample(file[entry_names(file)[0]])
        operators = operators_of(path, sample, self.choices.symmetrize)
        return sample, group_of(path, operators, self.scan.grid)

    def _twins_left(self, left: Left) -> int:
        """Return how many of volume and masked twin are to be made."""
        if left is None:
            return self.twins
        return sum(not left.isdisjoint(twin) for twin in (schema.REGULAR, schema.MASKED))

    def combine(self, left: Left) -> StepCost:
        """Return what combining takes; what is told of overlaps is not known before."""
        twins = self._twins_left(left)
        positions = sum(self.covered) * VOXELS * twins
        voxels = self.covered_voxels * twins
        n = len(self.scan.measured)
        background = self.choices.combine.background is not None
        made = 24 if background else 12
        return StepCost(
            step="combine",
            unpacked=(positions + (voxels if background else 0)) * 16,
            written=voxels * made,
            kept=voxels * made,
            memory=combine_memory(n, self.scan.grid.array_shape),
            work=float(positions),
            note="without cubes of overlaps" if n > 1 else "",
        )

    def symmetrize(self, left: Left) -> StepCost:
        """Return what the average takes."""
        _, group = self._symmetry()
        twins = self._twins_left(left)
        shape, size = self.scan.grid.array_shape, self.layout.ranks
        voxels = math.prod(shape) * twins
        outliers = self.choices.symmetrize.outliers is not None
        background = self.choices.combine.background is not None
        made = 21 if background else 17
        return StepCost(
            step="symmetrize",
            unpacked=self.covered_voxels * (20 if background else 8) * twins,
            written=voxels * made,
            kept=voxels * made,
            memory=symmetrize_memory(group, shape, size, background=background),
            sent=twins * symmetrize_sent(group, shape, size, background=background),
            is_exact=not outliers,
            work=float(voxels),
            note="without rounds of outliers" if outliers else "",
        )

    def pdf(self, left: Left) -> StepCost:
        """Return what real space takes."""
        twins = self._twins_left(left)
        scan, params = self.scan, self.choices.pdf.pdf
        sample, group = self._symmetry()
        with open_file(scan.files.wrapper) as wrapper:
            choices = with_radius(wrapper, scan.files, self.choices.pdf)
        plan = PdfPlan(
            twin=schema.REGULAR, files=scan.files, grid=scan.grid, sample=sample,
            group=group, choices=choices, absences=absences_of(sample), inputs={},
        )  # fmt: skip
        sizes, shape, size = sizes_of(plan), scan.grid.array_shape, self.layout.ranks
        sent = pdf_sent(shape, sizes, params, size, self.layout.nodes)
        punch, note = choices.punch, ""
        if punch.karen is None and size > 1:
            holes = find_holes(group, scan.grid, sample.lattice, plan.absences, punch)
            sent += holes_sent(holes, punch, size)
        if punch.karen is not None or punch.missing == "fill":
            note = "without planes at seams"
        item = 4 if params.precision == "single" else 8
        voxels, real = math.prod(shape) * twins, math.prod(sizes) * twins
        return StepCost(
            step="pdf",
            unpacked=voxels * 25,
            written=voxels * 29 + real * 3 * item,
            kept=voxels * 12 + real * 3 * item,
            memory=pdf_memory(shape, sizes, params, size),
            shared=pdf_shared(sizes, params, size),
            sent=twins * sent,
            is_exact=not note,
            work=float(real) * (4 if params.subtract_mean else 3),
            note=note,
        )
