"""Weights and states as PyTorch writes them, read without pickles."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def save_state(content: Mapping[str, Any], path: Path) -> None:
    """`torch.save`, whose own error over a full disk ("unexpected pos 576 vs 534") does not say so.

    Raises:
        OSError: The disk does not take it.
    """
    with _Heard(io.FileIO(path, "w")) as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:
            raise file.error or error from None


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, on the CPU; the errors are those of `torch.load`."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


class _Heard(io.BufferedWriter):
    """A file that keeps the error of a write."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise
