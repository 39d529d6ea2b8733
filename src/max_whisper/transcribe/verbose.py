"""What ``transcribe(verbose=...)`` shows, for those who call it as openai-whisper's.

The command has its own display; a library call shows nothing unless it is asked to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from max_whisper.transcribe.segments import Event, Language, Progress, Segment

Tell = Callable[[Event], None]


@contextmanager
def reporter(verbose: bool | None) -> Iterator[Tell]:
    """Something to tell events to: True shows language and segments, False language and progress."""
    if verbose is None:
        yield lambda event: None
    elif verbose:
        yield _write_line
    else:
        from rich.progress import Progress as Bar

        with Bar(transient=True) as bar:
            task = bar.add_task("transcribing", total=None)

            def tell(event: Event) -> None:
                if isinstance(event, Progress):
                    bar.update(task, completed=event.done, total=event.total)
                elif isinstance(event, Language):
                    bar.console.print(language_line(event))

            yield tell


def _write_line(event: Event) -> None:
    from max_whisper.writers import format_timestamp

    if isinstance(event, Segment):
        start, end = format_timestamp(event.start), format_timestamp(event.end)
        sys.stdout.write(f"[{start} --> {end}] {event.line}\n")
        sys.stdout.flush()
    elif isinstance(event, Language):
        sys.stdout.write(f"{language_line(event)}\n")


def language_line(event: Language) -> str:
    """What is shown of a language that was detected."""
    from max_whisper.tokenizer import LANGUAGES

    of = "" if event.speaker is None else f" of {event.speaker}"
    return f"Detected language{of}: {LANGUAGES[event.code].title()}"
