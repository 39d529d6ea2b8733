"""Holds max-whisper to openai-whisper's transcripts of recordings that are not in the repository.

    python -m scripts.check_recordings GOLDEN.json... --audio FILE_OR_FOLDER
        [--runs NAME,...]

The golden files are those of scripts/make_reference.py (or the same with full segments). In a
folder, a recording is found by the clip's name and any suffix. Every difference is printed; the
exit status is 0 only where there is none.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.parity.golden import differences

RUNS = "greedy,greedy_condition,greedy_words,beam5,beam5_condition"


def recording(audio: Path, clip: str) -> Path:
    if audio.is_file():
        return audio
    found = sorted(path for path in audio.glob(f"{clip}.*") if path.suffix not in (".txt", ".json"))
    if not found:
        raise SystemExit(f"there is no recording of {clip} in {audio}")
    return found[0]


@functools.cache
def load_model(name: str) -> Any:
    import max_whisper

    return max_whisper.load_model(name)


def check(path: Path, audio: Path, runs: list[str]) -> int:
    """How many runs of one golden file differ."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    failed = 0
    for name in (run for run in runs if run in stored["runs"]):
        run = stored["runs"][name]
        start = time.perf_counter()
        result = load_model(stored["model"]).transcribe(
            str(recording(audio, stored["clip"])), language=stored["language"], **run["options"]
        )
        seconds = time.perf_counter() - start
        found = differences(run, result)
        failed += bool(found)
        verdict = f"{len(found)} differences" if found else "equal"
        label = f"{stored['model']} {stored['clip']} {name} language={stored['language']}"
        print(f"{label}: {verdict} ({len(run['segments'])} segments, {seconds:.1f} s)")
        for line in found:
            print("   ", line)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("golden", nargs="+", type=Path)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--runs", default=RUNS)
    arguments = parser.parse_args()
    runs = arguments.runs.split(",")
    failed = sum(check(path, arguments.audio, runs) for path in arguments.golden)
    print(f"{failed} runs differ" if failed else "all runs are equal")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
