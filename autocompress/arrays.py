"""Arrays as functions of numbers take and give them."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
