"""One run of the transform, under mpiexec: prints a line of JSON.

Of a position in a folder that `case.py` wrote, on a cubic grid.
"""

import argparse
import json
import time
from pathlib import Path

from case import (  # before all that brings numba
    LATTICE,
    N_PIXELS,
    FromFile,
    FromMemory,
    make_grid,
    make_tables,
    n_pixels_used,
)  # fmt: skip
from measure import MIB, Measured, file_pages, memory, speeds
from mpi4py import MPI
from sums import WORD, key_of_bricks

from nxmpi.cli.options import Size
from nxmpi.nexus import schema
from nxmpi.nexus.volume import VolumeFile
from nxmpi.parallel.checkpoint import Checkpoint
from nxmpi.parallel.collective import kept_on_root, on_root
from nxmpi.parallel.memory import ranks_of_node
from nxmpi.parallel.timing import Timer
from nxmpi.params import OutputParams, TransformParams
from nxmpi.pipeline.volume import write_volume
from nxmpi.stages import cost
from nxmpi.stages.bricks import fill_pillar, pillars_held
from nxmpi.stages.tables import bcast_tables, covered_bytes, tables_of_volumes
from nxmpi.stages.transform import Workspace, transform
from nxmpi.stages.wedges import FEWEST_FRAMES

NEVER = 1e9


def read_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="that case.py wrote")
    parser.add_argument("--frames", type=int, default=64, help="of all ranks together")
    parser.add_argument("--grid", type=int, default=1001, help="voxels along each axis")
    parser.add_argument("--part", type=float, default=1.0, help="of the detector that is used")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--memory", default="0", help="of the node, such as 6G; 0 = no limit")
    parser.add_argument("--from-file", action="store_true", help="read from bitshuffle-LZ4 frames")
    parser.add_argument("--masked", action="store_true", help="with a 3-D mask")
    parser.add_argument(
        "--write", choices=["bitshuffle-lz4", "gzip", "none"], help="volumes, with compression"
    )
    return parser.parse_args()


def main():
    options, comm = read_options(), MPI.COMM_WORLD
    tables = kept_on_root(comm, lambda: make_tables(options.frames, options.grid, options.part))
    limit = Size().convert(options.memory, None, None) // ranks_of_node(comm)
    scratch = on_root(comm, lambda: find_scratch(options, tables, limit, comm.size))
    tables = bcast_tables(comm, tables)
    if options.from_file:
        reader = FromFile(options.folder, masked=options.masked)
    else:
        reader = FromMemory(options.folder, masked=options.masked, batch=options.batch)
    params = TransformParams(batch_frames=options.batch, memory=limit, checkpoint=NEVER)

    def run(first):
        """Transform the frames from ``first`` on, as if the others had no weight."""
        tables.scales[:first] = 0.0
        store = Checkpoint(options.folder / "none", "")
        workspace = Workspace(store=store, timer=Timer(), scratch=scratch)
        return transform(comm, tables, reader, params, workspace), workspace.timer

    scales = tables.scales.copy()
    warm_up(run(max(options.frames - comm.size, 0))[0])
    tables.scales[:] = scales
    comm.Barrier()
    measured = Measured()
    result, timer = run(0)
    cpu, wall = measured.times()
    own = {"cpu": cpu, "wall": wall, "parts": dict(timer.parts), **traffic(result)}
    own |= write(comm, options, result)
    own |= memory_taken(options, tables, result, measured, reader)
    own |= keys_of(result)
    everyone = comm.gather(own)
    if everyone is not None:
        frame_bytes = reader.frame_bytes
        print(json.dumps(report(options, everyone, frame_bytes, scratch is not None)))


def find_scratch(options, tables, limit, size):
    """Return the folder of a scratch file where memory does not hold the volume.

    As the program decides, which takes what is free where no limit is given.
    """
    if not limit:
        return None
    needed = covered_bytes(tables) // size + tables_of_volumes(tables)
    return options.folder if needed > limit else None


def warm_up(result):
    """Compile what comes after the transform, too."""
    key_of_bricks(result.kept)
    for pillar in pillars_held((result.kept,))[:1]:
        fill_pillar((result.kept,), pillar, result.unit, result.views)


