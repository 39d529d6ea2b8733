"""Runs engines in turn, and writes a JSON, a table and a picture."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import clips as recordings
from benchmarks.engines import ENGINES, Engine, choose_engines
from benchmarks.environments import BenchmarkError, Environments, default_cache, named_path
from benchmarks.peak import build_peak, measure_peak, told
from benchmarks.processes import draw, transcribe, with_json
from benchmarks.summary import MANY, Figures, summarise
from benchmarks.tables import report
from benchmarks.weights import Weights
from benchmarks.work import condense, fractions, model_work
from max_whisper.errors import MaxWhisperError

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        engines = choose_engines(options.engines)
        given = dict(named_path(each) for each in options.python)
        environments = Environments(options.cache / "environments", given)
        if options.setup:
            environments.set_up(_environments(engines))
        with tempfile.TemporaryDirectory() as folder:
            Benchmark(options, engines, environments, Path(folder)).run()
    except (BenchmarkError, MaxWhisperError, ValueError) as error:
        print(f"benchmarks: {error}")
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(engine.name for engine in ENGINES)
    add = parser.add_argument
    add("--models", nargs="+", default=["tiny.en", "base"], help="names, or NAME=FOLDER of CTranslate2")
    add("--clips", nargs="+", type=Path, default=recordings.DEFAULT, help="recordings; texts in .txt beside")
    add("--many", nargs="*", type=Path, help="recordings to transcribe as a lot (without any: the test data)")
    add("--prompts", type=int, default=0, help="so many English prompts of Debian's packages with these")
    add("--engines", nargs="+", default=[], help=f"names or beginnings of names: {names}")
    add("--threads", type=int, default=2)
    add("--beam", nargs="+", type=int, default=[1], help="widths; 1 is greedy")
    add("--repeats", type=int, default=3, help="rounds that figures are medians of")
    add("--setup", action="store_true", help="make the environments that are missing, with pip")
    add("--cache", type=Path, default=default_cache(), help="where environments and weights are kept")
    add("--python", nargs="+", default=[], metavar="NAME=PYTHON", help="use another environment")
    add("--output", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default=datetime.now(timezone.utc).strftime("%Y-%m-%d"), help="name of the results")
    add("--no-limits", action="store_true", help="do not measure what the processor can do")
    options = parser.parse_args(arguments)
    if min(options.threads, options.repeats, *options.beam) < 1:
        parser.error("--threads, --repeats and --beam must be at least 1")
    return options


def _environments(engines: Sequence[Engine]) -> list[str]:
    wanted = {"report": None} | dict.fromkeys(engine.environment for engine in engines)
    if "openvino" in wanted:
        wanted["export"] = None
    return list(wanted)


class Benchmark:
    """One run of everything.

    Args:
        options: The command line's.
        engines: To be compared.
        environments: Their environments.
        folder: For samples.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        engines: Sequence[Engine],
        environments: Environments,
        folder: Path,
    ) -> None:
        self.options, self.environments = options, environments
        self.report_python = environments.python("report")
        self.clips = recordings.read_clips(options.clips, folder / "clips")
        many = recordings.MANY if options.many == [] else (options.many or ())
        self.many = recordings.read_clips(many, folder / "many")
        if options.prompts:
            self.many += recordings.prompt_clips(
                options.prompts, options.cache / "prompts", folder / "prompts"
            )
        self.left_out: dict[str, str] = {}
        self.limits: dict[str, float] = {}
        self.weights = {}
        for name in options.models:
            weights = Weights(name, options.cache / "models", environments)
            self.weights[weights.name] = weights
        # By (engine's name, model, beam); a combination that fails once is dropped.
        self.combinations: dict[tuple[str, str, int], dict[str, Any]] = {
            (engine.name, model, beam): {"engine": engine, "rounds": [], "wholes": []}
            for model in self.weights
            for beam in options.beam
            for engine in engines
        }

    def run(self) -> None:
        """Prepares, measures round by round, and writes the results after every round."""
        self._attempt("prepare", self._prepare)
        if not self.combinations:
            raise BenchmarkError("no engine can be run:\n" + "\n".join(self.left_out.values()))
        if not self.options.no_limits:
            with tempfile.TemporaryDirectory() as folder:
                self.limits = measure_peak(build_peak(Path(folder)), self.options.threads)
        for number in range(1, self.options.repeats + 1):
            self._attempt(f"round {number}/{self.options.repeats}", self._measure)
            self._write()

    def _attempt(self, stage: str, action: Any) -> None:
        for key in list(self.combinations):
            label = " ".join(map(str, key))
            print(f"[{datetime.now():%H:%M:%S}] {stage}: {label}", flush=True)
            try:
                action(key)
            except BenchmarkError as error:
                print(f"  left out: {error}", flush=True)
                self.left_out[label] = str(error)
                del self.combinations[key]

    def _prepare(self, key: tuple[str, str, int]) -> None:
        """Writes weights and fills every cache, so that no round finds them cold."""
        self._run(key, whole=True)

    def _measure(self, key: tuple[str, str, int]) -> None:
        whole = self._run(key, whole=True)
        result = self._run(key, whole=False)
        for run in result["runs"].values():
            if run["stages"] is not None:
                run["stages"] = self._stages(key, run)
        self.combinations[key]["wholes"].append(whole)
        self.combinations[key]["rounds"].append(result)

    def _stages(self, key: tuple[str, str, int], run: dict[str, Any]) -> dict[str, Any]:
        engine: Engine = self.combinations[key]["engine"]
        found = condense(run["stages"], run["seconds"])
        work = model_work(self.weights[key[1]].checkpoint.dims)
        found["fractions"] = fractions(found, work, engine.options["precision"], self.limits)
        return found

    def _run(self, key: tuple[str, str, int], *, whole: bool) -> dict[str, Any]:
        _, model, beam = key
        engine: Engine = self.combinations[key]["engine"]
        job = {
            "adapter": engine.adapter,
            "model": str(self.weights[model].path(engine.weights)),
            "threads": self.options.threads,
            "beam": beam,
            "options": dict(engine.options),
            "clips": {clip.name: str(clip.samples) for clip in self.clips},
            "many": [str(clip.samples) for clip in self.many],
            "whole": whole,
        }
        return transcribe(self.environments.python(engine.environment), job)

    def _write(self) -> None:
        audio = {clip.name: clip.seconds for clip in self.clips}
        if self.many:
            audio[MANY] = sum(clip.seconds for clip in self.many)
        figures = [self._figures(key, audio) for key in self.combinations]
        results = {
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
            "threads": self.options.threads,
            "clips": audio,
            "many": [clip.name for clip in self.many],
            "limits": self.limits,
            "left_out": self.left_out,
            "versions": {
                found["engine"].name: found["rounds"][0]["version"] for found in self.combinations.values()
            },
            "figures": [each.as_dict() for each in figures],
            "rounds": [
                {"engine": name, "model": model, "beam": beam, "rounds": found["rounds"]}
                for (name, model, beam), found in self.combinations.items()
            ],
        }
        self.options.output.mkdir(parents=True, exist_ok=True)
        base = self.options.output / self.options.name
        json_file, table, picture = (base.with_name(f"{base.name}.{end}") for end in ("json", "md", "svg"))
        json_file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        text = report(figures, about(results))
        table.write_text(text, encoding="utf-8")
        draw(self.report_python, json_file, picture)
        print(f"{text}\nwritten: {json_file}, {table.name}, {picture.name}", flush=True)

    def _figures(self, key: tuple[str, str, int], audio: dict[str, float]) -> Figures:
        name, model, beam = key
        found = self.combinations[key]
        engine: Engine = found["engine"]
        shown = {"name": name, "title": engine.title, "ours": engine.ours}
        wer = self._word_error_rates(found["rounds"][0]["runs"])
        return summarise(shown, model, beam, found["rounds"], found["wholes"], audio, wer)

    def _word_error_rates(self, runs: dict[str, Any]) -> dict[str, float]:
        pairs = {
            clip.name: ([clip.text], [runs[clip.name]["text"]])
            for clip in self.clips
            if clip.text is not None
        }
        if MANY in runs:
            told = [(clip.text, text) for clip, text in zip(self.many, runs[MANY]["texts"]) if clip.text]
            if told:
                pairs[MANY] = ([text for text, _ in told], [text for _, text in told])
        rates = with_json(self.report_python, "score.py", list(pairs.values()), threads=1)
        return dict(zip(pairs, rates))


def processor() -> str:
    """The processor's name."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def about(results: dict[str, Any]) -> list[str]:
    """What a table's reader must know."""
    rounds = max(each["rounds"] for each in results["figures"])
    clips = ", ".join(f"{name} ({seconds:.0f} s)" for name, seconds in results["clips"].items())
    machine = f"{results['processor']}, {results['cores']} cores, {results['threads']} threads"
    turns = f"medians of {rounds} rounds in which the engines took turns" if rounds > 1 else "one round"
    paragraphs = [
        f"{machine}; {results['when'][:10]}; {turns}. Clips: {clips}. Method: docs/benchmarks.md.",
        "Versions: " + "; ".join(f"{name} {version}" for name, version in results["versions"].items()) + ".",
    ]
    if results["limits"]:
        paragraphs.append(f"This processor's limits: {told(results['limits'])}.")
    paragraphs += [f"Left out: {label}: {reason}" for label, reason in results["left_out"].items()]
    return paragraphs
