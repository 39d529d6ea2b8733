"""Transcripts as files: plain text, subtitles, tables, JSON; the same bytes as openai-whisper's.

A result is a mapping as :meth:`max_whisper.Whisper.transcribe` returns it. Each format is a
function from a result to the text of the file; the file appears under its name only when it is
complete.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from max_whisper.errors import OptionError, OutputError

Result = Mapping[str, Any]
Word = Mapping[str, Any]
Cue = tuple[str, str, str]  # start, end, text

_LONG_PAUSE = 3.0  # seconds of silence after which a subtitle that fills lines freely is ended
_UNLIMITED = 1000  # openai-whisper's stand-in for "no limit"


@dataclass(frozen=True)
class SubtitleLayout:
    """How words are set in subtitles; has no effect on a result without word times.

    Attributes:
        max_line_width: Characters a line.
        max_line_count: Lines a subtitle. With a width as well, subtitles run on over the ends of
            segments; otherwise each segment starts a new one.
        max_words_per_line: Words a subtitle, where ``max_line_width`` is not given.
        highlight_words: One cue a word, which is underlined in it.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> SubtitleLayout:
        """The layout in a mapping of options; others are left alone, 0 counts as no limit.

        Raises:
            OptionError: A limit is negative.
        """
        chosen = {field.name: options[field.name] for field in fields(cls) if options.get(field.name)}
        for name, value in chosen.items():
            if value < 0:
                raise OptionError(f"{name} cannot be negative, and is {value}")
        return cls(**chosen)


def format_timestamp(seconds: float, always_include_hours: bool = False, decimal_marker: str = ".") -> str:
    """Seconds as ``mm:ss.mmm``, with hours in front where there are any or they are wanted.

    Raises:
        ValueError: The time is negative.
    """
    if seconds < 0:
        raise ValueError(f"a time cannot be negative, and is {seconds}")
    total, milliseconds = divmod(round(seconds * 1000.0), 1000)
    minutes, whole_seconds = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02d}:{whole_seconds:02d}{decimal_marker}{milliseconds:03d}"
    return f"{hours:02d}:{clock}" if hours or always_include_hours else clock


def to_txt(result: Result, layout: SubtitleLayout) -> str:
    """One line a segment."""
    return "".join(f"{segment['text'].strip()}\n" for segment in result["segments"])


def to_vtt(result: Result, layout: SubtitleLayout) -> str:
    """WebVTT subtitles."""
    cues = _cues(result, layout, format_timestamp)
    return "WEBVTT\n\n" + "".join(f"{start} --> {end}\n{text}\n\n" for start, end, text in cues)


def to_srt(result: Result, layout: SubtitleLayout) -> str:
    """SubRip subtitles."""
    cues = _cues(result, layout, lambda seconds: format_timestamp(seconds, True, ","))
    return "".join(f"{n}\n{start} --> {end}\n{text}\n\n" for n, (start, end, text) in enumerate(cues, 1))


def to_tsv(result: Result, layout: SubtitleLayout) -> str:
    """A table of start and end in whole milliseconds, and text."""
    rows = ["start\tend\ttext\n"]
    for segment in result["segments"]:
        text = segment["text"].strip().replace("\t", " ")
        rows.append(f"{round(1000 * segment['start'])}\t{round(1000 * segment['end'])}\t{text}\n")
    return "".join(rows)


def to_json(result: Result, layout: SubtitleLayout) -> str:
    """The whole result."""
    return json.dumps(result)


FORMATS: dict[str, Callable[[Result, SubtitleLayout], str]] = {
    "txt": to_txt,
    "vtt": to_vtt,
    "srt": to_srt,
    "tsv": to_tsv,
    "json": to_json,
}


