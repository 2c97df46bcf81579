"""Where a process of a training run stands: its device, its rank, and how to talk to the other ranks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from sacro_ray.config import Training


@dataclass(frozen=True)
class Place:
    """One process of a run; without a process group the only one."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def gather(self, mine: Any) -> list[Any]:
        """Everybody's object, in the order of ranks."""
        if self.ranks == 1:
            return [mine]
        everybody: list[Any] = [None] * self.ranks
        dist.all_gather_object(everybody, mine)
        return everybody

    def from_first(self, mine: Any) -> Any:
        """The first rank's object."""
        if self.ranks == 1:
            return mine
        box = [mine]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over the ranks."""
        if self.ranks == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from memory that is not pinned the copy would wait for all that a GPU has still to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@cache
def fetcher(device: torch.device) -> Callable[[NDArray[np.uint8]], Tensor]:
    """Brings batches to the device, for a thread that reads ahead: a GPU copies the next while it computes."""
    if device.type != "cuda":
        return torch.from_numpy
    copies = torch.cuda.Stream(device)

    def fetch(pixels: NDArray[np.uint8]) -> Tensor:
        torch.cuda.set_device(copies.device)  # a new thread stands on the first GPU of the machine
        with torch.cuda.stream(copies):
            moved = torch.from_numpy(pixels).pin_memory().to(device, non_blocking=True)
        # Its memory is not given to another batch before the stream that computes is done with it.
        moved.record_stream(torch.cuda.default_stream(copies.device))
        copies.synchronize()  # this thread waits, so that the stream that computes need not
        return moved

    return fetch


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision as asked: `auto` takes bf16 where the processor or the GPU computes with it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=resolved_precision(device, precision) == "bf16")


def resolved_precision(device: torch.device, precision: str) -> str:
    """`fp32` or `bf16` for `auto`, by what the device has."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and _fast_bf16() else "fp32"


def _fast_bf16() -> bool:
    """Whether the processor multiplies bf16 natively; without it oneDNN emulates and is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def prepare_device(device: torch.device, training: Training) -> None:
    """Settings of the backend that a run wants."""
    del training
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
