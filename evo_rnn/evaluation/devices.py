"""Where an evaluator computes: what a device is called here, and products whose bits do not depend on the card's mood."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def found(device: str) -> str:
    """The device that `device` means in this process: "auto" is a GPU where this process sees one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of float32 in float32 inside: TF32 keeps 10 bits of the mantissa, which changes losses by about 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def take_share(device: str, share: float) -> None:
    """Keep this process to its share of a GPU's memory, so that workers on one GPU cannot starve each other.

    A worker that reaches its share gets an out-of-memory error of its own, and takes smaller chunks. Products keep
    their own workspace a stream, as cuBLAS wants for results that repeat bit for bit.

    Args:
        device: as torch names it.
        share: GPUs that the worker has; 0 or 1 and more mean all the memory that is there.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device.startswith("cuda") and 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device if ":" in device else "cuda:0")
