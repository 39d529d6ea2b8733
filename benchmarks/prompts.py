"""Word error rates of each precision over prompts in five languages, and over clips.

    python -m benchmarks.prompts --setup
    python -m benchmarks.prompts --models base --clips talk.flac

The prompts come from Debian's packages (benchmarks/prompt_sets.py says which, and which prompts are
left out). They are transcribed at temperature 0 without fallback, the language given and without
the text before as a prompt: joined to recordings of about two minutes, or each --alone. What is said
in talk.flac, in English, stands beside it in talk.txt. With --shifts, each recording is heard as often,
every time 30 ms later: a word that is almost as likely as another can send a model another way, and such
accidents are then a part of the mean. The exit status is 1 where a precision is
worse than float32 by more than --limit, over all languages or on a clip.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import read_clips
from benchmarks.environments import BenchmarkError, Environments, default_cache, named_path
from benchmarks.processes import with_json
from benchmarks.prompt_sets import LANGUAGES, LEAST, Recording, fetch, read_prompts, recordings, spread
from benchmarks.run import RESULTS, processor
from benchmarks.tables import table
from max_whisper.audio import SAMPLE_RATE
from max_whisper.errors import MaxWhisperError
from max_whisper.model import Whisper, load_model
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.segments import Transcript

EXACT = "float32"
#: All languages together.
ALL = "all languages"
#: About the words of a window of half a minute: see :func:`difference`.
STRETCH = 60
SHIFT = 3 * SAMPLE_RATE // 100  # samples: not a whole number of positions, which have 20 ms
#: [errors, words] of each piece of a set.
Counts = Sequence[Sequence[int]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        environments = Environments(
            options.cache / "environments", dict(named_path(each) for each in options.python)
        )
        if options.setup:
            environments.set_up(["report"])
        return _measure(options, environments.python("report"))
    except (BenchmarkError, MaxWhisperError) as error:
        print(f"benchmarks: {error}")
        return 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--models", nargs="+", default=["tiny.en", "base"])
    add("--precisions", nargs="+", default=["int8", "bfloat16"], help=f"beside {EXACT}, which always runs")
    add("--languages", nargs="+", default=list(LANGUAGES), choices=LANGUAGES)
    add("--prompts", type=int, default=150, help=f"of a language, at least {LEAST}; 0: all")
    add("--shifts", type=int, default=1, help="how often each recording is heard")
    add("--alone", action="store_true", help="transcribe each prompt by itself")
    add("--clips", nargs="*", type=Path, default=[], help="English recordings; texts in .txt beside")
    add("--limit", type=float, default=0.2, help="points of WER that a precision may be worse")
    add("--threads", type=int, default=2)
    add("--setup", action="store_true", help="make the environment that counts errors, with pip")
    add("--cache", type=Path, default=default_cache(), help="where prompts and environments are kept")
    add("--python", nargs="+", default=[], metavar="NAME=PYTHON", help="use another environment")
    add("--output", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default=datetime.now(timezone.utc).strftime("%Y-%m-%d-prompts"), help="name of the results")
    options = parser.parse_args(arguments)
    if options.prompts and options.prompts < LEAST:
        parser.error(f"--prompts must be 0 (all) or at least {LEAST}")
    if options.shifts < 1:
        parser.error("--shifts must be at least 1")
    return options


def _measure(options: argparse.Namespace, scorer: Path) -> int:
    given, versions = _recordings(options)
    runs: list[dict[str, Any]] = []
    failed: list[str] = []
    for model in options.models:
        # float32 first: with each further precision there is something to compare.
        for precision in dict.fromkeys([EXACT, *options.precisions]):
            print(f"[{datetime.now():%H:%M:%S}] {model} {precision}", flush=True)
            whisper = load_model(model, precision=precision, threads=options.threads)
            spoken = [each for each in given if whisper.dims.is_multilingual or each.language == "en"]
            if not spoken:
                raise BenchmarkError(f"{model} hears English alone, and there is none: add it to --languages")
            heard = [transcribed(whisper, spoken, shift * SHIFT) for shift in range(options.shifts)]
            asked = [
                [each.language, each.texts, text] for texts in heard for each, text in zip(spoken, texts)
            ]
            found = with_json(scorer, "word_errors.py", asked, threads=1)
            counts = by_set(spoken, together(found, len(spoken)))
            runs.append({"model": model, "precision": precision, "counts": counts, "texts": heard})
            failed = _write(options, given, versions, runs)
    return 1 if failed else 0


def _recordings(options: argparse.Namespace) -> tuple[list[Recording], dict[str, str]]:
    """All that is to be transcribed, and the packages' versions."""
    given: list[Recording] = []
    versions = {}
    for language in options.languages:
        folder = fetch(language, options.cache / "prompts")
        versions[language] = (folder / "version").read_text()
        prompts = list(read_prompts(language, folder))
        if len(prompts) < LEAST:
            raise BenchmarkError(f"{folder} has {len(prompts)} prompts to judge by; {LEAST} are needed")
        given += recordings(language, spread(prompts, options.prompts), options.alone)
    return given + _clips(options.clips), versions


