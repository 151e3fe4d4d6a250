"""How the accuracy of a candidate is measured: it is cut out, its batch norms are recalibrated, its images counted.

Networks run as their exported files do, in onnxruntime on the CPU, or, in fp32, by torch on an accelerator. On a
processor, onnxruntime counts the images of an fp32 network in less time than torch with folded batch norms in
channels_last, the time to write the graph and to open it included.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nas.compression import correct_prepared, export_prepared
from predictors.resized import ResizedImages
from search_spaces import Candidate
from supernets import Supernet, evaluate_accuracy, prepare, recalibrate_batch_norm
from supernets.datasets import Splits
from supernets.evaluation import RECALIBRATION_IMAGES

TORCH_BATCH = 5000  # images per inference on an accelerator


class TorchAccuracy:
    """Validation accuracy of an fp32 candidate by torch on an accelerator, where images stay, one copy a resolution."""

    def __init__(self, supernet: Supernet, splits: Splits, device: torch.device):
        self.supernet, self.splits, self.device = supernet, splits, device
        self.labels = splits.validation.labels.to(device)
        self.images: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, candidate: Candidate) -> float:
        """Return the fraction of validation images that are right."""
        subnet = self.supernet.extract(candidate).to(self.device)
        calibration, validation = self._prepared(candidate.resolution)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as exact as on a processor
            recalibrate_batch_norm(subnet, calibration)
            return evaluate_accuracy(subnet, validation, self.labels, TORCH_BATCH)

    def _prepared(self, resolution: int) -> tuple[Tensor, Tensor]:
        """Return calibration and validation images at a resolution."""
        if resolution not in self.images:
            parts = (
                images.to(self.device)
                for images in (self.splits.calibration.images[:RECALIBRATION_IMAGES], self.splits.validation.images)
            )
            calibration, validation = (prepare(images, resolution, self.supernet.info) for images in parts)
            self.images[resolution] = calibration, validation
        return self.images[resolution]


@dataclass(frozen=True)
class GraphAccuracy:
    """Validation accuracy of a candidate from its graph, quantized if it has such units, in onnxruntime on the CPU."""

    supernet: Supernet
    calibration: ResizedImages
    validation: ResizedImages

    def __call__(self, candidate: Candidate) -> float:
        """Return the fraction of validation images that are right."""
        from latency_tables.onnxruntime_cpu import OnnxRuntimeCpu

        images = torch.cat(list(self.calibration.at(candidate.resolution)))
        exported = export_prepared(self.supernet, candidate, images)
        device = OnnxRuntimeCpu()
        model = exported.in_precisions(dict(exported.subnet.units()), device.quantization)
        session = device.session(model.SerializeToString())
        chunks = self.validation.at(candidate.resolution)
        return float(correct_prepared(session, chunks, self.validation.images.labels).mean())
