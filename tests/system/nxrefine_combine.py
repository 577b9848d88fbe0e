"""Run by the Python that has NXRefine: its nxcombine.

Release 0.1.1 joins paths as if they were text, and stops there.
"""

from pathlib import Path

from nxrefine.nxreduce import NXMultiReduce
from nxrefine.scripts.nxcombine import main

prepare_combine = NXMultiReduce.prepare_combine


class Texts(type(Path())):
    """A folder whose files are texts."""

    def joinpath(self, *parts):
        return str(super().joinpath(*parts))


def prepare(self):
    folder, self.directory = self.directory, Texts(self.directory)
    try:
        return prepare_combine(self)
    finally:
        self.directory = folder


NXMultiReduce.prepare_combine = prepare
main()
