"""A table sums its parts, and its file comes back whole or is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_families import TINY
from tiny_space import tiny_space

from latency_tables import LatencyTable, TableIdentity
from nas.errors import FileFormatError
from nas.files import sha256
from search_spaces import Genes, SearchSpace, get_space

IDENTITY = {"channels": 1, "classes": 3, "device": {"cpu": "x"}, "fingerprint": "f"}


def random_table(space: SearchSpace) -> LatencyTable:
    rng, table = np.random.default_rng(0), LatencyTable.zeros(space)
    table.constant_ms[0] = rng.random()
    for _, array, at in table.entries():
        array[at] = rng.random()
    return table


def identity_of(space: SearchSpace) -> TableIdentity:
    return TableIdentity(space.name, space.preset.digest, space.precisions, **IDENTITY)


def by_hand(table: LatencyTable, row: Genes) -> float:
    space = table.space
    total, before, resolution = table.constant_ms[0], 0, int(row[0])
    for part, code in enumerate(space.part_codes(row[None])[0]):
        if code:
            total += table.part_ms[part][resolution, before, code]
            before = space.precisions.index(space.part_choices(part)[code - 1].precision)
    return float(total)


@pytest.mark.parametrize(
    "space",
    [*(make() for make in TINY.values()), get_space("fashion-mbv3"), tiny_space(("fp32",))],
    ids=lambda space: space.digest,
)
def test_a_network_costs_its_parts_each_after_the_precision_before_it(space: SearchSpace) -> None:
    table, genes = random_table(space), space.sample(300, np.random.default_rng(1))
    assert np.allclose(table.predict_ms(genes), [by_hand(table, row) for row in genes], rtol=1e-5)


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
def test_it_comes_back_from_its_files(tmp_path: Path, make: Callable[[], SearchSpace]) -> None:
    space = make()
    table, path = random_table(space), tmp_path / "table.csv"
    table.save(path, identity_of(space))
    loaded, identity = LatencyTable.load(path, space)
    genes = space.sample(100, np.random.default_rng(0))
    assert np.allclose(loaded.predict_ms(genes), table.predict_ms(genes))
    assert identity.fingerprint == "f" and identity.device == {"cpu": "x"} and identity.precisions == ("fp32", "int8")
    assert path.read_text().splitlines()[0].endswith(",latency_ms")


def test_a_table_of_another_space_or_menu_is_refused(tmp_path: Path) -> None:
    space, path = tiny_space(), tmp_path / "table.csv"
    random_table(space).save(path, identity_of(space))
    with pytest.raises(FileFormatError, match=r"table\.csv: a table of tiny .* not of fashion-mbv3 .*nas calibrate"):
        LatencyTable.load(path, get_space("fashion-mbv3"))
    with pytest.raises(FileFormatError, match=r"\(fp32, int8\), not of tiny .* \(fp32\)"):
        LatencyTable.load(path, tiny_space(("fp32",)))


def test_a_changed_csv_is_refused(tmp_path: Path) -> None:
    space, path = tiny_space(), tmp_path / "table.csv"
    random_table(space).save(path, identity_of(space))
    path.write_text(path.read_text().replace("0.", "1.", 1))
    with pytest.raises(FileFormatError, match=r"table\.csv: its SHA-256 is not the recorded one; delete its folder"):
        LatencyTable.load(path, space)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], r"entry head 16 precision=int8 int8 is 'missing'; allowed: 0 ms or more"),
        (lambda lines: [*lines, lines[-1].replace("head", "tail")], r"entry tail 16 .* is not of space 'tiny'"),
        (lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",-1"], r"entry head .* is '-1'; allowed"),
        (lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",nan"], r"entry head .* is 'nan'; allowed"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, change, message: str) -> None:
    space, path = tiny_space(), tmp_path / "table.csv"
    random_table(space).save(path, identity_of(space))
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    meta = path.with_suffix(".json")
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "csv_sha256": sha256(path)}))
    with pytest.raises(FileFormatError, match=message):
        LatencyTable.load(path, space)


def test_what_it_is_of_must_be_whole(tmp_path: Path) -> None:
    space, path = tiny_space(), tmp_path / "table.csv"
    random_table(space).save(path, identity_of(space))
    meta = path.with_suffix(".json")
    content = json.loads(meta.read_text())
    del content["fingerprint"]
    meta.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match=r"table\.json: 'fingerprint' is missing or of the wrong type"):
        LatencyTable.load(path, space)
