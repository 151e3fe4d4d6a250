"""Presets with training plans, small enough for the whole job, as TOML."""

HEAD = """\
schema_version = 1
name = "tiny"
summary = "for tests"
channels = 1
classes = 3
dropout = 0.0
precisions = ["fp32", "int8"]
"""
TRAINING = """\
[training]
batch_size = 16
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
"""
SGD = f"""{TRAINING}\
momentum = 0.9
weight_decay = 3e-5
"""


def two_stages(learning_rate: float, **opened: float) -> str:
    """Return a stage of the full network, and one that is taught by it."""
    lines = [f"{name} = {value}" for name, value in opened.items()]
    stages = "".join(
        f'[[training.stage]]\nname = "{name}"\nepochs = 1\nlearning_rate = {learning_rate}\n'
        for name in ("full", "all")
    )
    return stages + "\n".join([*lines, "distillation = 1.0\n"])


PRESET = f"""{HEAD}\
family = "mbconv"
resolutions = [12, 16]
activation = "relu"
[stem]
width = 8
stride = 2
[head]
width = 16
[block]
kernels = [3, 5]
expands = [2, 3]
keeps = [0.5, 1.0]
round_to = 8
[[stage]]
width = 16
stride = 2
depths = [1, 2]
[[stage]]
width = 16
stride = 1
depths = [1, 2]

{SGD}{two_stages(0.1, kernels=2, depths=2, expands=2, keeps=2, extremes=0.2)}"""
BOTTLENECK = f"""{HEAD}\
family = "bottleneck"
resolutions = [32, 40]
stem_width = 16
widths = [0.5, 1.0]
keeps = [0.25, 0.5]
round_to = 8
[[stage]]
width = 32
stride = 1
depths = [1, 2]
[[stage]]
width = 48
stride = 2
depths = [1, 2]

{SGD}{two_stages(0.1, depths=2, keeps=2, widths=2)}"""
METAFORMER = f"""{HEAD}\
family = "metaformer"
resolutions = [16, 24]
activation = "relu"
stem_stride = 2
widths = [0.5, 1.0]
round_to = 8
[block]
mixers = ["pool", "conv"]
expands = [1, 2]
layer_scale = 0.5
[attention]
blocks = [0, 1]
heads = 2
key_width = 8
value_width = 8
[[stage]]
width = 16
stride = 1
depths = [1, 2]
[[stage]]
width = 32
stride = 2
depths = [1, 2]

{TRAINING}\
optimizer = "adamw"
weight_decay = 0.05
{two_stages(0.003, mixers=2, attentions=2, depths=2, expands=2, widths=2, extremes=0.2)}"""
FACTORISED = f"""{HEAD}\
family = "factorised"
resolutions = [12, 16]
activation = "relu"
stem_width = 8
stem_stride = 2
[block]
kinds = ["mbconv_se", "kxkx", "csp"]
kernels = [3, 5]
widths = [0.5, 1.0]
expand = 1
keeps = [0.5, 1.0]
layers = [1, 2]
round_to = 4
[[stage]]
width = 16
stride = 1
[[stage]]
width = 32
stride = 2

{SGD}{two_stages(0.05, subnets=2, kinds=3, kernels=2, layers=2, keeps=2, widths=2)}"""
PRESETS = {"mbconv": PRESET, "bottleneck": BOTTLENECK, "metaformer": METAFORMER, "factorised": FACTORISED}
"""A preset with its training plan, small enough for the whole job, of each family."""
