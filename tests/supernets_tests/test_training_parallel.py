"""Training in several processes: the same losses as one process with the same batches."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_space import tiny_space
from tiny_training import PLAN, tiny_splits

from nas.errors import UsageError
from nas.files import read_tensors
from search_spaces import MBConvSpace
from supernets.training import train
from supernets.training.parallel import Group, process_group

SPACE = MBConvSpace(replace(tiny_space().preset, dropout=0.0))  # dropout alone draws apart in each process
SCRIPT = """
import sys
from pathlib import Path
from test_training_parallel import SPACE
from tiny_training import PLAN, tiny_splits
from supernets.training import train
from supernets.training.parallel import process_group
with process_group("cpu") as (group, device):
    train(SPACE, tiny_splits(), Path(sys.argv[1]), plan=PLAN, device=device, group=group)
"""


def torchrun(arguments: list[str], processes: int = 2) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=120)


def losses(out: Path) -> list[float]:
    with open(out / "train_log.csv") as file:
        return [float(line["loss"]) for line in csv.DictReader(file)]


def test_two_processes_reach_the_losses_and_the_weights_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = torchrun([str(script), str(tmp_path / "two")])
    assert done.returncode == 0, done.stderr
    train(SPACE, tiny_splits(), tmp_path / "one", plan=PLAN)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 6 and two == pytest.approx(one, rel=2e-3)
    kept = [read_tensors(tmp_path / run / "supernet.safetensors", "supernet", 1)[0] for run in ("one", "two")]
    for name in ("stem.conv.weight", "blocks.block_0_0.expand.bn.running_var", "head.classifier.bias"):
        torch.testing.assert_close(kept[0][name], kept[1][name], rtol=0.05, atol=0.02)
    resumed = train(SPACE, tiny_splits(), tmp_path / "two", plan=PLAN)  # by one process: nothing is left to do
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in resumed.state_dict().items())


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch size 16 for 3 processes; allowed: a multiple of their number"):
        train(SPACE, tiny_splits(), tmp_path, plan=PLAN, group=Group(0, 3))


def test_a_numbered_gpu_is_refused_where_there_are_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with (
        pytest.raises(UsageError, match="--torch-device cuda:1 with 2 processes; allowed: cpu, or cuda without"),
        process_group("cuda:1"),
    ):
        pass
    monkeypatch.delenv("LOCAL_RANK")
    with (
        pytest.raises(UsageError, match="WORLD_SIZE is '2', LOCAL_RANK ''; allowed: as torchrun"),
        process_group("cpu"),
    ):
        pass
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match="process 0 has no GPU: there are 0"), process_group("cuda"):
        pass
