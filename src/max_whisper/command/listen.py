"""``max-whisper listen``: agreed words as they come, and the transcript in the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from max_whisper.audio import SAMPLE_RATE, stream_audio
from max_whisper.command.display import Display
from max_whisper.command.inputs import STDIN
from max_whisper.command.sources import (
    InputFormat,
    Pump,
    Samples,
    from_microphone,
    from_standard_input,
)
from max_whisper.errors import OptionError
from max_whisper.transcribe.live import Agreed, LiveEvent, StreamingTranscriber, Tail
from max_whisper.transcribe.segments import Language, Segment, Transcript

MICROPHONE = "microphone"


class Source:
    """What is listened to.

    Args:
        given: ``microphone``, ``-``, a path or an address; None is standard input if that is no
            terminal, and the microphone otherwise.
        device: Which microphone.
        format: Of standard input.

    Raises:
        OptionError: Something is given that has no effect on this source.

    Attributes:
        stem: The name of the files that are written. A microphone's has the time in it, for what was
            said into it cannot be had again.
    """

    def __init__(self, given: str | None, device: str | None, format: InputFormat) -> None:
        if given is None:
            given = MICROPHONE if sys.stdin.isatty() else STDIN
        self._given, self._device, self._format = given, device, format
        self.is_microphone = given == MICROPHONE
        if device is not None and not self.is_microphone:
            raise OptionError(f"--microphone has no effect where {given} is listened to")
        if format != InputFormat() and given != STDIN:
            raise OptionError("--input_format, --sample_rate and --channels are for standard input")
        if self.is_microphone:
            self.stem = f"{MICROPHONE}-{datetime.now():%Y%m%d-%H%M%S}"
        else:
            self.stem = "stdin" if given == STDIN else Path(given).stem

    def pieces(self) -> Iterator[Samples]:
        """Its samples, as they come."""
        if self.is_microphone:
            return from_microphone(self._device)
        if self._given == STDIN:
            return from_standard_input(self._format)
        return stream_audio(self._given)


def listen(source: Source, transcriber: StreamingTranscriber, show: LiveDisplay) -> tuple[Transcript, int]:
    """Listens until the source ends or a signal comes.

    Returns:
        The transcript of all that was agreed, and the signal's number, or 0.

    Raises:
        MaxWhisperError: The source could not be read at all.
    """
    segments: list[Segment] = []

    def tell(events: list[LiveEvent]) -> None:
        for event in events:
            show.tell(event)
            if isinstance(event, Segment):
                segments.append(event)

    pump = Pump(source.pieces(), loses=source.is_microphone)
    with _signals() as received:
        try:
            _follow(pump, transcriber, tell, received)
        except KeyboardInterrupt:
            pass  # the second signal: no time for what is not agreed
        finally:
            show.end()
            pump.stop()
    if pump.lost:
        Display.note(f"warning: {pump.lost / SAMPLE_RATE:.1f} s were lost: the model is too slow here")
    text = "".join(segment.text for segment in segments)
    number = received[0] if received else 0
    return Transcript(text, tuple(segments), transcriber.language), number


def _follow(pump: Pump, transcriber: StreamingTranscriber, tell: Any, received: list[int]) -> None:
    heard = False
    try:
        while not received:
            samples = pump.take(0.2)
            if samples is None:
                break
            heard = heard or bool(samples.size)
            tell(transcriber.feed(samples))
    except Exception as error:
        if not heard:
            raise
        # What was said before is not to be lost with the source.
        Display.note(f"warning: the input broke off: {error}")
    if received:
        Display.note("stopping; once more to stop at once")
        pump.stop()
        rest = pump.take(0)
        if rest is not None:
            tell(transcriber.feed(rest))
    tell(transcriber.finish())


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Notes the first signal to end, and lets the second interrupt."""
    received: list[int] = []

    def note(number: int, _: Any) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LiveDisplay:
    """Shows agreed words once, a line a segment; on a terminal, what is not agreed behind them.

    Args:
        verbose: Whether to show anything.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._column = 0
        self._tail = False

    def tell(self, event: LiveEvent) -> None:
        """Something has been heard."""
        if not self._verbose:
            return
        if isinstance(event, Agreed):
            for word in event.words:
                self._word(word.word)
        elif isinstance(event, Segment):
            self._new_line()
        elif isinstance(event, Tail) and self._terminal:
            self._show_tail(event.text)
        elif isinstance(event, Language):
            Display.note(f"detected language: {event.code}")

    def end(self) -> None:
        """Leaves the line."""
        if self._column or self._tail:
            self._new_line()

    def _word(self, text: str) -> None:
        from rich.cells import cell_len

        if self._terminal and self._column and self._column + cell_len(text) >= _width():
            self._new_line()
        text = text if self._column else text.lstrip()
        self._write(text)
        self._column += cell_len(text)

    def _new_line(self) -> None:
        self._write("\n")
        self._column = 0

    def _show_tail(self, text: str) -> None:
        """Writes a tail as far as the line has room, and goes back to where it begins."""
        from rich.cells import cell_len, set_cell_size

        room = _width() - 1 - self._column
        text = text if self._column else text.lstrip()
        if cell_len(text) > room:
            text = set_cell_size(text, max(room - 1, 0)) + "…" if room > 0 else ""
        length = cell_len(text)
        self._write(f"\x1b[2m{text}\x1b[0m\x1b[{length}D" if length else "")
        self._tail = bool(length)

    def _write(self, text: str) -> None:
        if self._tail:
            text = f"\x1b[K{text}"
            self._tail = False
        if text:
            Display.write(text)


def _width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size().columns
