"""What the command shows while it works.

Segments go to standard output. Everything else goes to standard error: bars if that is a
terminal, otherwise no more than a line before what takes minutes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from max_whisper.errors import OutputError
from max_whisper.transcribe.segments import Event, Language, Progress, Segment, Transcript
from max_whisper.transcribe.verbose import language_line
from max_whisper.writers import format_timestamp

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_FEW = 1000  # a total below this counts things, one above it bytes


class Display:
    """Shows the progress of a run.

    Args:
        verbose: Whether to print segments.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._announced: set[str] = set()

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """While a model is loaded: :meth:`prepared` may be called in it."""
        try:
            yield
        finally:
            self._stop()

    def prepared(self, name: str, done: int, total: int | None) -> None:
        """A download or compilation has come so far; see :class:`max_whisper.checkpoints.Progress`."""
        if not sys.stderr.isatty():
            if name not in self._announced:
                self._announced.add(name)
                self.note(name)
            return
        bars = self._start(counting=total is not None and total < _FEW)
        if name not in self._tasks:
            self._tasks[name] = bars.add_task(name, total=total)
        bars.update(self._tasks[name], completed=done, total=total)

    @contextmanager
    def recording(self, name: str) -> Iterator[None]:
        """While a recording is transcribed: :meth:`tell` may be called in it."""
        if sys.stderr.isatty():
            self._tasks[""] = self._start(counting=None).add_task(_shortened(name), total=None)
        try:
            yield
        finally:
            self._stop()

    def follow(self, events: Generator[Event, None, Transcript]) -> Transcript:
        """Shows what comes out of the recording, to its end; returns the transcript."""
        while True:
            try:
                self.tell(next(events))
            except StopIteration as end:
                transcript: Transcript = end.value
                return transcript

    def tell(self, event: Event) -> None:
        """Something has come out of the recording."""
        if isinstance(event, Progress):
            if self._bars is not None:
                self._bars.update(self._tasks[""], completed=event.done, total=event.total)
        elif self._verbose and isinstance(event, Segment) and event.text:
            start, end = format_timestamp(event.start), format_timestamp(event.end)
            self.line(f"[{start} --> {end}] {event.line}")
        elif self._verbose and isinstance(event, Language):
            self.line(language_line(event))

    @staticmethod
    def line(text: str) -> None:
        """A line of the result, on standard output; errors as :meth:`write`'s."""
        Display.write(f"{text}\n")

    @staticmethod
    def write(text: str) -> None:
        """A piece of the result, on standard output.

        Raises:
            BrokenPipeError: Its reader has gone.
            OutputError: It cannot be written.
        """
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            # What Python has kept of it would be tried once more at exit, and fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(f"cannot write to standard output: {error.strerror}") from error

    @staticmethod
    def note(text: str) -> None:
        """A line about the run, on standard error."""
        sys.stderr.write(f"max-whisper: {text}\n")
        sys.stderr.flush()

    def _start(self, counting: bool | None) -> Bars:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import Progress as Bars

            # While bars are shown, rich takes what is printed and sets it above them; a pipe must
            # get it as it is.
            self._bars = Bars(
                *_columns(counting),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bars.start()
        return self._bars

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = None
        self._tasks = {}


def _columns(counting: bool | None) -> list[Any]:
    """What stands in a bar: of counts, of bytes, or (None) of a recording."""
    from rich import progress

    name, bar = progress.TextColumn("{task.description}", markup=False), progress.BarColumn()
    if counting is None:
        return [name, bar, progress.TaskProgressColumn(), progress.TimeRemainingColumn()]
    amount = progress.MofNCompleteColumn() if counting else progress.DownloadColumn()
    return [name, bar, amount, progress.TimeElapsedColumn()]


def _shortened(name: str, width: int = 40) -> str:
    return name if len(name) <= width else f"...{name[3 - width :]}"