def _write(
    options: argparse.Namespace,
    given: Sequence[Recording],
    versions: Mapping[str, str],
    runs: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Writes the results so far, and returns the failures."""
    rows = compared(runs, options.shifts)
    results = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": versions,
        "alone": options.alone,
        "shifts": options.shifts,
        "seconds": {
            name: sum(len(each.samples) for each in given if each.set == name) / SAMPLE_RATE
            for name in dict.fromkeys(each.set for each in given)
        },
        "limit": options.limit,
        "failed": failures(rows, options.limit),
        "rows": rows,
        "runs": runs,
    }
    text = report(results)
    options.output.mkdir(parents=True, exist_ok=True)
    base = options.output / options.name
    json_file, table_file = (base.with_name(f"{base.name}.{end}") for end in ("json", "md"))
    json_file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table_file.write_text(text, encoding="utf-8")
    print(f"{text}\nwritten: {json_file}, {table_file.name}", flush=True)
    return list(results["failed"])


def _clips(paths: Sequence[Path]) -> list[Recording]:
    """Recordings whose pieces are the lines of their texts."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for clip in read_clips(paths, Path(folder)):
            lines = tuple(line for line in (clip.text or "").splitlines() if line.strip())
            if not lines:
                raise BenchmarkError(f"what is said in {clip.name} is not known: write it to {clip.name}.txt")
            found.append(Recording(f"clip {clip.name}", "en", lines, np.load(clip.samples)))
    return found


def transcribed(whisper: Whisper, given: Sequence[Recording], shift: int = 0) -> list[str]:
    """What the model hears in each after so many zeros; several at a time, which changes nothing."""
    texts = [""] * len(given)
    for language in dict.fromkeys(each.language for each in given):
        numbers = [number for number, each in enumerate(given) if each.language == language]
        settings = transcribe_options(language=language, temperature=0.0, condition_on_previous_text=False)
        samples = [np.pad(given[number].samples, (shift, 0)) for number in numbers]
        for place, event in whisper.events_of_many(samples, settings):
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Transcript):
                texts[numbers[place]] = event.text
    return texts


def together(counts: Sequence[Counts], recordings: int) -> list[list[list[int]]]:
    """The pieces' counts of each recording, over all the times that it was heard."""
    times = [counts[start : start + recordings] for start in range(0, len(counts), recordings)]
    return [np.sum(heard, axis=0).tolist() for heard in zip(*times)]


def by_set(given: Sequence[Recording], counts: Sequence[Counts]) -> dict[str, list[Sequence[int]]]:
    """The pieces' counts of each set: the languages, all of them together, the clips."""
    sets: dict[str, list[Sequence[int]]] = {}
    languages = [each.set == each.language for each in given]
    for kinds in (True, False):
        for each, prompts, pieces in zip(given, languages, counts):
            if prompts is kinds:
                sets.setdefault(each.set, []).extend(pieces)
        if kinds and sets:
            sets[ALL] = [piece for pieces in sets.values() for piece in pieces]
    return sets


