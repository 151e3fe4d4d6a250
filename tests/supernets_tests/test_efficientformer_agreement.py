"""EfficientFormer-L1 is a network of the space: with timm's weights it has timm's logits, to rounding."""

from dataclasses import replace

import timm
import torch
from torch import Tensor, nn

from search_spaces import Candidate, get_space
from supernets import ImageInfo
from supernets.metaformer import MetaformerSupernet

SPACE = get_space("efficientformer")


def l1() -> Candidate:
    """Return the candidate that EfficientFormer-L1 is: everything at its largest, pooling, one block of attention."""
    largest = SPACE.candidate(SPACE.largest())
    blocks = [[replace(block, mixer="pool") for block in stage] for stage in largest.blocks]
    blocks[-1][-1] = replace(blocks[-1][-1], mixer="attention")
    return replace(largest, blocks=tuple(map(tuple, blocks)))


def randomised(net: nn.Module) -> nn.Module:
    """Give every tensor a value of its own, so that a wrong place shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith(("gamma", "attention_biases", "running_mean")):
                tensor.normal_(0, 0.3, generator=generator)
            elif name.endswith("bias"):
                tensor.normal_(0, 0.1, generator=generator)
    return net.eval()


def conv_bn(ours: dict[str, Tensor], name: str, theirs: dict[str, Tensor], conv: str, norm: str) -> None:
    """Copy a convolution with a bias and its batch norm: the bias goes into the running mean."""
    ours[f"{name}.conv.weight"].copy_(theirs[f"{conv}.weight"])
    for part in ("weight", "bias", "running_var"):
        ours[f"{name}.bn.{part}"].copy_(theirs[f"{norm}.{part}"])
    ours[f"{name}.bn.running_mean"].copy_(theirs[f"{norm}.running_mean"] - theirs[f"{conv}.bias"])


def weight_bias(ours: dict[str, Tensor], name: str, theirs: dict[str, Tensor], source: str) -> None:
    for part in ("weight", "bias"):
        ours[f"{name}.{part}"].copy_(theirs[f"{source}.{part}"])


@torch.no_grad()
def copy_weights(source: nn.Module, supernet: MetaformerSupernet) -> None:
    """Copy timm's weights into the supernet's tensors, which L1 uses whole."""
    ours, theirs = dict(supernet.holders()), source.state_dict()
    conv_bn(ours, "stem.first", theirs, "stem.conv1", "stem.norm1")
    conv_bn(ours, "stem.second", theirs, "stem.conv2", "stem.norm2")
    for stage, blocks in enumerate(l1().blocks):
        if stage:
            downsample = f"stages.{stage}.downsample"
            conv_bn(ours, f"blocks.block_{stage}_0.embed", theirs, f"{downsample}.conv", f"{downsample}.norm")
        for index, block in enumerate(blocks):
            assert block is not None
            name, attention = f"blocks.block_{stage}_{index}", block.mixer == "attention"
            their = f"stages.{stage}.blocks.{index + attention}"  # theirs counts the flattening as a block
            if attention:
                ours[f"{name}.attention.scale"].copy_(theirs[f"{their}.ls1.gamma"])
                ours[f"{name}.token_mlp.scale"].copy_(theirs[f"{their}.ls2.gamma"])
                ours[f"{name}.attention.biases"].copy_(theirs[f"{their}.token_mixer.attention_biases"].view(8, 7, 7))
                for mine, yours in (
                    ("attention.norm", "norm1"), ("attention.qkv", "token_mixer.qkv"),
                    ("attention.project", "token_mixer.proj"), ("token_mlp.norm", "norm2"),
                    ("token_mlp.expand", "mlp.fc1"), ("token_mlp.project", "mlp.fc2"),
                ):  # fmt: skip
                    weight_bias(ours, f"{name}.{mine}", theirs, f"{their}.{yours}")
            else:
                ours[f"{name}.mix.pool_scale"].copy_(theirs[f"{their}.ls1.gamma"])
                ours[f"{name}.mlp.scale"].copy_(theirs[f"{their}.ls2.gamma"])
                conv_bn(ours, f"{name}.mlp.expand", theirs, f"{their}.mlp.fc1", f"{their}.mlp.norm1")
                conv_bn(ours, f"{name}.mlp.project", theirs, f"{their}.mlp.fc2", f"{their}.mlp.norm2")
    weight_bias(ours, "head.norm", theirs, "norm")
    for part in ("weight", "bias"):  # the mean of both classifiers' logits is the logits of their mean
        ours[f"head.classifier.{part}"].copy_((theirs[f"head.{part}"] + theirs[f"head_dist.{part}"]) / 2)


def test_l1_has_the_logits_and_the_parameters_of_timms() -> None:
    theirs = randomised(timm.create_model("efficientformer_l1"))
    classes = tuple(map(str, range(1000)))
    supernet = MetaformerSupernet(SPACE, ImageInfo("imagenet", classes, (0.5,) * 3, (0.5,) * 3)).eval()
    copy_weights(theirs, supernet)
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs(x)
        subnet = supernet.extract(l1())
        for found in (supernet(x, l1()), subnet(x)):
            assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-4
    redundant = sum(m.out_channels for m in theirs.modules() if isinstance(m, nn.Conv2d))  # biases before batch norms
    redundant += sum(parameter.numel() for parameter in theirs.head_dist.parameters())
    ours, timms = (sum(p.numel() for p in net.parameters()) for net in (subnet, theirs))
    assert ours == timms - redundant
