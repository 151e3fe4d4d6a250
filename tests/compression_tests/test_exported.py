"""An architecture is exported once, then quantized as asked; the images that a file gets right are told one by one."""

import numpy as np
import pytest
import torch
from tiny_job import Tiny, make_tiny

from nas.compression import (
    Exported,
    Ranges,
    activation_ranges,
    correct_images,
    expected_quantized_convs,
    export_candidate,
    parity,
    quantize_graph,
    quantized_convs,
)
from nas.compression.sessions import open_session
from nas.errors import VerificationError
from supernets import Supernet, get_supernet, prepare
from supernets.datasets import Splits, load_splits


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def supernet(tiny: Tiny) -> Supernet:
    return get_supernet(tiny.supernet)


@pytest.fixture(scope="module")
def splits(tiny: Tiny) -> Splits:
    return load_splits(tiny.images, size=16, channels=1)


@pytest.fixture(scope="module")
def exported(tiny: Tiny, supernet: Supernet, splits: Splits) -> Exported:
    return export_candidate(supernet, tiny.space.candidate(tiny.space.largest()), splits.calibration)


def test_in_fp32_the_graph_is_the_one_that_was_written(exported: Exported) -> None:
    assert exported.in_precisions(dict(exported.subnet.units())) is exported.graph


def test_the_units_asked_for_run_as_integer_kernels(exported: Exported) -> None:
    precisions = dict(exported.subnet.units()) | {"stem": "int8", "blocks.block_1_0": "int8"}
    expected = expected_quantized_convs(exported.graph, precisions)
    assert expected == 4  # the stem's, and a block's three
    assert quantized_convs(exported.in_precisions(precisions)) == expected


def test_the_images_that_are_right_are_those_of_torch(exported: Exported, supernet: Supernet, splits: Splits) -> None:
    images, resolution = splits.test, exported.subnet.candidate.resolution
    correct = correct_images(open_session(exported.graph), images, resolution, supernet.info)
    with torch.no_grad():
        logits = exported.subnet(prepare(images.images, resolution, supernet.info))
    assert correct.dtype == bool and correct.shape == (len(images),)
    assert np.array_equal(correct, (logits.argmax(1) == images.labels).numpy())


def test_no_images_are_none_right(exported: Exported, supernet: Supernet, splits: Splits) -> None:
    none = splits.test.subset(torch.arange(0))
    assert len(correct_images(open_session(exported.graph), none, 16, supernet.info)) == 0


def test_a_trained_network_passes_the_gates_only_with_ranges_of_its_images() -> None:
    net, calibration = get_supernet("fashion-mbv3"), load_splits(size=28, channels=1).calibration
    exported = export_candidate(net, net.space.candidate(net.space.largest("int8")), calibration)
    precisions, images = dict(exported.subnet.units()), exported.images[:64]
    report = parity(exported.subnet, exported.graph, exported.in_precisions(precisions), precisions, images)
    assert report.quantization_agreement > 0.9 and report.quantization_error < 0.05
    calibrated = activation_ranges(exported.graph, images)
    narrow = Ranges({name: (low / 50, high / 50) for name, (low, high) in calibrated.limits.items()})
    clipped = quantize_graph(exported.graph, precisions, narrow)
    message = r"gate Q: quantization changes the logits by .* allowed 0.25, and .* keep their class, allowed from 80 %"
    with pytest.raises(VerificationError, match=message):
        parity(exported.subnet, exported.graph, clipped, precisions, images)
