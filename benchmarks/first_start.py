"""How long it takes until a model is loaded: at the first start ever, and at the second.

    python -m benchmarks.first_start --models tiny.en base --precisions int8 float32

At the first start every cache is empty, the compiler's included; weights come from installed packages.
Where the package max-whisper-graphs is installed, nothing need be compiled, and the table says so. Seconds
are those of a process of its own, from its beginning to a loaded model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environments import BenchmarkError
from benchmarks.run import processor
from benchmarks.tables import table

PROGRAM = """\
import sys
import max_whisper
max_whisper.load_model(sys.argv[1], precision=sys.argv[2])
"""


def start(model: str, precision: str, folder: Path) -> float:
    """Seconds until a model is loaded, with all caches in a folder.

    Raises:
        BenchmarkError: It can't be loaded.
    """
    places = {
        "HOME": "home",
        "MODULAR_HOME": "modular",
        "XDG_CACHE_HOME": "xdg",
        "MAX_WHISPER_CACHE": "cache",
    }
    for name in places.values():
        (folder / name).mkdir(exist_ok=True)
    environment = {**os.environ, **{variable: str(folder / name) for variable, name in places.items()}}
    command = [sys.executable, "-c", PROGRAM, model, precision]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise BenchmarkError(f"{model} in {precision} can't be loaded:\n{done.stderr[-1500:]}")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--precisions", nargs="+", default=["int8", "float32"])
    options = parser.parse_args(arguments)
    rows = []
    try:
        for model in options.models:
            for precision in options.precisions:
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    first, second = (start(model, precision, folder) for _ in range(2))
                    compiled = len(list(folder.glob("cache/artifacts/*.mef")))
                rows.append([model, precision, str(compiled), f"{first:.1f}", f"{second:.2f}"])
                print(f"{model} {precision}: {first:.1f} s, then {second:.2f} s", flush=True)
    except BenchmarkError as error:
        print(f"benchmarks.first_start: {error}")
        return 1
    head = ["model", "precision", "modules compiled", "first start, s", "second start, s"]
    print(f"\n{processor()}, {len(os.sched_getaffinity(0))} cores\n\n{table(head, rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
