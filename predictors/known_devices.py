"""Tables of other devices for a space: those that ship, and those of calibrations in the user's cache."""

from collections.abc import Iterator
from pathlib import Path

import latency_tables
from latency_tables import Device, LatencyTable
from latency_tables.costs import Images
from latency_tables.table import read_identity
from nas.errors import FileFormatError
from nas.files import cache_dir
from search_spaces import SearchSpace

SHIPPED = Path(latency_tables.__file__).parent / "tables"


def known_tables(
    device: Device, space: SearchSpace, images: Images, shipped: Path = SHIPPED
) -> dict[str, LatencyTable]:
    """Return the tables of devices other than ``device``, by name and fingerprint.

    Only of the same space, menu of precisions and images, and none modelled for a device that is measured. A file that
    is damaged is passed over: it is another device's affair.
    """
    found: dict[str, LatencyTable] = {}
    for name, path in _files(space, shipped):
        try:
            identity = read_identity(path.with_suffix(".json"))
            same = (identity.space_digest, identity.precisions) == (space.preset.digest, space.precisions)
            same &= (identity.channels, identity.classes) == (images.channels, images.classes)
            same &= bool(identity.device.get("simulated")) == device.simulated
            if same and identity.fingerprint != device.fingerprint:
                found.setdefault(f"{name} {identity.fingerprint[:6]}", LatencyTable.load(path, space)[0])
        except FileFormatError:
            continue
    return found


def _files(space: SearchSpace, shipped: Path) -> Iterator[tuple[str, Path]]:
    """Yield the tables that there are, with the name of the device."""
    for path in sorted(shipped.rglob("*.csv")):
        yield path.stem, path
    for path in sorted((cache_dir() / "calibrations").glob("[!.]*/predictor_table.csv")):
        yield path.parent.name.rpartition("-")[0].removesuffix(f"-{space.name}"), path
