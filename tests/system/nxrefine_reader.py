"""Run by the Python that has NXRefine: what its own classes find in a scan, as JSON.

Reads {"folder": of the data, "points": {entry: [[x, y, frame], ...]}} from standard input.
"""

import hashlib
import json
import sys

from nxrefine.nxreduce import NXMultiReduce, NXReduce
from nxrefine.nxrefine import NXRefine

FRAMES_TASKS = ("nxmax", "nxfind", "nxprepare_mask")
TRANSFORM_TASKS = ("nxtransform", "nxmasked_transform")
COMBINE_TASKS = ("nxcombine", "nxmasked_combine")


def position(name, folder, points):
    reduce = NXReduce(name, directory=folder)
    refine = NXRefine(reduce.entry)
    tasks = FRAMES_TASKS + TRANSFORM_TASKS
    return {
        "complete": {task: bool(reduce.complete(task)) for task in tasks},
        "to_do": {task: bool(reduce.not_processed(task)) for task in tasks},
        "refined": bool(reduce.complete("nxrefine")),
        "frames": list(reduce.shape),
        "monitor": reduce.monitor,
        "hkl": [[float(q) for q in refine.get_hkl(*point)] for point in points],
        **(frames(reduce, refine) if reduce.complete("nxfind") else {}),
        **volumes(reduce.entry),
    }


def frames(reduce, refine):
    columns = {"x": refine.xp, "y": refine.yp, "z": refine.zp, "intensity": refine.intensity}
    sums, mask = reduce.entry["summed_frames"], reduce.entry["data/data_mask"]
    return {
        "maximum": int(reduce.maximum),
        "used": [int(reduce.data.attrs[name]) for name in ("first", "last")],
        "peaks": {name: values.tolist() for name, values in columns.items()},
        "polar_angle": refine.polar_angle.tolist(),
        "azimuthal_angle": refine.azimuthal_angle.tolist(),
        "summed_data": int(reduce.entry["summed_data"].nxsignal.nxvalue.sum()),
        "summed_frames": sums["summed_frames"].nxvalue.tolist(),
        "partial_frames": sums["partial_frames"].nxvalue.tolist(),
        "mask": [str(mask.nxfilename), hashlib.sha256(mask.nxvalue.tobytes()).hexdigest()],
    }


def combined(folder):
    reduce = NXMultiReduce(folder)
    tasks = FRAMES_TASKS + TRANSFORM_TASKS + COMBINE_TASKS
    return {
        "entries": list(reduce.entries),
        "complete": {task: bool(reduce.complete(task)) for task in tasks},
        **volumes(reduce.entry),
    }


def volumes(entry):
    names = [name for name in ("transform", "masked_transform") if name in entry]
    made = [name for name in names if entry[name].nxsignal is not None]  # not only a grid
    return {name: volume(entry[name]) for name in made}


def volume(data):
    signal = data.nxsignal
    return {
        "shape": list(signal.shape),
        "file": str(signal.nxfilename),
        "type": str(signal.dtype),
        "hash": hashlib.sha256(signal.nxvalue.tobytes()).hexdigest(),
        "axes": [[axis.nxname, float(axis[0]), float(axis[-1])] for axis in data.nxaxes],
    }


def main():
    asked = json.load(sys.stdin)
    found = {
        name: position(name, asked["folder"], points) for name, points in asked["points"].items()
    }
    json.dump(found | {"entry": combined(asked["folder"])}, sys.stdout)


main()
