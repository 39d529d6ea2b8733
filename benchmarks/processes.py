"""Each measurement in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import BenchmarkError

ROOT = Path(__file__).resolve().parents[1]
WORKERS = Path(__file__).parent / "workers"
_LONGEST = 3600  # seconds that a process may take


def run_worker(python: Path, worker: str, *arguments: str, threads: int) -> Any:
    """Runs a worker and returns what it wrote.

    Args:
        python: Its interpreter.
        worker: A file in ``workers``.
        arguments: Go before the file that it writes.
        threads: For libraries that ask the environment.

    Raises:
        BenchmarkError: It failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [str(python), str(WORKERS / worker), *arguments, str(result)]
        try:
            done = subprocess.run(
                command, env=_environment(threads), capture_output=True, text=True, timeout=_LONGEST
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchmarkError(f"{worker}: {error}") from error
        if done.returncode or not result.is_file():
            raise BenchmarkError(f"{worker} failed ({done.returncode}): {done.stderr.strip()[-1500:]}")
        return json.loads(result.read_text())


def transcribe(python: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Runs ``workers/transcribe.py`` and returns its result, with ``process``: the seconds it all took."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        started = time.monotonic()
        file.write_text(json.dumps({**job, "started": started}))
        result = run_worker(python, "transcribe.py", str(file), threads=job["threads"])
        return {**result, "process": time.monotonic() - started}


def with_json(python: Path, worker: str, value: Any, threads: int) -> Any:
    """Runs a worker on a value handed over as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "value.json"
        file.write_text(json.dumps(value))
        return run_worker(python, worker, str(file), threads=threads)


def draw(python: Path, results: Path, picture: Path) -> None:
    """Draws the picture of some results.

    Raises:
        BenchmarkError: It could not be drawn.
    """
    command: Sequence[str] = [str(python), str(WORKERS / "chart.py"), str(results), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"chart.py failed: {done.stderr.strip()[-1500:]}")


def _environment(threads: int) -> dict[str, str]:
    variables = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    return {
        **os.environ,
        **dict.fromkeys(variables, str(threads)),
        "PYTHONPATH": str(ROOT / "src"),
        "HF_HUB_OFFLINE": "1",
    }
