"""Checkpoints of once-for-all's naming are read, in each of its spellings, and what does not fit is named."""

from pathlib import Path

import pytest
import torch
from squeezed_space import squeezed_space
from torch import Tensor

from nas.errors import FileFormatError, UsageError
from supernets import ImageInfo, import_ofa, make_supernet
from supernets.ofa import OFA_SPACES, ofa_names, plain_name

SPACE = squeezed_space()
SUPERNET = make_supernet(SPACE, ImageInfo("noise", ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3), seed=4)


def checkpoint() -> dict[str, Tensor]:
    """Our random weights under OFA's names, counters of batch norms beside them."""
    own = SUPERNET.state_dict()
    tensors = {
        theirs: own[ours].T if "_matrix" in theirs else own[ours] for theirs, ours in ofa_names(SUPERNET).items()
    }
    counters = {name.replace("weight", "num_batches_tracked"): torch.tensor(3) for name in tensors if "bn.w" in name}
    return {name: tensor.clone() for name, tensor in (tensors | counters).items()}


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


@pytest.mark.parametrize("wrap", [lambda tensors: tensors, lambda tensors: {"state_dict": tensors, "epoch": 3}])
def test_a_checkpoint_becomes_our_supernet(tmp_path: Path, wrap) -> None:  # type: ignore[no-untyped-def]
    found = import_ofa(saved(tmp_path, wrap(checkpoint())), SPACE)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in SUPERNET.state_dict().items())
    assert not found.training and found.info.classes == ("0", "1", "2")
    assert found.info.mean == (0.485, 0.456, 0.406) and found.info.dataset == "ImageNet"


@pytest.mark.parametrize(
    ("theirs", "plain"),
    [
        ("blocks.5.conv.depth_conv.conv.conv.weight", "blocks.5.depth_conv.conv.weight"),
        ("blocks.5.mobile_inverted_conv.depth_conv.conv.weight", "blocks.5.depth_conv.conv.weight"),
        ("blocks.5.conv.depth_conv.conv.7to5_matrix", "blocks.5.depth_conv.conv.7to5_matrix"),
        ("module.blocks.0.conv.point_linear.bn.bn.running_mean", "blocks.0.point_linear.bn.running_mean"),
        ("blocks.2.conv.depth_conv.se.fc.reduce.bias", "blocks.2.depth_conv.se.fc.reduce.bias"),
        ("input_stem.1.conv.conv.conv.weight", "input_stem.1.conv.weight"),
        ("module.first_conv.conv.weight", "first_conv.conv.weight"),
        ("classifier.linear.linear.weight", "classifier.linear.weight"),
    ],
)
def test_every_spelling_is_one_name(theirs: str, plain: str) -> None:
    assert plain_name(theirs) == plain


def test_classes_may_be_named(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint())
    assert import_ofa(path, SPACE, classes=["x", "y", "z"]).info.classes == ("x", "y", "z")
    with pytest.raises(FileFormatError, match="its classifier has 3 classes, but 2 are named"):
        import_ofa(path, SPACE, classes=["x", "y"])


def test_every_missing_and_unexpected_tensor_is_named(tmp_path: Path) -> None:
    tensors = checkpoint()
    del tensors["first_conv.conv.weight"], tensors["blocks.2.depth_conv.se.fc.expand.bias"]
    tensors["extra.weight"] = torch.zeros(1)
    tensors["feature_mix_layer.conv.weight"] = torch.zeros(2, 3)
    with pytest.raises(FileFormatError, match="not a supernet of space 'squeezed'") as error:
        import_ofa(saved(tmp_path, tensors), SPACE)
    for part in (
        "missing first_conv.conv.weight", "missing blocks.2.depth_conv.se.fc.expand.bias", "unexpected extra.weight",
        "feature_mix_layer.conv.weight has shape (2, 3), allowed (40, 16, 1, 1)",
    ):  # fmt: skip
        assert part in str(error.value)


def test_without_a_space_it_is_compared_with_the_released_one_that_fits_best(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="not a supernet of space 'ofa-"):
        import_ofa(saved(tmp_path, checkpoint()))


def test_a_family_that_it_never_had_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, checkpoint())
    monkeypatch.delitem(OFA_SPACES, "bottleneck")
    with pytest.raises(UsageError, match=r"'ofa-resnet50' of family 'bottleneck' for once-for-all's .*allowed: mbconv"):
        import_ofa(path, "ofa-resnet50")


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({"state_dict": {"a": 3}}, "holds no state dict"),
        ({"a.weight": torch.zeros(1)}, "missing classifier.linear.bias; allowed: a supernet of once-for-all"),
        ({"a.weight": torch.tensor([float("nan")])}, "tensor a.weight holds NaN or infinity"),
        ({"input_stem.0.conv.weight": torch.zeros(1)}, "missing classifier.linear.bias"),
        ({"a": Evil()}, "not a torch checkpoint of plain tensors"),
    ],
)
def test_what_is_no_supernet_is_refused(tmp_path: Path, content: object, message: str, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FileFormatError, match=message):
        import_ofa(saved(tmp_path, content))
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut short", b"hello", b"\x80\x02}q"])
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="not a torch checkpoint of plain tensors"):
        import_ofa(path)


def test_a_missing_file_and_an_unknown_space_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"nothing\.pth: there is no such file"):
        import_ofa(tmp_path / "nothing.pth")
    with pytest.raises(UsageError, match=r"unknown space 'ofa-mbv4'"):
        import_ofa(saved(tmp_path, checkpoint()), "ofa-mbv4")
