"""Presets with training plans, small enough for the whole job, as TOML."""

PRESET = """\
schema_version = 1
name = "tiny"
family = "mbconv"
summary = "for tests"
resolutions = [12, 16]
channels = 1
classes = 3
activation = "relu"
dropout = 0.0
precisions = ["fp32", "int8"]
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

[training]
batch_size = 16
momentum = 0.9
weight_decay = 3e-5
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
warmup_epochs = 0
learning_rate = 0.1
subnets = 1
kernels = 1
depths = 1
expands = 1
keeps = 1
distillation = 0.0
extremes = 0.0
[[training.stage]]
name = "all"
epochs = 1
warmup_epochs = 0
learning_rate = 0.1
subnets = 1
kernels = 2
depths = 2
expands = 2
keeps = 2
distillation = 1.0
extremes = 0.2
"""
BOTTLENECK = """\
schema_version = 1
name = "tiny"
family = "bottleneck"
summary = "for tests"
resolutions = [32, 40]
channels = 1
classes = 3
dropout = 0.0
precisions = ["fp32", "int8"]
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

[training]
batch_size = 16
momentum = 0.9
weight_decay = 3e-5
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
learning_rate = 0.1
[[training.stage]]
name = "all"
epochs = 1
learning_rate = 0.1
depths = 2
keeps = 2
widths = 2
distillation = 1.0
"""
METAFORMER = """\
schema_version = 1
name = "tiny"
family = "metaformer"
summary = "for tests"
resolutions = [16, 24]
channels = 1
classes = 3
dropout = 0.0
precisions = ["fp32", "int8"]
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

[training]
batch_size = 16
optimizer = "adamw"
weight_decay = 0.05
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
learning_rate = 0.003
[[training.stage]]
name = "all"
epochs = 1
learning_rate = 0.003
mixers = 2
attentions = 2
depths = 2
expands = 2
widths = 2
distillation = 1.0
extremes = 0.2
"""
FACTORISED = """\
schema_version = 1
name = "tiny"
family = "factorised"
summary = "for tests"
resolutions = [12, 16]
channels = 1
classes = 3
dropout = 0.0
precisions = ["fp32", "int8"]
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

[training]
batch_size = 16
momentum = 0.9
weight_decay = 3e-5
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
learning_rate = 0.05
[[training.stage]]
name = "all"
epochs = 1
learning_rate = 0.05
subnets = 2
kinds = 3
kernels = 2
layers = 2
keeps = 2
widths = 2
distillation = 1.0
"""
PRESETS = {"mbconv": PRESET, "bottleneck": BOTTLENECK, "metaformer": METAFORMER, "factorised": FACTORISED}
"""A preset with its training plan, small enough for the whole job, of each family."""
