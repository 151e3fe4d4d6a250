"""Networks by their names, their weights from files, and what is refused."""

import re
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from nas.compression.models import RANDOM, load_model, read_weights
from nas.compression.widths import Width, narrowed, widths_of
from nas.errors import FileFormatError, UsageError

NET = "timm:mobilenetv2_035"
DOWNLOAD = "torchvision.models._api.load_state_dict_from_url"
SOURCE = """\
from torch import nn
def build(classes=2):
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, classes))
def transposed():
    return nn.Sequential(nn.ConvTranspose2d(4, 8, 2), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8))
def lazy():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.LazyLinear(3))
def number():
    return 3
def broken():
    raise ValueError("no such luck\\nat all")
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my_net.py"
    path.write_text(SOURCE)
    return path


def test_networks_of_timm_and_torchvision_come_with_the_images_they_take() -> None:
    found = load_model(NET, weights=RANDOM, classes=7)
    assert (found.channels, found.resolution, not found.network.training) == (3, 224, True)
    assert found.network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert found.mean is not None and found.std is not None
    other = load_model("torchvision:shufflenet_v2_x0_5", weights=RANDOM)
    assert other.network(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    assert other.resolution == 224


def test_random_weights_are_the_same_each_time_and_the_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two = (load_model(NET, weights=RANDOM).network.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(torch.rand(1), expected)


def test_a_function_builds_one_with_the_classes_that_are_asked_for(source: Path) -> None:
    found = load_model(f"{source}:build", classes=5)
    assert (found.channels, found.resolution, found.mean) == (1, None, None)
    assert found.network(torch.zeros(1, 1, 8, 8)).shape == (1, 5)
    assert load_model("torchvision.models.resnet:resnet18", weights=RANDOM).network(torch.zeros(1, 3, 32, 32)).shape[1]


def test_weights_are_read_from_safetensors_and_from_checkpoints_of_torch(source: Path, tmp_path: Path) -> None:
    trained = load_model(f"{source}:build").network
    with torch.no_grad():
        trained[0].weight.add_(1)
    save_file(trained.state_dict(), tmp_path / "a.safetensors")
    nested = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in trained.state_dict().items()}}
    torch.save(nested, tmp_path / "a.pth")
    for file in ("a.safetensors", "a.pth"):
        found = load_model(f"{source}:build", weights=tmp_path / file).network
        assert torch.equal(found[0].weight, trained[0].weight)


@pytest.mark.parametrize("function", ["build", "transposed"])
def test_a_narrowed_network_runs_and_is_built_again_from_its_weights(
    source: Path, tmp_path: Path, function: str
) -> None:
    whole = load_model(f"{source}:{function}").network
    widths = widths_of(whole)
    inputs = widths["0"].inputs
    widths |= {"0": Width(inputs, 5), "1": Width(5, 5)}
    widths |= {"4": Width(5 * 36, 2)} if "4" in widths else {"2": Width(5, 5)}
    narrow = narrowed(whole, widths).eval()
    image = torch.rand(1, inputs, 8, 8)
    expected = narrow(image)
    assert widths_of(narrow) == widths
    save_file(narrow.state_dict(), tmp_path / "narrow.safetensors")
    again = load_model(f"{source}:{function}", weights=tmp_path / "narrow.safetensors").network
    assert torch.equal(again(image), expected) and widths_of(again) == widths


def test_what_is_no_network_is_refused_in_one_line(source: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown model 'resnet51'; allowed: a name of timm or torchvision.* Did you"):
        load_model("resnet51", weights=RANDOM)
    with pytest.raises(UsageError, match=r"unknown model 'torchvision:mobilenetv2_035'"):
        load_model("torchvision:mobilenetv2_035", weights=RANDOM)
    with pytest.raises(UsageError, match=r"model no_such:build: ModuleNotFoundError: No module named 'no_such'"):
        load_model("no_such:build")
    with pytest.raises(UsageError, match=r"model: no file .*absent.py"):
        load_model(f"{source.parent}/absent.py:build")
    with pytest.raises(UsageError, match=r"it returned a int; allowed: a torch.nn.Module"):
        load_model(f"{source}:number")
    with pytest.raises(UsageError, match=r"ValueError: no such luck; allowed"):
        load_model(f"{source}:broken")
    with pytest.raises(UsageError, match=r"lazy: it has lazy layers without a size; run it once in the function"):
        load_model(f"{source}:lazy")
    with pytest.raises(UsageError, match=r"AttributeError: .*absent"):
        load_model(f"{source}:absent")


def test_a_file_hides_no_module_of_its_name_and_leaves_none_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text(SOURCE)
    assert load_model(f"{tmp_path}/timm.py:build").channels == 1
    assert sys.modules["timm"] is timm
    (tmp_path / "failing.py").write_text("raise ValueError('no such luck')")
    before = set(sys.modules)
    with pytest.raises(UsageError, match=r"failing.py:build: ValueError: no such luck; allowed"):
        load_model(f"{tmp_path}/failing.py:build")
    assert set(sys.modules) == before


def test_published_weights_that_cannot_be_had_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> nn.Module:
        raise OSError("no network\nat all")

    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr(DOWNLOAD, unreachable)
    for name in (NET, "torchvision:shufflenet_v2_x0_5"):
        with pytest.raises(UsageError, match=r"cannot be had \(no network\); give a file with --weights, or 'random'"):
            load_model(name)


@pytest.mark.parametrize("name", [NET, "torchvision:shufflenet_v2_x0_5"])
def test_published_weights_of_another_number_of_classes_are_refused(name: str) -> None:
    wanted = (
        r"tell 1000 classes apart, and the data have 3; train it on these data and give the file with --weights, or"
    )
    with pytest.raises(UsageError, match=wanted):
        load_model(name, classes=3)


def test_published_weights_of_torchvision_are_read_as_its_builders_do(monkeypatch: pytest.MonkeyPatch) -> None:
    own = load_model("torchvision:densenet121", weights=RANDOM).network.state_dict()
    own = {name: value for name, value in own.items() if "num_batches" not in name}
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value + 1 for name, value in own.items()}
    assert old.keys() != own.keys()
    monkeypatch.setattr(DOWNLOAD, lambda *arguments, **options: old)
    found = load_model("torchvision:densenet121", classes=1000).network.state_dict()
    assert all(torch.equal(found[name], value + 1) for name, value in own.items())


def test_inceptions_return_one_tensor_in_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    random = load_model("torchvision:googlenet", weights=RANDOM, classes=7).network
    assert random.transform_input and random.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    whole = torchvision.models.googlenet(init_weights=False).state_dict()
    monkeypatch.setattr(DOWNLOAD, lambda *arguments, **options: whole)
    published = load_model("torchvision:googlenet", classes=1000).network
    assert published.transform_input and published.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)
    assert published.state_dict().keys() == random.state_dict().keys()


def test_files_that_hold_no_weights_of_the_network_are_refused(source: Path, tmp_path: Path) -> None:
    name, good = f"{source}:build", load_model(f"{source}:build").network.state_dict()
    path = tmp_path / "w.safetensors"
    with pytest.raises(UsageError, match=r"w.safetensors: no such file; allowed: safetensors, a state dict of torch"):
        load_model(name, weights=path)
    for change, message in (
        ({"9.weight": torch.zeros(1)}, r"tensor 9.weight is unknown"),
        (
            {"0.weight": good["0.weight"][:, :, :2]},
            r"tensor 0.weight has shape \(8, 1, 2, 3\); allowed: \(8, 1, 3, 3\)",
        ),
        ({"0.bias": torch.zeros(8) / 0}, r"tensor 0.bias holds NaN or infinity"),
    ):
        save_file({key: value.contiguous() for key, value in (good | change).items()}, path)
        with pytest.raises(FileFormatError, match=message):
            load_model(name, weights=path)
    save_file({"0.weight": good["0.weight"]}, path)
    with pytest.raises(FileFormatError, match=r"tensor 0.bias is missing"):
        load_model(name, weights=path)
    path.write_bytes(b"not weights")
    with pytest.raises(FileFormatError, match=r"not a file of weights"):
        read_weights(path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    torch.save({"net": nn.Linear(2, 2)}, tmp_path / "whole.pth")
    with pytest.raises(FileFormatError, match=r"whole.pth: not a file of weights \(more than tensors is in it"):
        read_weights(tmp_path / "whole.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(FileFormatError, match=r"it holds a dict, not names and tensors"):
        read_weights(tmp_path / "epoch.pth")