class ResultWriter:
    """Writes results into a directory, under the names of their recordings.

    Attributes:
        formats: Which files are written for each recording.
        output_dir: The directory; it must exist.
    """

    def __init__(self, formats: Sequence[str], output_dir: str | os.PathLike[str]) -> None:
        self.formats = tuple(formats)
        self.output_dir = Path(output_dir)

    def __call__(
        self,
        result: Result,
        audio_path: str | os.PathLike[str],
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Writes one result.

        Args:
            result: The transcript.
            audio_path: The recording; its name without the suffix names the files.
            options: Fields of :class:`SubtitleLayout`; other options may stand among them.
            **more: The same as keywords, which prevail.

        Raises:
            OutputError: A file cannot be written; nothing of it is left behind.
        """
        layout = SubtitleLayout.of({**(options or {}), **{k: v for k, v in more.items() if v}})
        self.write(result, Path(audio_path).stem, layout)

    def write(self, result: Result, stem: str, layout: SubtitleLayout) -> None:
        """Writes one result to files of the given name, whatever the recording is called."""
        for name in self.formats:
            write_text(self.output_dir / f"{stem}.{name}", FORMATS[name](result, layout))


def get_writer(output_format: str, output_dir: str | os.PathLike[str]) -> ResultWriter:
    """The writer of one format, or of ``all``.

    Raises:
        OptionError: There is no such format.
    """
    if output_format != "all" and output_format not in FORMATS:
        raise OptionError(f"unknown output format {output_format!r}; choose from {', '.join(FORMATS)}, all")
    return ResultWriter(list(FORMATS) if output_format == "all" else [output_format], output_dir)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file whole or not at all.

    Raises:
        OutputError: It cannot be written; a file that was there before is left as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with partial.open("wb") as file:
                file.write(text.encode("utf-8"))
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _cues(result: Result, layout: SubtitleLayout, clock: Callable[[float], str]) -> Iterator[Cue]:
    segments = result["segments"]
    if not segments or "words" not in segments[0]:
        for segment in segments:
            # "-->" between the times is what marks a cue
            text = segment["text"].strip().replace("-->", "->")
            yield clock(segment["start"]), clock(segment["end"]), text
        return
    for words in _subtitles(segments, layout):
        if layout.highlight_words:
            yield from _highlighted(words, clock)
        else:
            text = "".join(word["word"] for word in words)
            yield clock(words[0]["start"]), clock(words[-1]["end"]), text


def _subtitles(segments: Sequence[Mapping[str, Any]], layout: SubtitleLayout) -> Iterator[list[Word]]:
    """Sets words in lines and subtitles: a list of words each, line breaks in front of some."""
    by_segment = layout.max_line_count is None or layout.max_line_width is None
    width = layout.max_line_width or _UNLIMITED
    subtitle: list[Word] = []
    used, lines = 0, 1
    previous = _first_start(segments)
    for word, opens_group in _grouped(segments, layout.max_words_per_line or _UNLIMITED):
        text = word["word"]
        pause = not by_segment and word["start"] - previous > _LONG_PAUSE
        breaks = by_segment and opens_group and bool(subtitle)
        if used and used + len(text) <= width and not pause and not breaks:
            used += len(text)
        else:
            text = text.strip()
            full = layout.max_line_count is not None and (pause or lines >= layout.max_line_count)
            if breaks or (subtitle and full):
                yield subtitle
                subtitle, lines = [], 1
            elif used:
                lines += 1
                text = "\n" + text
            used = len(text.strip())
        subtitle.append({**word, "word": text})
        previous = word["start"]
    if subtitle:
        yield subtitle


def _first_start(segments: Sequence[Mapping[str, Any]]) -> float:
    starts = (word["start"] for segment in segments for word in segment["words"])
    return float(next(starts, segments[0]["start"]))


def _grouped(segments: Sequence[Mapping[str, Any]], size: int) -> Iterator[tuple[Word, bool]]:
    """All words, and whether each is the first of a group of ``size`` in its segment."""
    for segment in segments:
        for index, word in enumerate(segment["words"]):
            yield word, index % size == 0


def _highlighted(words: Sequence[Word], clock: Callable[[float], str]) -> Iterator[Cue]:
    """One cue a word with that word underlined, and plain ones for the time between."""
    texts = [word["word"] for word in words]
    shown = clock(words[0]["start"])
    for index, word in enumerate(words):
        start, end = clock(word["start"]), clock(word["end"])
        if start != shown:
            yield shown, start, "".join(texts)
        marked = re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", texts[index])
        yield start, end, "".join([*texts[:index], marked, *texts[index + 1 :]])
        shown = end
