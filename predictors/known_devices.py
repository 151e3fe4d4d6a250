"""Tables of other devices for a space: those that ship, and those of calibrations in the user's cache."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import latency_tables
from latency_tables import Device, LatencyTable
from latency_tables.costs import Images
from latency_tables.table import TableIdentity, read_identity
from nas.errors import FileFormatError
from nas.files import cache_dir
from search_spaces import SearchSpace, as_written, get_space, list_spaces, make_space

SHIPPED = Path(latency_tables.__file__).parent / "tables"


def known_tables(
    device: Device, space: SearchSpace, images: Images, shipped: Path = SHIPPED
) -> dict[str, LatencyTable]:
    """Return the tables of devices other than ``device``, by name and fingerprint.

    Only of the same space, or of one that it is a part of (fewer precisions; of a space that ships also fewer sizes),
    of the same images, and none modelled for a device that is measured; a table in fp32 stands for one in other floats.
    A file that is damaged is passed over: it is another device's affair.
    """
    found: dict[str, LatencyTable] = {}
    for name, path in _files(space, shipped):
        try:
            identity = read_identity(path.with_suffix(".json"))
            own = _in_its_floats(identity, space)
            whole = _whole(identity, own)
            same = (identity.channels, identity.classes) == (images.channels, images.classes)
            same &= bool(identity.device.get("simulated")) == device.simulated
            if whole is not None and same and identity.fingerprint != device.fingerprint:
                found.setdefault(f"{name} {identity.fingerprint[:6]}", _table(path, whole, own, space))
        except FileFormatError:
            continue
    return found


def _whole(identity: TableIdentity, space: SearchSpace) -> SearchSpace | None:
    """Return the space that a table is of, if ``space`` is that or a part of it; else None."""
    preset = space.preset
    if identity.space_digest != preset.digest:
        if identity.space not in list_spaces():
            return None
        preset = get_space(identity.space).preset
        alike = replace(preset, resolutions=space.preset.resolutions).digest == space.preset.digest
        if preset.digest != identity.space_digest or not alike:
            return None
    part = set(space.precisions) <= set(identity.precisions) and set(space.resolutions) <= set(preset.resolutions)
    return make_space(preset, identity.precisions) if part else None


def _in_its_floats(identity: TableIdentity, space: SearchSpace) -> SearchSpace:
    """Return the space with fp32 in the place of floats that a table lacks."""
    menu = [name if name in identity.precisions else as_written(name) for name in space.precisions]
    return make_space(space.preset, menu) if len(set(menu)) == len(menu) else space


def _table(path: Path, whole: SearchSpace, own: SearchSpace, space: SearchSpace) -> LatencyTable:
    return replace(LatencyTable.load(path, whole)[0].part(own), space=space)


def _files(space: SearchSpace, shipped: Path) -> Iterator[tuple[str, Path]]:
    """Yield the tables that there are, with the name of the device."""
    for path in sorted(shipped.rglob("*.csv")):
        yield path.stem, path
    for path in sorted((cache_dir() / "calibrations").glob("[!.]*/predictor_table.csv")):
        yield path.parent.name.rpartition("-")[0].removesuffix(f"-{space.name}"), path
