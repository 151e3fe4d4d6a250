"""ImageNet networks on this processor: once-for-all's subnets against timm's mobile networks. See README.md.

    python experiments/imagenet_cpu/run.py OUT DATA --write        # some hours
    python experiments/imagenet_cpu/run.py OUT DATA --devices cpu --rounds 1 --networks mobilenetv2_100,resnet18

DATA is the folder with once-for-all's released accuracy predictor and measured accuracies. What is in OUT is not
measured again: the same command goes on where it was stopped. Writes OUT/result.json, OUT/tables.md and OUT/front.png;
--write copies them beside this file. The devices' calibrations for ofa-mbv3 are those of `nas calibrate`, in the cache.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from imagenet_fronts import accuracy_predictor, ofa_networks
from imagenet_networks import Network, model_of, timm_networks
from imagenet_report import SCHEMA, SCHEMA_VERSION, write_report

from latency_tables import FULL, Device, MeasuringPlan, get_device
from nas.defaults import BUDGET
from nas.errors import UsageError
from nas.files import read_json, write_bytes, write_json

DEVICES = ("cpu", "openvino", "browser")
SUBNETS = 12  # spread over each front, beside those that are as accurate as a network of timm
BATCH = 12  # networks whose sessions are open at once, ResNets among them
FILES = ("result.json", "tables.md", "front.png")


def networks_of(
    out: Path, data: Path, device: Device, names: list[str] | None, *, subnets: int, budget: int
) -> list[Network]:
    """Return what is measured on a device, as decided once: timm's networks, and the fronts found for it."""
    path = out / f"{device.name}-networks.json"
    asked = {"names": names, "subnets": subnets, "budget": budget, "fingerprint": device.fingerprint}
    if not path.exists():
        peers = [one for one in timm_networks(names) if one.precision in device.precisions]
        levels = sorted({one.top1 for one in peers})
        found = ofa_networks(device, accuracy_predictor(data), count=subnets, levels=levels, budget=budget) + peers
        networks = [asdict(one) for one in found]
        write_json(path, SCHEMA, SCHEMA_VERSION, {"asked": asked, "networks": networks})
    content = read_json(path, SCHEMA, SCHEMA_VERSION)
    if content["asked"] != asked:
        raise UsageError(f"{path}: of {content['asked']}, not of {asked}; name another folder")
    return [Network(**one) for one in content["networks"]]


def measured(
    out: Path, device: Device, networks: Sequence[Network], number: int, plan: MeasuringPlan
) -> dict[str, dict[str, Any]]:
    """Return a round of a device: every network's measurement by key, in batches drawn anew for each round."""
    order = np.random.default_rng([number]).permutation(len(networks))
    found: dict[str, dict[str, Any]] = {}
    for batch, start in enumerate(range(0, len(networks), BATCH)):
        path = out / "rounds" / f"{number}-{device.name}-{batch}.json"
        if not path.exists():
            chosen = [networks[place] for place in order[start : start + BATCH]]
            models = {one.key: model_of(one, device.quantization, out / "models") for one in chosen}
            timed = device.measure_many(models, plan=plan, seed=1000 * number + batch, baseline_ms=_first(out, device))
            path.parent.mkdir(parents=True, exist_ok=True)
            networks_ms = {key: one.to_dict() for key, one in timed.items()}
            content = {"fingerprint": device.fingerprint, "networks": networks_ms}
            write_json(path, SCHEMA, SCHEMA_VERSION, content)
            print(f"round {number} on {device.name}: {start + len(chosen)} of {len(networks)}", file=sys.stderr)
        content = read_json(path, SCHEMA, SCHEMA_VERSION)
        device.must_be(content["fingerprint"], path)
        found |= content["networks"]
    return found


def _first(out: Path, device: Device) -> float | None:
    """Return what the reference net took in a device's first batch, which the others are brought to."""
    path = out / "rounds" / f"0-{device.name}-0.json"
    if not path.exists():
        return None
    return float(next(iter(read_json(path, SCHEMA, SCHEMA_VERSION)["networks"].values()))["reference_ms"])


def run(
    out: Path,
    data: Path,
    devices: Sequence[Device],
    *,
    rounds: int,
    names: list[str] | None = None,
    subnets: int = SUBNETS,
    budget: int = BUDGET,
    plan: MeasuringPlan = FULL,
) -> None:
    """Find the fronts, measure round by round with the devices taking turns, and report."""
    out.mkdir(parents=True, exist_ok=True)
    networks = {one.name: networks_of(out, data, one, names, subnets=subnets, budget=budget) for one in devices}
    found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in devices}
    for number in range(rounds):
        for device in devices:
            found[device.name].append(measured(out, device, networks[device.name], number, plan))
    write_report(out, {one.name: one.describe() for one in devices}, networks, found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where everything is kept")
    parser.add_argument("data", type=Path, help="once-for-all's predictor and measured accuracies")
    parser.add_argument("--devices", type=lambda text: text.split(","), default=DEVICES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", type=lambda text: text.split(","), help="of timm; else all of published.csv")
    parser.add_argument("--subnets", type=int, default=SUBNETS, help="spread over each front")
    parser.add_argument("--budget", type=int, default=BUDGET, help="candidates that each search scores")
    parser.add_argument("--write", action="store_true", help="keep the report beside this file")
    options = parser.parse_args(arguments)
    run(
        options.out, options.data, [get_device(name) for name in options.devices], rounds=options.rounds,
        names=options.networks, subnets=options.subnets, budget=options.budget,
    )  # fmt: skip
    for name in FILES if options.write else ():
        write_bytes(Path(__file__).with_name(name), (options.out / name).read_bytes())


if __name__ == "__main__":
    main()
