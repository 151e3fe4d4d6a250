"""What calibrations are worth, judged by later processes; and the tables that ship. See README.md.

    python experiments/calibration/run.py OUT             # calibrates and judges; hours for all devices and spaces
    python experiments/calibration/run.py OUT --ship      # and puts the tables into latency_tables/tables
    python experiments/calibration/run.py OUT --devices cpu,openvino --spaces fashion-mbv3

Every step is a process of its own, of as many threads as the device has, pinned to no core. What is in OUT is not
measured again: the same command goes on where it was stopped. Writes OUT/result.json, OUT/tables.md and
OUT/predicted.png; --write copies them beside this file.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from calibration_cases import FOLDER, SCHEMA, SCHEMA_VERSION, Case, find_case
from calibration_judged import write_report

from latency_tables.table import LatencyTable
from nas.errors import NasError
from nas.files import write_bytes, write_json
from predictors.calibration import calibration_folder
from predictors.known_devices import SHIPPED

DEVICES = ("cpu", "cpu-2t", "openvino", "browser")
SPACES = ("fashion-mbv3", "ofa-mbv3")
NETWORKS = 100
SESSIONS = (1, 2)  # the second tells how well a measurement repeats
FILES = ("result.json", "tables.md", "predicted.png")

Launch = Callable[[list[str]], None]


def launch(arguments: list[str]) -> None:
    """Run a step in a process of its own, with one thread but those that the device asks for, and a cache of its own.

    Raises:
        SystemExit: It failed.
    """
    out = Path(arguments[0])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HWNAS_CACHE": str(out / "cache"), **_browser_package()}
    done = subprocess.run([sys.executable, __file__, *arguments], env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"step {' '.join(arguments[1:])} failed; the same command goes on with it")


def _browser_package() -> dict[str, str]:
    """Name the folder of onnxruntime-web, which is sought in the cache that is left behind."""
    from latency_tables.browser.package import find_package

    try:
        return {"HWNAS_ORT_WEB": str(find_package().folder.parent)}
    except NasError:
        return {}


def steps(options: argparse.Namespace) -> list[list[str]]:
    """Return the steps that lead to a report: all calibrations first, so that every judge is a later process."""
    cases = list(product(options.spaces, options.devices))
    common = [str(options.out), "--networks", str(options.networks)]
    found = [[*common, "--step", "calibrate", "--spaces", space, "--devices", device] for space, device in cases]
    for session in SESSIONS:
        step = ["--step", f"session-{session}"]
        found += [[*common, *step, "--spaces", space, "--devices", device] for space, device in cases]
    return found


def launch_cold(case: Case, launch: Callable[[], None]) -> None:
    """Calibrate, and note the process's wall time, unless something of the case was measured before."""
    folder = calibration_folder(case.device, case.space, **vars(case.images))
    cold, begun = not folder.exists(), time.perf_counter()
    launch()
    if cold:
        case.cold_path.parent.mkdir(parents=True, exist_ok=True)
        content = {"fingerprint": case.device.fingerprint, "seconds": round(time.perf_counter() - begun, 1)}
        write_json(case.cold_path, SCHEMA, SCHEMA_VERSION, content)


def run_step(name: str, case: Case, networks: int) -> None:
    """Calibrate, or measure the networks that judge in one of the sessions; what is there is not done again."""
    if name == "calibrate":
        case.calibrate()
    else:
        case.measure(int(name.removeprefix("session-")), networks)


def ship(cases: Sequence[Case], folder: Path) -> None:
    """Write the tables of calibrations as ``folder``/<space>/<device>.csv, and what they are of beside them."""
    for case in cases:
        path = case.calibration().folder / "predictor_table.csv"
        table, identity = LatencyTable.load(path, case.space)
        place = folder / case.space.name / f"{case.device_name}.csv"
        place.parent.mkdir(parents=True, exist_ok=True)
        table.save(place, replace(identity, csv_sha256=""))


def main(arguments: Sequence[str] | None = None, launch: Launch = launch, shipped: Path = SHIPPED) -> None:
    """Read the command line and do it; ``launch`` runs a step of the same command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where measurements are kept")
    parser.add_argument("--devices", type=lambda text: text.split(","), default=DEVICES)
    parser.add_argument("--spaces", type=lambda text: text.split(","), default=SPACES)
    parser.add_argument("--networks", type=int, default=NETWORKS, help="that judge, of each device and space")
    parser.add_argument("--ship", action="store_true", help="put the tables into latency_tables/tables")
    parser.add_argument("--write", action="store_true", help="keep the report beside this file")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        run_step(options.step, find_case(options.out, options.spaces[0], options.devices[0]), options.networks)
        return
    os.environ["HWNAS_CACHE"] = str(options.out / "cache")
    cases = [find_case(options.out, space, device) for space, device in product(options.spaces, options.devices)]
    todo = steps(options)
    for case, step in zip(cases, todo, strict=False):  # the first steps calibrate, a case each
        launch_cold(case, partial(launch, step))
    for step in todo[len(cases) :]:
        launch(step)
    write_report(options.out, cases)
    if options.ship:
        ship(cases, shipped)
    for name in FILES if options.write else ():
        write_bytes(FOLDER / name, (options.out / name).read_bytes())


if __name__ == "__main__":
    main()
