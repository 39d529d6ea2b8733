"""The commands ``compare`` and ``inspect``: 0 for parity, 1 for a divergence, 2 for an error."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid

from max_whisper.audio import load_audio
from max_whisper.checkpoints import DEFAULT_MODEL, load_checkpoint
from max_whisper.errors import MaxWhisperError, OptionError, OutputError
from max_whisper.parity.comparing import Report, compare
from max_whisper.parity.faults import FAULTS, find_fault
from max_whisper.parity.inspection import Inspection, Plan, inspect
from max_whisper.parity.processes import BACKENDS, OURS, Setting, Workshop
from max_whisper.parity.report import comparison_page, inspection_page, write_page
from max_whisper.parity.stages import parent

_EXIT_DIVERGED = 1


def register(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Adds both commands; each sets ``run``, a function of the parsed arguments to an exit status."""
    add = subparsers.add_parser(
        "compare", help="transcribe with several engines and compare", description=run_compare.__doc__
    )
    _common(add)
    add.add_argument("--backends", default="max,openai-cpu", help=f"of {', '.join(BACKENDS)}")
    add.add_argument("--reference", help="which of them is the reference (the last one)")
    add.add_argument("--transcript", help="what is said: text, or a file that holds it")
    add.set_defaults(run=run_compare)

    add = subparsers.add_parser(
        "inspect", help="compare with a reference stage by stage", description=run_inspect.__doc__
    )
    _common(add)
    add.add_argument("--backend", choices=OURS, default="max", help="our side (max)")
    add.add_argument(
        "--reference", default="openai-cpu", help="openai-cpu, openai-gpu, numpy, or an .npz of stored stages"
    )
    add.add_argument("--start", type=float, default=0.0, help="where the window starts, in seconds (0)")
    add.add_argument("--hybrids", action="store_true", help="mix the two sides' encoders and decoders")
    add.set_defaults(run=run_inspect)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", help="a recording")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a path ({DEFAULT_MODEL})")
    parser.add_argument("--language", help="a code; detected where left out")
    parser.add_argument("--task", choices=("transcribe", "translate"), default="transcribe")
    parser.add_argument("--beam_size", type=int, help="beams; greedy where left out")
    parser.add_argument("--temperature", type=float, default=0.0, help="of all engines (0)")
    parser.add_argument("--condition_on_previous_text", type=_yes, default=True, metavar="BOOL")
    parser.add_argument("--precision", default="float32", help="of our side (float32)")
    parser.add_argument("--device", default="cpu", help="of our side (cpu)")
    parser.add_argument("--threads", type=int, default=0, help="of each engine (its own choice)")
    parser.add_argument("--plant", metavar="FAULT", help=f"a fault for our side: {', '.join(FAULTS)}")
    parser.add_argument(
        "--reference-python",
        default=sys.executable,
        metavar="PATH",
        help="the Python that has the references",
    )
    parser.add_argument("--json", metavar="FILE", help="write the result; - is standard output")
    parser.add_argument("--html", metavar="FILE", help="write a page")


def _yes(text: str) -> bool:
    if text not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"expected True or False, not {text}")
    return text == "True"


def run_compare(arguments: argparse.Namespace) -> int:
    """Transcribes a recording with every backend, each in a process of its own, and compares."""
    backends = [name.strip() for name in arguments.backends.split(",") if name.strip()]
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown or not backends:
        raise OptionError(f"unknown backends {unknown}; the backends are {', '.join(BACKENDS)}")
    reference = arguments.reference or backends[-1]
    if reference not in backends:
        raise OptionError(f"the reference {reference} is not among the backends {', '.join(backends)}")
    samples = load_audio(arguments.audio)
    transcript = _transcript(arguments.transcript)
    with tempfile.TemporaryDirectory() as folder:
        workshop = _workshop(arguments, folder)
        report = compare(workshop, samples, backends, reference, _options(arguments), transcript)
    _deliver(arguments, report.as_dict(), comparison_page, report)
    if arguments.json != "-":
        _show_report(report)
    return 0 if report.passed else _EXIT_DIVERGED


