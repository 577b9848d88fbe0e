"""Choices that cannot be meant."""

import pytest

from nxmpi.errors import InputError
from nxmpi.params import (
    CutParams,
    FramesParams,
    OrientParams,
    PdfParams,
    ScanParams,
    SliceParams,
    TransformParams,
    WindowParams,
)

pytestmark = pytest.mark.parallel([1])


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("params", "name", "others"),
    [
        (OrientParams, "tolerance", {}),
        (FramesParams, "gain", {}),
        (TransformParams, "checkpoint", {}),
        (ScanParams, "follow", {}),
        (ScanParams, "norm", {}),
        (SliceParams, "thickness", {"plane": "h k 0"}),
        (CutParams, "width", {"line": ((0, 0, 0), (1, 0, 0))}),
        (WindowParams, "q_max", {}),
        (PdfParams, "spacing", {}),
    ],
)
def test_what_has_to_be_above_0_is_finite_too(params, name, others, value):
    with pytest.raises(InputError, match=f"^{name}: expected a number above 0, found {value}$"):
        params(**others, **{name: value})
