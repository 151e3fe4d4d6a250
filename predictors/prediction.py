"""What a predictor answers: a number with an interval for each network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions for ``n`` networks, arrays ``(n,)`` in the unit of the target.

    Attributes:
        mean: The prediction.
        low: Lower end of its 90 % interval.
        high: Upper end.
    """

    mean: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.mean)
