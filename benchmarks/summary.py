"""From runs to medians."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

MANY = "many"


@dataclass(frozen=True)
class ClipFigures:
    """One engine on one clip.

    Attributes:
        clip: Its name.
        seconds: Median.
        fastest: Of all rounds.
        slowest: Of all rounds.
        rtfx: Seconds of audio transcribed in a second.
        first_text: Median seconds until the first text, or None if the engine does not tell.
        wer: Word error rate in percent, or None without a text to compare with.
        stages: What :func:`benchmarks.work.condense` found in the round of the median, with
            ``fractions`` of the limits; None for other engines.
    """

    clip: str
    seconds: float
    fastest: float
    slowest: float
    rtfx: float
    first_text: float | None
    wer: float | None
    stages: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Figures:
    """One engine with one model at one width of beam.

    Attributes:
        engine: The engine's name.
        title: What tables call it.
        ours: Whether it is this project.
        model: The model's name.
        beam: 1 is greedy.
        rounds: How many rounds the medians are of.
        clips: Figures by clip, in order.
        start: Median seconds from the process's start to a loaded model.
        first_transcript: The same to the first clip's text.
        process: The same to the end of a process that does nothing more.
        peak_mb: The most memory of any round's process, in MB.
        process_mb: The most memory of a process that transcribes the first clip alone.
    """

    engine: str
    title: str
    ours: bool
    model: str
    beam: int
    rounds: int
    clips: Sequence[ClipFigures]
    start: float
    first_transcript: float
    process: float
    peak_mb: float
    process_mb: float

    def clip(self, name: str) -> ClipFigures | None:
        return next((each for each in self.clips if each.clip == name), None)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    engine: Mapping[str, Any],
    model: str,
    beam: int,
    rounds: Sequence[Mapping[str, Any]],
    wholes: Sequence[Mapping[str, Any]],
    audio_seconds: Mapping[str, float],
    wer: Mapping[str, float],
) -> Figures:
    """The medians of some rounds.

    Args:
        engine: ``name``, ``title``, ``ours``.
        model: The model's name.
        beam: The beam's width.
        rounds: What ``workers/transcribe.py`` wrote, once a round.
        wholes: The same for processes that transcribe the first clip alone, with their ``process``
            seconds.
        audio_seconds: Seconds of each clip.
        wer: Word error rate of each clip that has a text.
    """
    names = [name for name in audio_seconds if name in rounds[0]["runs"]]
    return Figures(
        engine=engine["name"],
        title=engine["title"],
        ours=engine["ours"],
        model=model,
        beam=beam,
        rounds=len(rounds),
        clips=[
            _clip(name, [each["runs"][name] for each in rounds], audio_seconds[name], wer.get(name))
            for name in names
        ],
        start=median(each["loaded"] for each in (*rounds, *wholes)),
        first_transcript=median(each["first_transcript"] for each in (*rounds, *wholes)),
        process=median(each["process"] for each in wholes),
        peak_mb=max(each["peak_mb"] for each in rounds),
        process_mb=max(each["peak_mb"] for each in wholes),
    )


def _clip(name: str, runs: Sequence[Mapping[str, Any]], audio: float, wer: float | None) -> ClipFigures:
    seconds = [run["seconds"] for run in runs]
    middle = median(seconds)
    nearest = min(runs, key=lambda run: abs(run["seconds"] - middle))
    return ClipFigures(
        clip=name,
        seconds=middle,
        fastest=min(seconds),
        slowest=max(seconds),
        rtfx=audio / middle,
        first_text=median_of_known(run["first_text"] for run in runs),
        wer=wer,
        stages=nearest.get("stages"),
    )


def median_of_known(values: Iterable[float | None]) -> float | None:
    """The median, or None if any value is unknown."""
    known = list(values)
    return None if not known or None in known else median(v for v in known if v is not None)