def write(comm, options, result):
    """Write the volumes as the program does; return seconds and bytes. Collective on ``comm``."""
    twins = {}
    if options.write is not None:
        twins["all"] = (result.kept, result.excluded)
        if options.masked:
            twins["masked"] = (result.kept,)
    seconds, written = 0.0, 0
    for name, bricks in twins.items():
        path = options.folder / f"{name}.nxs"
        target = VolumeFile(
            path=path, grid=make_grid(options.grid), lattice=LATTICE, title=name,
            fills={schema.COUNTS: 0.0, schema.NORM: 0.0}, dtype="f8", attributes={},
        )  # fmt: skip

        def fill(pillar, bricks=bricks):
            counts, norm = fill_pillar(bricks, pillar, result.unit, result.views)
            return {schema.COUNTS: counts, schema.NORM: norm}

        comm.Barrier()
        start = time.perf_counter()
        output = OutputParams(compression=options.write)
        write_volume(comm, output, target, pillars_held(bricks), fill)
        seconds += time.perf_counter() - start
        written += on_root(comm, lambda path=path: path.stat().st_size)
        on_root(comm, path.unlink)
    return {"write": seconds, "written": written}


def traffic(result):
    """Return what this rank sent, and by the formula."""
    parts = [part.sent for part in (result.kept, result.excluded)]
    return {
        "sent": sum(sent.bytes for sent in parts),
        "sent_formula": sum(cost.bytes_sent(sent.bricks, sent.integers) for sent in parts),
    }


def memory_taken(options, tables, result, measured, reader):
    """Return the peak of this process, of the transform and write in it, and its formula.

    Without frames that are in memory, unless they are copied to where ranks share them.
    """
    peak, n_pixels = memory("VmHWM"), tables.pixels.size
    batch, size = 0, MPI.COMM_WORLD.size
    if options.from_file or (size > 1 and options.frames < FEWEST_FRAMES * size):
        batch = min(options.batch, options.frames) * N_PIXELS * (4 + options.masked)
    parts = (result.kept.sums, result.excluded.sums)
    n_narrow, n_wide = (sum(int(sums[i].used[0]) for sums in parts) for i in (0, 1))
    formula = cost.memory(n_narrow, n_wide, result.kept.array_shape, n_pixels, batch)
    return {
        "peak": peak - reader.nbytes, "beyond": peak - measured.resident,
        "formula": formula - 36 * n_pixels,  # the tables were there before
        "file_pages": max(file_pages() - measured.file_pages, 0),
    }  # fmt: skip


def keys_of(result):
    """Return keys of the pixels that the mask keeps, and of the others, and the counts of all."""
    kept, excluded = key_of_bricks(result.kept), key_of_bricks(result.excluded)
    return {"kept": kept[0], "excluded": excluded[0], "counts": kept[1] + excluded[1]}


def report(options, everyone, frame_bytes, scratch):
    """Return the figures of all ranks together."""
    total = {
        name: sum(own[name] for own in everyone)
        for name in ("cpu", "peak", "file_pages", "sent", "sent_formula", "counts")
    }
    slowest = {
        name: max(own[name] for own in everyone)
        for name in ("wall", "write", "written", "beyond", "formula")
    }
    kept, excluded = (sum(own[part] for own in everyone) for part in ("kept", "excluded"))
    ranks, n_pixels = len(everyone), options.frames * n_pixels_used(options.part)
    parts = {
        name: sum(own["parts"].get(name, 0.0) / own["wall"] for own in everyone) / ranks
        for name in ("read", "bin", "exchange")
    }
    return {
        **speeds(n_pixels, total["cpu"], slowest["wall"], ranks), "parts": parts,
        "write_s": slowest["write"], "written_MiB": slowest["written"] / MIB,
        "read_MiB": options.frames * frame_bytes / MIB,
        "peak_MiB": total["peak"] / MIB, "file_pages_MiB": total["file_pages"] / MIB,
        "beyond_MiB": slowest["beyond"] / MIB, "formula_MiB": slowest["formula"] / MIB,
        "sent_MiB": total["sent"] / MIB, "sent_formula_MiB": total["sent_formula"] / MIB,
        "scratch": int(scratch), "counts": total["counts"],
        "key": f"{(kept + excluded) % WORD:016x}", "key_kept": f"{kept % WORD:016x}",
    }  # fmt: skip


if __name__ == "__main__":
    main()
