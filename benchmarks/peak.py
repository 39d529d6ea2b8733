"""What this processor can do at most: the rate of its instructions, and of reading from memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.environments import BenchmarkError
from benchmarks.processes import WORKERS
from max_whisper.graph.module import KERNELS

UNITS = {"float32": "GFLOP/s", "bfloat16": "GFLOP/s", "int8": "GOP/s", "memory": "GB/s"}


def build_peak(folder: Path) -> Path:
    """Compiles ``workers/peak.mojo`` with the kernels' products, and returns the program.

    Raises:
        BenchmarkError: The compiler fails.
    """
    program = folder / "peak"
    mojo = Path(sys.executable).with_name("mojo")
    command = [str(mojo), "build", "-I", str(KERNELS.parent), str(WORKERS / "peak.mojo"), "-o", str(program)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BenchmarkError(f"peak.mojo: {error}") from error
    if done.returncode:
        raise BenchmarkError(f"peak.mojo does not compile: {done.stderr.strip()[-1500:]}")
    return program


def measure_peak(program: Path, threads: int, times: int = 3) -> dict[str, float]:
    """The best of several runs, which noise from elsewhere spoils less than one.

    Args:
        program: See :func:`build_peak`.
        threads: How many threads work.
        times: How many runs.

    Returns:
        Operations a second of ``float32``, ``bfloat16`` and ``int8``, whatever the
        processor multiplies them in, and bytes a second of ``memory``.

    Raises:
        BenchmarkError: The program fails.
    """
    best: dict[str, float] = {}
    for _ in range(times):
        done = subprocess.run([str(program), str(threads)], capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"peak.mojo failed ({done.returncode}): {done.stderr.strip()[-1500:]}")
        best = better(best, json.loads(done.stdout))
    return best


def better(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """The higher of each rate; one that is missing counts as nothing."""
    return {name: max(one.get(name, 0.0), rate) for name, rate in other.items()}


def told(limits: dict[str, float]) -> str:
    """The rates in words."""
    return ", ".join(f"{name} {limits[name] / 1e9:.0f} {unit}" for name, unit in UNITS.items())
