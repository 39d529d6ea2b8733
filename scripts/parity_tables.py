"""Inspects models on recordings at every precision, and writes docs/parity-tables.md.

    python scripts/parity_tables.py --reference-python ~/reference/bin/python tests/data/jfk.flac long.flac

Each recording is what `max-whisper inspect RECORDING --model M --precision P --language en` examines; the
reference (openai-whisper in float32) is run once for a model and a recording. Exit status 1 if a stage of
the float32 runs is beyond its tolerance, or any run ends in an error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.audio import load_audio
from max_whisper.checkpoints import load_checkpoint
from max_whisper.errors import MaxWhisperError
from max_whisper.parity.inspection import Inspection, Plan, inspect
from max_whisper.parity.measure import TOLERANCES, Array
from max_whisper.parity.processes import OURS, Reply, Setting, Workshop
from max_whisper.parity.stages import parent

PAGE = Path(__file__).resolve().parent.parent / "docs" / "parity-tables.md"
HEAD = """# Stages and texts at every precision

Written by `scripts/parity_tables.py RECORDING...`. The first window of each recording against
openai-whisper in float32, whole recordings for the text. Of float32 the table has the greatest error of any
element, of the others the root mean square error, in standard deviations of the reference;
[parity.md](parity.md#the-tolerance) has the tolerances.
"""


class Frugal(Workshop):
    """Runs a reference once for what it is asked again."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kept: dict[str, Reply] = {}

    def _run(self, engine: str, kind: str, fields: dict[str, Any]) -> Reply:
        if engine in OURS:
            return super()._run(engine, kind, fields)
        if kind not in self._kept:
            self._kept[kind] = super()._run(engine, kind, fields)
        return self._kept[kind]


def inspected(
    name: str, samples: Array, precisions: Sequence[str], python: str, folder: str
) -> dict[str, Inspection]:
    checkpoint = load_checkpoint(name)
    workshop = Frugal(Path(folder), checkpoint, Setting(reference_python=python))
    plan = Plan(options={"language": "en", "temperature": 0.0, "task": "transcribe"})
    found = {}
    for precision in precisions:
        workshop.setting = replace(workshop.setting, precision=precision)
        found[precision] = inspect(workshop, samples, plan)
        print(f"{name} {precision}: {found[precision].verdict}", file=sys.stderr)
    return found


def stage_table(found: Mapping[str, Inspection]) -> list[str]:
    lines = [f"| stage | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    tables = {precision: inspection.table for precision, inspection in found.items()}
    first = next(iter(tables.values()))
    assert first is not None
    for row in first.rows:
        if row.difference is None or parent(row.name):
            continue
        cells = []
        for precision, table in tables.items():
            assert table is not None
            other = next(r for r in table.rows if r.name == row.name)
            d = other.difference
            if d is None:
                cells.append(f"**{other.error}**")
                continue
            value = d.deviation if np.isfinite(TOLERANCES[precision].greatest) else d.rms
            cells.append(f"{value:.1e}" if other.passed else f"**{value:.1e}**")
        lines.append(f"| `{row.name}` | {' | '.join(cells)} |")
    return lines


def text_table(found: Mapping[str, Inspection]) -> list[str]:
    lines = [
        "| precision | stages within tolerance | with excused positions | tokens | word error rate |",
        "|---|---:|---:|---|---:|",
    ]
    for precision, inspection in found.items():
        table, comparison = inspection.table, inspection.comparison
        assert table is not None and comparison is not None
        measured = [row for row in table.rows if row.difference]
        passed = sum(row.passed for row in measured)
        excused = sum(1 for row in measured if row.difference and row.difference.excused)
        tokens = "equal" if comparison.same_tokens else "differ"
        rate = 100 * (comparison.word_error_rate or 0.0)
        lines.append(f"| {precision} | {passed} of {len(measured)} | {excused} | {tokens} | {rate:.2f} % |")
    return lines


def sections_of(page: Path) -> dict[str, str]:
    """The sections that a page has, by their titles; those of other models and recordings stay."""
    parts = page.read_text(encoding="utf-8").split("\n## ")[1:] if page.is_file() else []
    return {f"## {part.splitlines()[0]}": f"## {part.strip()}" for part in parts}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--models", default="tiny.en,base")
    parser.add_argument("--precisions", default=",".join(TOLERANCES))
    parser.add_argument("--reference-python", default=sys.executable)
    parser.add_argument("--output", type=Path, default=PAGE)
    args = parser.parse_args()
    sections, sound = sections_of(args.output), True
    for name in args.models.split(","):
        for path in args.recordings:
            samples = load_audio(str(path))
            try:
                with tempfile.TemporaryDirectory() as folder:
                    found = inspected(
                        name, samples, args.precisions.split(","), args.reference_python, folder
                    )
            except MaxWhisperError as error:
                print(f"{name}, {path}: {error}", file=sys.stderr)
                return 1
            sound = sound and all(i.passed for p, i in found.items() if p == "float32")
            title = f"## {name}, {path.name} ({len(samples) / 16000:.0f} s)"
            sections[title] = "\n".join([title, "", *text_table(found), "", *stage_table(found)])
            args.output.write_text("\n\n".join([HEAD.strip(), *sections.values()]) + "\n", encoding="utf-8")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