def run_inspect(arguments: argparse.Namespace) -> int:
    """Compares one window with a reference, stage by stage, and names the first that diverges."""
    plan = Plan(
        ours=arguments.backend,
        reference=arguments.reference,
        options=_options(arguments),
        start=arguments.start,
        hybrids=arguments.hybrids,
    )
    if not plan.stored and plan.reference not in ("numpy", "openai-cpu", "openai-gpu"):
        raise OptionError(
            f"{plan.reference} gives no stages; the reference is openai-cpu, numpy or an .npz file"
        )
    samples = load_audio(arguments.audio)
    with tempfile.TemporaryDirectory() as folder:
        inspection = inspect(_workshop(arguments, folder), samples, plan)
    _deliver(arguments, inspection.as_dict(), inspection_page, inspection)
    if arguments.json != "-":
        _show_inspection(inspection)
    return 0 if inspection.passed else _EXIT_DIVERGED


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs ``compare ...`` or ``inspect ...`` and gives the exit status.

    Args:
        arguments: The command's name and what stands behind it; the process's if None.

    Raises:
        MaxWhisperError: If the comparison cannot be made.
    """
    parser = argparse.ArgumentParser(prog="max-whisper")
    register(parser.add_subparsers(required=True))
    parsed = parser.parse_args(arguments)
    status: int = parsed.run(parsed)
    return status


def main() -> int:
    """``python -m max_whisper.parity.cli``: the two commands by themselves."""
    try:
        return run()
    except MaxWhisperError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2


def _workshop(arguments: argparse.Namespace, folder: str) -> Workshop:
    if arguments.plant:
        find_fault(arguments.plant)
    setting = Setting(
        reference_python=arguments.reference_python,
        precision=arguments.precision,
        device=arguments.device,
        threads=arguments.threads,
        plant=arguments.plant,
    )
    return Workshop(Path(folder), load_checkpoint(arguments.model), setting)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    options = {
        "language": arguments.language,
        "task": arguments.task,
        "temperature": arguments.temperature,
        "condition_on_previous_text": arguments.condition_on_previous_text,
    }
    if arguments.beam_size is not None:
        options["beam_size"] = arguments.beam_size
    return options


def _transcript(given: str | None) -> str | None:
    if given is None or not (len(given) < 4096 and Path(given).is_file()):
        return given
    return Path(given).read_text(encoding="utf-8")


def _deliver(arguments: argparse.Namespace, values: dict[str, Any], page: Any, result: Any) -> None:
    if arguments.json == "-":
        sys.stdout.write(json.dumps(values, indent=1) + "\n")
    elif arguments.json:
        try:
            Path(arguments.json).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{arguments.json} cannot be written: {error.strerror}") from error
    if arguments.html:
        name = "compare" if isinstance(result, Report) else "inspect"
        planted = f", planted: {arguments.plant}" if arguments.plant else ""
        title = f"{Path(arguments.audio).name} with {arguments.model}, {arguments.precision}{planted}"
        command = shlex.join(["max-whisper", name, *_told(arguments)])
        write_page(Path(arguments.html), page(result, title, command))


def _told(arguments: argparse.Namespace) -> list[str]:
    """The arguments that say what was asked for, without those that say where to write it."""
    told = [arguments.audio]
    for name, value in vars(arguments).items():
        if name in ("audio", "run", "json", "html", "reference_python", "command") or value in (None, False):
            continue
        told += [f"--{name}"] if value is True and name == "hybrids" else [f"--{name}", str(value)]
    return told


def _show_report(report: Report) -> None:
    heads = ("engine", "chars", "ratio", "WER", "said", "tokens", "s", "RTFx", "MB")
    grid = Grid(*heads, box=SIMPLE_HEAD, padding=(0, 1))
    for row in report.rows:
        if row.error:
            grid.add_row(row.backend, "failed", *["–"] * 7, style="red")
            continue
        same = {None: "–", True: "equal", False: "differ"}[row.same_tokens]
        rates = [
            "–" if r is None else f"{100 * r:.2f}%"
            for r in (row.length_ratio, row.word_error_rate, row.transcript_error_rate)
        ]
        assert row.seconds and row.rtfx and row.peak_bytes
        cost = (f"{row.seconds:.2f}", f"{row.rtfx:.1f}", f"{row.peak_bytes / 2**20:.0f}")
        grid.add_row(row.backend, str(row.characters), *rates, same, *cost)
    console = Console()
    console.print(grid)
    _show_verdict(console, report.passed, report.verdict)


def _show_inspection(inspection: Inspection) -> None:
    console = Console()
    if inspection.table:
        heads = ("stage", "max error", "relative", "cosine", "max / sd", "")
        grid = Grid(*heads, box=SIMPLE_HEAD, padding=(0, 1))
        for row in inspection.table.shown():
            name = f"  {row.name}" if parent(row.name) else row.name
            mark = "[green]ok[/]" if row.passed else "[red]off[/]"
            d = row.difference
            numbers: tuple[str, ...] = ("",) * 4
            if d is not None:
                numbers = (
                    *(f"{value:.1e}" for value in (d.max_abs, d.relative)),
                    *(f"{d.cosine:.7f}", f"{d.deviation:.1e}"),
                )
            grid.add_row(name, *numbers, mark)
        console.print(grid)
    _show_verdict(console, inspection.passed, inspection.verdict)


def _show_verdict(console: Console, passed: bool, verdict: str) -> None:
    console.print(
        "parity:" if passed else "divergence:", style="bold green" if passed else "bold red", end=" "
    )
    console.print(verdict, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
