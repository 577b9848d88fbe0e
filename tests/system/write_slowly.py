"""Write raw frames as a detector does: python write_slowly.py FROM TO WAY PAUSE N.

WAY is swmr, several (SWMR, three frames a chunk), or reopen: opened again for each frame, without
SWMR. With way bad (SWMR) frame 3 is noise.
"""

import sys
import time

import h5py
import hdf5plugin

PATH = "entry/data/data"


def main(source, target, way, pause, n):
    with h5py.File(source) as file:
        frames = file[PATH][:n]
    options = dict(
        shape=(0, *frames.shape[1:]), maxshape=(None, *frames.shape[1:]), dtype=frames.dtype,
        chunks=(3 if way == "several" else 1, *frames.shape[1:]),
        **hdf5plugin.Bitshuffle(cname="lz4"),
    )  # fmt: skip
    time.sleep(pause)
    file = h5py.File(target, "w", libver=None if way == "reopen" else "latest")
    data = file.create_dataset(PATH, **options)
    if way == "reopen":
        file.close()
    else:
        file.swmr_mode = True
    for i, frame in enumerate(frames):
        time.sleep(pause / 2)
        if way == "reopen":
            file = h5py.File(target, "r+")
            data = file[PATH]
        data.resize(i + 1, axis=0)
        data.flush()  # the shape long before the data: the worst order
        time.sleep(0.5 if i % 15 == 14 or i == len(frames) - 1 else pause / 2)
        if way == "bad" and i == 3:
            data.id.write_direct_chunk((i, 0, 0), b"noise" * 20)
        else:
            data[i] = frame
        data.flush()
        if way == "reopen":
            file.close()
    if way != "reopen":
        file.close()


if __name__ == "__main__":
    source, target, way, pause, n = sys.argv[1:]
    main(source, target, way, float(pause), int(n))
