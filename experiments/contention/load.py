"""Background load: processes that multiply matrices, as many as are wanted at the moment."""

import multiprocessing
import os
import time
from multiprocessing.sharedctypes import Synchronized
from types import TracebackType
from typing import Self

import numpy as np

SIDE = 512  # of the matrices, 2 MB each: caches and memory are contended for, not cores alone
PAUSE = 0.01  # seconds between two looks of one that has nothing to do


class Load:
    """Processes beside this one, of which ``set(count)`` keeps the first ``count`` busy."""

    def __init__(self, most: int):
        context = multiprocessing.get_context("spawn")
        self._wanted: Synchronized[int] = context.Value("i", 0)
        self._processes = [context.Process(target=_work, args=(i, self._wanted), daemon=True) for i in range(most)]

    def set(self, count: int) -> None:
        """Keep ``count`` of them busy from now on."""
        self._wanted.value = count

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.join()


def _work(number: int, wanted: "Synchronized[int]") -> None:
    parent = os.getppid()
    matrix = np.random.default_rng(number).standard_normal((SIDE, SIDE))
    while os.getppid() == parent:
        if number < wanted.value:
            matrix = np.tanh(matrix @ matrix)
        else:
            time.sleep(PAUSE)
