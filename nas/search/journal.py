"""Everything scored in a search, in order, and its state on disk: one npz file without pickle.

The strategy's own state is not stored. Strategies are deterministic, so a resumed search asks again and is told the
stored scores in place of new ones: the same file serves every strategy, and a resumed search is an undisturbed one.
A search that is told stored scores follows them wherever they come from, so some are first compared with new ones.
"""

import json
import struct
import time
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from nas.errors import FileFormatError, UsageError
from nas.files import atomic_path, exists, is_file
from nas.search.problem import Genes, Problem
from nas.search.result import Scored

SCHEMA, SCHEMA_VERSION = "hwnas search state", 1
SAVE_SECONDS = 10.0  # between two writes
CHECKED = 64  # stored candidates that are scored anew before the rest are believed
TOLERANCE = 1e-4  # relative; a product of other shape rounds otherwise, another calibration is off by far more
# What numpy, zipfile and json say of a file that is damaged or something else:
UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, EOFError, AttributeError, NotImplementedError, RecursionError,
    MemoryError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Journal:
    """Scores candidates and remembers them; a context that writes the file, if there is one, however it is left.

    Raises:
        FileFormatError: The file is damaged or is something else.
        UsageError: It is the state of another search; the message says in what.
    """

    def __init__(self, problem: Problem, strategy: str, budget: int, seed: int, path: Path | None):
        self._problem, self._path = problem, path
        self._identity = identity_of(problem, strategy, budget, seed)
        self._parts: list[Scored] = []
        self._stored = nothing(problem)
        if path is not None and exists(path):
            self._stored = _load(path, problem, self._identity)
        self._saved = len(self._stored)
        self._saved_at = time.monotonic()
        self.evaluated = 0

    def score(self, genes: Genes) -> Scored:
        """Return the scores of a batch: the stored ones as long as there are any, else new ones.

        Raises:
            FileFormatError: The stored candidates are not those asked for.
            UsageError: The stored scores are not what the problem gives.
        """
        if self.evaluated < len(self._stored):
            scored = self._stored.take(np.arange(self.evaluated, min(self.evaluated + len(genes), len(self._stored))))
            if not np.array_equal(scored.genes, genes):
                raise FileFormatError(
                    f"{self._path}: its candidates are not those that this search asks for; another version "
                    "wrote it: remove it to start anew"
                )
            if self.evaluated == 0:
                check_scores(self._problem, scored.take(np.arange(min(CHECKED, len(scored)))), str(self._path))
        else:
            scored = Scored(genes, self._problem.score(genes))
        self._parts.append(scored)
        self.evaluated += len(genes)
        if time.monotonic() - self._saved_at > SAVE_SECONDS:
            self._save()
        return scored

    def history(self) -> Scored:
        """Return everything scored so far, in order."""
        if not self._parts:
            return nothing(self._problem)
        self._parts = [Scored.join(self._parts)]
        return self._parts[0]

    def _save(self) -> None:
        if self._path is None or self.evaluated <= self._saved:
            return
        history = self.history()
        header = json.dumps({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "search": self._identity})
        arrays = {f"score:{name}": values for name, values in history.scores.items()}
        with atomic_path(self._path) as temporary, open(temporary, "wb") as file:
            np.savez(file, header=np.array(header), genes=history.genes, allow_pickle=False, **arrays)
        self._saved, self._saved_at = self.evaluated, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._save()


def check_state(path: Path, problem: Problem, strategy: str, budget: int, seed: int) -> None:
    """Check that ``path`` is absent or holds the state of this search; its scores are looked at when it goes on.

    Raises:
        FileFormatError: The file is damaged or is something else.
        UsageError: It is the state of another search; the message says in what.
    """
    if exists(path):
        _load(path, problem, identity_of(problem, strategy, budget, seed))


def check_scores(problem: Problem, stored: Scored, where: str) -> None:
    """Check that stored scores are those that a problem gives, where it gives the same scores again.

    Raises:
        UsageError: They are not; the message names ``where`` they are stored.
    """
    if not problem.repeatable or len(stored) == 0:
        return
    now = problem.score(stored.genes)
    for name in problem.names:
        wrong = ~np.isclose(stored.scores[name], now[name], rtol=TOLERANCE)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UsageError(
                f"{where} holds a search with {name} {stored.scores[name][row]:.4g} where this one gives "
                f"{now[name][row]:.4g}: of another device, calibration, supernet or predictor; name another file "
                "or remove this one"
            )


def nothing(problem: Problem) -> Scored:
    """Return no candidates, with the scores that the problem needs."""
    return Scored(np.empty((0, problem.space.num_genes), np.int8), {name: np.empty(0) for name in problem.names})


def identity_of(problem: Problem, strategy: str, budget: int, seed: int) -> dict[str, Any]:
    """Return what must agree for a stored state to be this search's."""
    return {
        "space": problem.space.name,
        "choices": problem.space.digest,
        "objectives": dict(problem.objectives),
        "constraints": {name: list(bounds) for name, bounds in problem.constraints.items()},
        "strategy": strategy,
        "budget": budget,
        "seed": seed,
    }


def _load(path: Path, problem: Problem, identity: dict[str, Any]) -> Scored:
    needed = {"header", "genes", *(f"score:{name}" for name in problem.names)}
    try:
        if not is_file(path):
            raise ValueError("not a regular file")
        with np.load(path, allow_pickle=False) as file:
            if lacking := needed - set(file.files):
                raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
            header, genes = json.loads(str(file["header"])), file["genes"]
            scores = {name.removeprefix("score:"): file[name] for name in file.files if name.startswith("score:")}
    except UNREADABLE as error:
        raise FileFormatError(f"{path}: not a readable search state ({error}); remove it to start anew") from error
    found = (header.get("schema"), header.get("schema_version")) if isinstance(header, dict) else (None, None)
    if found != (SCHEMA, SCHEMA_VERSION):
        raise FileFormatError(
            f"{path}: schema {found[0]!r} version {found[1]!r}; allowed: {SCHEMA!r} version {SCHEMA_VERSION}"
        )
    stored = header.get("search")
    for key, value in identity.items():
        if not isinstance(stored, dict) or stored.get(key) != value:
            was = stored.get(key) if isinstance(stored, dict) else None
            raise UsageError(
                f"{path} holds a search with {key} {was!r}, not {value!r}; name another file or remove this one"
            )
    is_row = genes.dtype == np.int8 and genes.shape[1:] == (problem.space.num_genes,)
    if not is_row or any(one.shape != (len(genes),) or one.dtype.kind != "f" for one in scores.values()):
        raise FileFormatError(f"{path}: not one row of genes and scores a candidate; remove it to start anew")
    for name in problem.names:
        if not np.isfinite(scores[name]).all():
            raise FileFormatError(f"{path}: {name} is not finite everywhere; remove it to start anew")
    return Scored(genes, scores)
