"""Figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.summary import MANY, Figures


def report(figures: Sequence[Figures], about: Sequence[str]) -> str:
    """The whole report.

    Args:
        figures: Of all engines, models and beams, in order.
        about: Paragraphs on the machine and the settings.
    """
    parts = ["# Benchmarks", *about]
    for model, beam in dict.fromkeys((each.model, each.beam) for each in figures):
        group = [each for each in figures if (each.model, each.beam) == (model, beam)]
        parts += [f"## {model}, {'greedy' if beam == 1 else f'beam {beam}'}", speeds(group), starts(group)]
        if stages := stage_table(group):
            parts.append(stages)
        if furthest := furthest_from_limits(group):
            parts.append(furthest)
    return "\n\n".join(parts) + "\n"


def speeds(group: Sequence[Figures]) -> str:
    """Seconds, speed, errors and memory of each engine, one column group a clip."""
    clips = list(dict.fromkeys(clip.clip for each in group for clip in each.clips))
    head = ["engine"]
    for name in clips:
        head += [f"{name}: s", "RTFx", "WER %"] + (["first text, s"] if name != MANY else [])
    rows = []
    for each in group:
        row = [_title(each)]
        for name in clips:
            clip = each.clip(name)
            cells = [None] * 4 if clip is None else [clip.seconds, clip.rtfx, clip.wer, clip.first_text]
            row += [_number(cells[0], 2), _number(cells[1], 1), _number(cells[2], 2)]
            row += [_number(cells[3], 2)] if name != MANY else []
        rows.append(row)
    return table(head, rows)


def starts(group: Sequence[Figures]) -> str:
    """Start times, whole processes and memory."""
    head = [
        "engine",
        "model loaded, s",
        "first transcript, s",
        "whole process, s",
        "its peak MB",
        "peak MB, all clips",
    ]
    return table(
        head,
        [
            [
                _title(each),
                *(_number(value, 2) for value in (each.start, each.first_transcript, each.process)),
                *(_number(value, 0) for value in (each.process_mb, each.peak_mb)),
            ]
            for each in group
        ],
    )


def stage_table(group: Sequence[Figures]) -> str:
    """Where our own time goes; empty if no engine of ours ran."""
    head = [
        *("engine", "clip", "encode", "decoder passes", "rest"),
        *("a window, ms", "of limit", "a step, ms", "of limit"),
    ]
    rows = []
    for each in group:
        for clip in each.clips:
            if clip.stages is None:
                continue
            stages, fractions = clip.stages, clip.stages.get("fractions") or {}
            rows.append(
                [
                    _title(each),
                    clip.clip,
                    *(_percent(stages[f"{part}_share"]) for part in ("encode", "forward", "rest")),
                    _number(_milli(stages["encode"]), 0),
                    _percent(fractions.get("encode")),
                    _number(_milli(stages["step"]), 2),
                    _percent(fractions.get("step")),
                ]
            )
    return table(head, rows) if rows else ""


def furthest_from_limits(group: Sequence[Figures]) -> str:
    """Names the stage of each engine of ours that uses the least of what the processor can do.

    Empty if nothing is known of the limits.
    """
    names = {"encode": "a window", "step": "a step of the decoder"}
    told = []
    for each in group:
        known = [
            (fraction, f"{names[stage]} of {clip.clip}")
            for clip in each.clips
            for stage, fraction in ((clip.stages or {}).get("fractions") or {}).items()
            if fraction is not None
        ]
        if known:
            fraction, stage = min(known)
            told.append(f"{each.title}: {stage}, {_percent(fraction)}")
    return f"Furthest from its limit: {'; '.join(told)}." if told else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is set flush right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _title(figures: Figures) -> str:
    return f"**{figures.title}**" if figures.ours else figures.title


def _milli(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
