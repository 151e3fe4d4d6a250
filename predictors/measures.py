"""How the accuracy of a candidate is measured: it is cut out, its batch norms are recalibrated, its images counted.

Networks run as their exported files do, in onnxruntime on the CPU, or, in fp32, by torch on an accelerator. On a
processor, onnxruntime counts the images of an fp32 network in less time than torch with folded batch norms in
channels_last, the time to write the graph and to open it included.
"""

from dataclasses import dataclass

import torch

from nas.compression import correct_prepared, export_prepared
from predictors.resized import ResizedImages
from search_spaces import Candidate
from supernets import Supernet, evaluate_accuracy, prepare, prepare_batches, recalibrate_batch_norm
from supernets.datasets import ImageSet
from supernets.evaluation import RECALIBRATION_IMAGES

TORCH_PIXELS = 2**22  # of the images of one inference on an accelerator


class TorchAccuracy:
    """Validation accuracy of an fp32 candidate by torch on an accelerator.

    The images stay there as bytes; a batch at a time is prepared for each candidate.
    """

    def __init__(self, supernet: Supernet, calibration: ImageSet, validation: ImageSet, device: torch.device):
        self.supernet, self.device = supernet, device
        self.calibration = calibration.images[:RECALIBRATION_IMAGES].to(device)
        self.validation = validation.to(device)

    def __call__(self, candidate: Candidate) -> float:
        """Return the fraction of validation images that are right."""
        subnet = self.supernet.extract(candidate).to(self.device)
        resolution, info = candidate.resolution, self.supernet.info
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as exact as on a processor
            recalibrate_batch_norm(subnet, prepare(self.calibration, resolution, info))
            batches = prepare_batches(self.validation.images, resolution, info, TORCH_PIXELS)
            return evaluate_accuracy(subnet, batches, self.validation.labels)


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