def compared(runs: Sequence[Mapping[str, Any]], shifts: int = 1) -> list[dict[str, Any]]:
    """Each run's error rates in percent, and how much they are above float32's of the same model."""
    exact = {run["model"]: run["counts"] for run in runs if run["precision"] == EXACT}
    return [
        {
            "model": run["model"],
            "precision": run["precision"],
            "sets": {
                name: {
                    "wer": 100 * sum(errors for errors, _ in pieces) / sum(words for _, words in pieces),
                    "words": sum(words for _, words in pieces) // shifts,
                    **difference(exact[run["model"]][name], pieces, shifts),
                }
                for name, pieces in run["counts"].items()
            },
        }
        for run in runs
    ]


def difference(exact: Counts, other: Counts, shifts: int = 1) -> dict[str, float]:
    """How many points the other's error rate is higher, and that figure's standard error.

    Args:
        exact: [errors, words] of each piece.
        other: The same pieces' as another run has them.
        shifts: How often each piece was heard.

    Returns:
        ``difference``, and ``error``: what it would vary by with other recordings of the kind. It is
        that of a ratio of sums over stretches of speech, both runs' errors in one taken together.
        Pieces do not err by themselves: a window of which little is written down has several.
    """
    stretches = [[0, 0]]
    for (before, words), (after, _) in zip(exact, other):
        if stretches[-1][1] >= STRETCH * shifts:
            stretches.append([0, 0])
        stretches[-1][0] += after - before
        stretches[-1][1] += words
    more, words_of = np.array(stretches, float).T
    mean = more.sum() / words_of.sum()
    count = len(stretches)
    variance = ((more - mean * words_of) ** 2).sum() * count / max(1, count - 1)
    return {"difference": 100 * mean, "error": 100 * math.sqrt(variance) / words_of.sum()}


def failures(rows: Sequence[Mapping[str, Any]], limit: float) -> list[str]:
    """Where a precision is worse than it may be: over all languages, or on a clip."""
    return [
        f"{row['model']} {row['precision']}, {name}: {figures['difference']:+.2f} points"
        for row in rows
        for name, figures in row["sets"].items()
        if name not in LANGUAGES and figures["difference"] > limit
    ]


def report(results: Mapping[str, Any]) -> str:
    """The tables, one a model."""
    seconds = ", ".join(f"{name} {length:.0f} s" for name, length in results["seconds"].items())
    how = "each prompt alone" if results["alone"] else "prompts joined to recordings of two minutes"
    if results["shifts"] > 1:
        how += f", each heard {results['shifts']} times, 30 ms apart"
    about = (
        f"{results['processor']}; {results['when'][:10]}; {how}: {seconds}. "
        "WER in percent; in brackets points above float32, and the standard error of that difference. "
        "Method: docs/benchmarks.md."
    )
    parts = ["# Word error rates over prompts", about]
    for model in dict.fromkeys(row["model"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["model"] == model]
        names = list(rows[0]["sets"])
        words = [f"{name}, {rows[0]['sets'][name]['words']} words" for name in names]
        cells = [[row["precision"], *(_cell(row, name) for name in names)] for row in rows]
        parts += [f"## {model}", table(["precision", *words], cells)]
    limit = f"{results['limit']:g} points"
    parts.append(
        f"Worse than float32 by more than {limit}: {'; '.join(results['failed'])}."
        if results["failed"]
        else f"None is worse than float32 by more than {limit} over all languages, or on a clip."
    )
    return "\n\n".join(parts) + "\n"


def _cell(row: Mapping[str, Any], name: str) -> str:
    figures = row["sets"][name]
    if row["precision"] == EXACT:
        return f"{figures['wer']:.2f}"
    return f"{figures['wer']:.2f} ({figures['difference']:+.2f} ± {figures['error']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
