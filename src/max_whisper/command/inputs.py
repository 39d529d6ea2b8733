"""What the command is given: files, directories, standard input; and what each output is called."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from max_whisper.errors import AudioError

STDIN = "-"

# What is taken from a directory; a file that is named is tried whatever it is called.
_SUFFIXES = """
    3gp aac ac3 aif aiff alac amr ape au avi caf dts flac flv m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg
    mpg mts mxf oga ogg ogv opus ra rm spx tta vob w64 wav webm wma wmv wv
"""
MEDIA_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())


@dataclass(frozen=True)
class Recording:
    """One input.

    Attributes:
        source: A path or URL, or ``-``.
        stem: The name of its outputs, without a suffix.
        stem_taken_by: The input that has the name it would have had, if there is one.
    """

    source: str
    stem: str
    stem_taken_by: str | None = None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "standard input" if self.source == STDIN else self.source

    def read(self) -> str | bytes:
        """What :func:`max_whisper.load_audio` takes; standard input is read whole.

        Raises:
            AudioError: Standard input is a terminal, or empty.
        """
        if self.source != STDIN:
            return self.source
        if sys.stdin.isatty():
            raise AudioError("standard input is a terminal; send a recording through a pipe")
        content = sys.stdin.buffer.read()
        if not content:
            raise AudioError("standard input is empty")
        return content


def recordings(arguments: Sequence[str]) -> tuple[list[Recording], list[str]]:
    """What is to be transcribed, each once, and under names that differ.

    Args:
        arguments: Paths, URLs, directories, ``-``.

    Returns:
        The recordings, in the order given; directories' in the order of their names. And a
        message for each argument that leads to none, so that it is known before a model is loaded.
    """
    sources: dict[str, str] = {}
    failures = []
    for argument in arguments:
        if not _is_remote(argument) and not Path(argument).exists():
            failures.append(f"{argument}: no such file")
            continue
        found = list(_found(argument))
        if not found:
            failures.append(f"{argument}: the directory has no recordings")
        for source in found:
            sources.setdefault(_identity(source), source)
    return _named(list(sources.values())), failures


def _is_remote(argument: str) -> bool:
    return argument == STDIN or "://" in argument


def _found(argument: str) -> Iterator[str]:
    if argument == STDIN or not Path(argument).is_dir():
        yield argument
        return
    for folder, folders, files in os.walk(argument):
        folders.sort()
        for file in sorted(files):
            if Path(file).suffix.lower() in MEDIA_SUFFIXES and not file.startswith("."):
                yield str(Path(folder) / file)


def _identity(source: str) -> str:
    return source if _is_remote(source) else str(Path(source).resolve())


def _named(sources: Sequence[str]) -> list[Recording]:
    """Gives the first of equal names the plain one and the others numbers."""
    stems = ["stdin" if source == STDIN else Path(source).stem for source in sources]
    taken: dict[str, str] = {}
    plain = Counter(stems)
    named = []
    for source, stem in zip(sources, stems):
        free, number = stem, 1
        while free in taken or (number > 1 and free in plain):
            number += 1
            free = f"{stem}-{number}"
        named.append(Recording(source, free, taken.get(stem)))
        taken[free] = source
    return named
