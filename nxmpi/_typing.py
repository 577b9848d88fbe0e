"""Array aliases; shapes belong to docstrings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]
U8 = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Frames = NDArray[Any]
"""Raw detector counts, any integer type."""
