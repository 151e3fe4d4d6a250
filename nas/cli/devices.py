"""``nas devices``."""

from typing import Any

from nas.cli.options import Json
from nas.cli.output import print_json, print_table


def devices(json: Json = False) -> None:
    """List the devices: what each executes on this machine, or what it lacks and the line that installs it.

    A device of your own is a TOML file that names one of the runtimes: schema_version = 1, runtime, and if you like
    name, threads, precisions. Runtime ssh is another machine: it takes host (as after ssh), and if you like inner
    (onnxruntime, openvino), python, port, identity, known_hosts. Every command takes its path for --device.
    """
    from latency_tables import get_device, list_devices, list_runtimes
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
    here = [row for row in rows if row["absent"] is None]
    print_table(
        ("device", "runtime", "precisions", "fingerprint", "what it is"),
        [
            (row["name"], row["runtime"], ", ".join(row["precisions"]), row["fingerprint"], row["summary"])
            for row in here
        ],
    )
    for row in rows:
        if row["absent"] is not None:
            print(f"absent: {row['absent']}")
    print(f"runtimes for profiles of your own (--device FILE.toml): {', '.join(list_runtimes())}")
