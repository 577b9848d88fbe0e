"""Run by the Python that has NXRefine: what its own classes find in a scan, as JSON.

Reads {"folder": of the data, "points": {entry: [[x, y, frame], ...]}} from standard input.
"""

import hashlib
import json
import sys

from nxrefine.nxreduce import NXMultiReduce, NXReduce
from nxrefine.nxrefine import NXRefine

TRANSFORM_TASKS = ("nxtransform", "nxmasked_transform")
COMBINE_TASKS = ("nxcombine", "nxmasked_combine")


def position(name, folder, points):
    reduce = NXReduce(name, directory=folder)
    refine = NXRefine(reduce.entry)
    return {
        "complete": {task: bool(reduce.complete(task)) for task in TRANSFORM_TASKS},
        "to_do": {task: bool(reduce.not_processed(task)) for task in TRANSFORM_TASKS},
        "frames": list(reduce.shape),
        "monitor": reduce.monitor,
        "hkl": [[float(q) for q in refine.get_hkl(*point)] for point in points],
        **volumes(reduce.entry),
    }


def combined(folder):
    reduce = NXMultiReduce(folder)
    return {
        "entries": list(reduce.entries),
        "complete": {task: bool(reduce.complete(task)) for task in TRANSFORM_TASKS + COMBINE_TASKS},
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
