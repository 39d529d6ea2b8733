"""Transcripts as files: plain text, subtitles, tables, JSON; the same bytes as openai-whisper's.

A result is a mapping as :meth:`max_whisper.Whisper.transcribe` returns it. Each format is a
function to the text of the file, from a result or from its subtitles; the file appears under its
name only when it is complete.
"""

from __future__ import annotations

import html
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from max_whisper.errors import MaxWhisperWarning, OptionError, OutputError
from max_whisper.subtitles import Cue, SubtitleLayout, highlighted, labelled, missed_limits, subtitle_cues
from max_whisper.subtitles.ass import to_ass

Result = Mapping[str, Any]


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


def to_txt(result: Result) -> str:
    """One line a segment."""
    return "".join(f"{_said(segment)}\n" for segment in result["segments"])


def to_tsv(result: Result) -> str:
    """A table of start and end in whole milliseconds, and text; of speakers, if there are any."""
    segments = result["segments"]
    spoken = any("speaker" in segment for segment in segments)
    rows = [["start", "end", "speaker", "text"]]
    for segment in segments:
        times = (str(round(1000 * segment[key])) for key in ("start", "end"))
        speaker = segment.get("speaker", "").replace("\t", " ")
        rows.append([*times, speaker, segment["text"].strip().replace("\t", " ")])
    kept = rows if spoken else [row[:2] + row[3:] for row in rows]
    return "".join("\t".join(row) + "\n" for row in kept)


def to_json(result: Result) -> str:
    """The whole result."""
    return json.dumps(result)


def to_vtt(cues: Sequence[Cue]) -> str:
    """WebVTT subtitles."""
    blocks = ["WEBVTT\n\n"]
    for cue in cues:
        # A name may have what would be a tag; the text stays as openai-whisper leaves it.
        voice = "" if cue.speaker is None else f"<v {html.escape(cue.speaker, quote=False)}>"
        times = f"{format_timestamp(cue.start)} --> {format_timestamp(cue.end)}"
        blocks.append(f"{times}\n{voice}{html.escape(cue.label, quote=False)}{_shown(cue)}\n\n")
    return "".join(blocks)


def to_srt(cues: Sequence[Cue]) -> str:
    """SubRip subtitles."""
    blocks = []
    for number, cue in enumerate(cues, 1):
        start, end = (format_timestamp(seconds, True, ",") for seconds in (cue.start, cue.end))
        blocks.append(f"{number}\n{start} --> {end}\n{cue.label}{_shown(cue)}\n\n")
    return "".join(blocks)


def _said(segment: Mapping[str, Any]) -> str:
    return labelled(segment.get("speaker"), segment["text"].strip())


def _shown(cue: Cue) -> str:
    """A subtitle's text without its speaker, the marked word underlined."""
    texts = [word["word"] for word in cue.words]
    if cue.marked is not None:
        texts[cue.marked] = re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", texts[cue.marked])
    return "".join(texts) or cue.plain


TEXTS: dict[str, Callable[[Result], str]] = {"txt": to_txt, "tsv": to_tsv, "json": to_json}
SUBTITLES: dict[str, Callable[[Sequence[Cue]], str]] = {"vtt": to_vtt, "srt": to_srt, "ass": to_ass}

#: What "all" stands for: openai-whisper's formats, in its order.
ALL = ("txt", "vtt", "srt", "tsv", "json")
FORMATS = (*ALL, "ass")


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
        """Writes one result to files of the given name, whatever the recording is called.

        Raises:
            OptionError: The layout is for subtitles, and there are none among the formats, or it
                needs the times of words, and the result has none.
            OutputError: A file cannot be written.

        Warns:
            MaxWhisperWarning: Some subtitles cannot keep to the layout's limits; they are written.
        """
        has_subtitles = not SUBTITLES.keys().isdisjoint(self.formats)
        if layout.needs_words and not has_subtitles:
            raise OptionError(
                f"clauses and times of subtitles have no effect on {', '.join(self.formats)}; "
                f"the formats with subtitles are {', '.join(SUBTITLES)}"
            )
        cues = subtitle_cues(result, layout) if has_subtitles else []
        for miss in missed_limits(cues, layout):
            warnings.warn(f"{stem}: {miss}", MaxWhisperWarning, stacklevel=2)
        if layout.highlight_words:
            cues = highlighted(cues)
        for name in self.formats:
            text = SUBTITLES[name](cues) if name in SUBTITLES else TEXTS[name](result)
            write_text(self.output_dir / f"{stem}.{name}", text)


def get_writer(output_format: str, output_dir: str | os.PathLike[str]) -> ResultWriter:
    """The writer of one format, or of ``all``: the five that openai-whisper has.

    Raises:
        OptionError: There is no such format.
    """
    if output_format != "all" and output_format not in FORMATS:
        raise OptionError(f"unknown output format {output_format!r}; choose from {', '.join(FORMATS)}, all")
    return ResultWriter(ALL if output_format == "all" else [output_format], output_dir)


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
