"""``nas devices``."""

from typing import Any

from nas.cli.options import Json
from nas.cli.output import print_json, print_table


def devices(json: Json = False) -> None:
    """List the devices, with the precisions that each really executes on this machine."""
    from latency_tables import get_device, list_devices
    from nas.errors import DeviceError

    rows: list[dict[str, Any]] = []
    for name, summary in list_devices().items():
        row: dict[str, Any] = {"name": name, "summary": summary, "absent": None}
        try:
            device = get_device(name)
            row |= {"runtime": device.runtime, "precisions": device.precisions, "fingerprint": device.fingerprint}
        except DeviceError as error:
            row |= {"runtime": None, "precisions": [], "fingerprint": None, "absent": str(error)}
        rows.append(row)
    if json:
        print_json(rows)
        return
    table = [
        (
            row["name"], row["runtime"] or row["absent"], ", ".join(row["precisions"]), row["fingerprint"] or "",
            row["summary"],
        )
        for row in rows
    ]  # fmt: skip
    print_table(("device", "runtime", "precisions", "fingerprint", "what it is"), table)
