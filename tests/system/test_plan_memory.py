"""The memory that nxmpi plan tells, held against the peaks of ranks that did the steps."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import pytest
from system.mpi import run_mpi, run_nxmpi

from nxmpi.pipeline.rates import BUILT_IN, MIB

STEPS = {
    "frames": "f1/nxworkflow/nxmax", "transform": "f1/nxworkflow/nxtransform",
    "combine": "entry/nxworkflow/nxcombine", "symmetrize": "entry/nxworkflow/nxsymmetrize",
    "pdf": "entry/nxworkflow/nxpdf",
}  # fmt: skip
WITHIN = 0.25
LARGE_SCAN = Path(__file__).with_name("large.py")
LARGE = 100 * MIB
"""What the interpreter's own memory does not hide."""


def peak_of(wrapper, step, n):
    """Return the largest memory of n ranks that did a step, as they told [bytes]."""
    # the step of its own: memory of those before would count
    result = run_nxmpi(n, step, wrapper, "--overwrite", timeout=900)
    assert result.returncode == 0, result.stderr
    with h5py.File(wrapper) as file:
        note = file[f"{STEPS[step]}/note/data"][()].decode()
    return int(re.search(r"(\d+) MiB a rank", note)[1]) * MIB


@pytest.fixture(scope="module")
def tiny(searched, tmp_path_factory):
    return searched.copy(tmp_path_factory.mktemp("tiny") / "e").wrapper


@pytest.mark.full
@pytest.mark.parametrize(("n", "frames", "voxels"), [(1, 20, 251), (2, 40, 301), (3, 20, 251)])
def test_memory_of_a_rank(tiny, tmp_path, n, frames, voxels):
    folder = tmp_path / "e"
    made = run_mpi(0, LARGE_SCAN, folder, frames, voxels, timeout=600)
    assert made.returncode == 0, made.stderr
    wrapper = made.stdout.strip()
    run_nxmpi(n, "reduce", tiny)  # compiles what is not compiled yet
    found = {}
    for step in STEPS:
        base = peak_of(tiny, step, n)
        rates = tmp_path / "rates.json"
        rates.write_text(json.dumps(asdict(replace(BUILT_IN, base={step: base}))))
        told = run_nxmpi(
            0, "plan", wrapper, "--ranks", n, "--only", step, "--json",
            env={"NXMPI_RATES": str(rates)}, timeout=600,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        (planned,) = json.loads(told.stdout)["steps"]
        found[step] = (planned["memory_rank"], peak_of(wrapper, step, n), base)
    told = {step: [round(value / MIB) for value in values] for step, values in found.items()}
    for step, (planned, measured, base) in found.items():
        assert abs(planned - measured) < WITHIN * measured, (step, told)
        beyond = measured - base
        if beyond > LARGE:
            assert abs(planned - base - beyond) < WITHIN * beyond, (step, told)
    # the formulas are seen: not all is the interpreter's
    large = [step for step, (_, measured, base) in found.items() if measured - base > LARGE]
    assert {"frames", "transform", "symmetrize", "pdf"} <= {*large}
