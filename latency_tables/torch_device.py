"""torch itself, eager or compiled, on the processor or on a CUDA GPU: fp32, in inference mode, batch 1.

The file that ships is read back as a torch network (``supernets.graph.reader``), so nothing else is timed than on other
runtimes. TF32 is off on GPUs, in convolutions and in products of matrices, which the probe for floats confirms of both.
On a GPU the time is the synchronised wall time of all inferences of a slice.
Compiling takes tens of seconds a network: for single files, hardly for calibrating, so ``nas devices`` leaves it out.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from latency_tables.local import LocalDevice, refused
from latency_tables.protocol import Runner
from nas.compression import Session
from nas.errors import DeviceError
from supernets.graph.reader import from_onnx

Network = Callable[[Tensor], Tensor]


class TorchDevice(LocalDevice):
    """torch on this machine.

    Args:
        name: What ``--device`` calls it.
        threads: Threads that an inference may use on the processor.
        precisions: The menu, a part of what is executed; None for all of that.

    Attributes:
        compiled: Whether networks are compiled, by inductor, for one image.
        accelerator: Where networks run.
    """

    package = "torch"
    compiled = False
    accelerator = torch.device("cpu")

    def __init__(self, name: str = "torch", *, threads: int = 1, precisions: Sequence[str] | None = None) -> None:
        super().__init__(name, threads=threads, precisions=precisions)

    def options(self) -> dict[str, Any]:
        return {"compiled": self.compiled, "memory_format": "contiguous", "tf32": False}

    def session(self, model: bytes) -> Session:
        return _Session(self._network(model), self)

    def load(self, model: bytes) -> Runner:
        slots = self._parsed(model).graph.input
        shape = [axis.dim_value or 1 for axis in slots[0].type.tensor_type.shape.dim]
        runner = _Runner(self._network(model), shape, self)
        if self.compiled:
            runner.run(1)  # compiles
        return runner

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        return {}

    def _network(self, model: bytes) -> Network:
        """Return the network of a graph, ready to run.

        Raises:
            DeviceError: torch cannot run it.
        """
        try:
            network = from_onnx(self._parsed(model)).to(self.accelerator)
        except Exception as error:  # of the reader, of torch
            raise refused("model", self.runtime, "load", error) from error
        found: Network = torch.compile(network, dynamic=False) if self.compiled else network
        return found

    def _parsed(self, model: bytes) -> onnx.ModelProto:
        try:
            return onnx.load_model_from_string(model)
        except Exception as error:  # protobuf's decoding error is private to it
            raise refused("model", self.runtime, "load", error) from error

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Have torch's global settings be those of this device while the block runs."""
        threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
        finally:
            torch.set_float32_matmul_precision(products)
            torch.set_num_threads(threads)

    def synchronise(self) -> None:
        """Wait until the GPU, if that is where networks run, has done all it was given."""
        if self.accelerator.type == "cuda":
            torch.cuda.synchronize(self.accelerator)


class TorchCompiled(TorchDevice):
    """torch's compiler, on the processor."""

    compiled = True


class TorchCuda(TorchDevice):
    """torch on a CUDA GPU, eager.

    Raises:
        DeviceError: There is none.
    """

    accelerator = torch.device("cuda")

    def __init__(self, name: str = "torch-cuda", *, threads: int = 1, precisions: Sequence[str] | None = None) -> None:
        if not torch.cuda.is_available():
            raise DeviceError(f"device {name!r} needs a CUDA GPU, and torch {torch.__version__} sees none here")
        super().__init__(name, threads=threads, precisions=precisions)

    def options(self) -> dict[str, Any]:
        properties = torch.cuda.get_device_properties(self.accelerator)
        return {
            **super().options(),
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }


class _Session:
    """A network, run on any number of images one by one: as it is timed, and as it may be compiled."""

    def __init__(self, network: Network, device: TorchDevice) -> None:
        self._network, self._device = network, device

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        [images] = input_feed.values()
        try:
            with self._device.settings():
                batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device.accelerator)
                found: list[Tensor] = [self._network(image) for image in batch.split(1)]
                return [torch.cat(found).cpu().numpy()]
        except RuntimeError as error:
            raise refused("model", self._device.runtime, "run", error) from error


class _Runner:
    """A network with its input in place."""

    def __init__(self, network: Network, shape: Sequence[int], device: TorchDevice) -> None:
        self._network, self._device = network, device
        values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        self._input = torch.from_numpy(values).to(device.accelerator)

    def run(self, count: int) -> float:
        try:
            with self._device.settings():
                return self._timed(count)
        except RuntimeError as error:
            raise refused("model", self._device.runtime, "run", error) from error

    def _timed(self, count: int) -> float:
        network, images = self._network, self._input
        self._device.synchronise()
        start = time.perf_counter_ns()
        for _ in range(count):
            network(images)
        self._device.synchronise()
        return (time.perf_counter_ns() - start) * 1e-9
