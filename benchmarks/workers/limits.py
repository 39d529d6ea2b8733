"""What this processor can do, from PyTorch's matrix products: ``limits.py THREADS RESULT.json``.

PyTorch's products come from oneDNN and MKL, the fastest at hand for every type. The rates are the
best of several runs and shapes: a lower bound of the processor's peak. Memory is read by a
product of a matrix far larger than any cache with one vector, and by a sum; the faster counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SHAPES = ((1536, 2048, 512), (1536, 512, 2048), (2048, 2048, 2048))
REPEATS = 20
PATIENCE = 5.0  # seconds for one product: where it is emulated, one run may take as long


def best(work: Callable[[], Any]) -> float:
    """The least seconds of several runs."""
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < PATIENCE:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def rate(kind: torch.dtype) -> float:
    """Multiplications and additions a second."""
    rates = []
    for m, n, k in SHAPES:
        if kind is torch.int8:
            a, b = (torch.randint(-127, 127, shape, dtype=kind) for shape in ((m, k), (k, n)))
            seconds = best(lambda a=a, b=b: torch._int_mm(a, b))
        else:
            a, b = (torch.randn(shape).to(kind) for shape in ((m, k), (k, n)))
            seconds = best(lambda a=a, b=b: a @ b)
        rates.append(2 * m * n * k / seconds)
    return max(rates)


def reading() -> float:
    """Bytes a second from memory."""
    matrix, vector = torch.randn(16384, 8192), torch.randn(8192)
    return matrix.numel() * 4 / min(best(lambda: matrix @ vector), best(lambda: matrix.sum()))


def main(threads: str, result_file: str) -> None:
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    found: dict[str, float | None] = {}
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
    with torch.inference_mode():
        for name, kind in kinds.items():
            try:
                found[name] = rate(kind)
            except (RuntimeError, AttributeError):  # PyTorch has no such product here
                found[name] = None
            # What is slower than float32 is emulated by PyTorch, and no limit of the processor.
            if found[name] is not None and found[name] < found["float32"]:
                found[name] = None
        found["memory"] = reading()
    Path(result_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
