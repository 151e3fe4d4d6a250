"""``nas devices``."""

from nas.cli.options import Json
from nas.cli.output import print_json, print_table


def devices(json: Json = False) -> None:
    """List the devices, with the precisions that each really executes on this machine."""
    from latency_tables import get_device, list_devices
    from nas.errors import DeviceError

    rows = []
    for name, summary in list_devices().items():
        try:
            device = get_device(name)
            state = {"runtime": device.runtime, "precisions": list(device.precisions), "fingerprint": device.fingerprint}
        except DeviceError as error:
            state = {"runtime": None, "precisions": [], "fingerprint": None, "absent": str(error)}
        rows.append({"name": name, "summary": summary, **state})
    if json:
        print_json(rows)
        return
    table = [
        (row["name"], row["runtime"] or "absent here", ", ".join(row["precisions"]), row["fingerprint"] or "", row["summary"])
        for row in rows
    ]
    print_table(("device", "runtime", "precisions", "fingerprint", "what it is"), table)
