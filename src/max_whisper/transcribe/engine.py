"""One runtime for everybody: a scheduler that any number of threads may use.

Whoever waits for a result drives the scheduler, round by round, and every round moves everybody's
jobs. Threads that transcribe at the same time therefore share the decoder's passes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from max_whisper.decoding.runtime import Runtime
from max_whisper.errors import StoppedError
from max_whisper.transcribe.scheduler import Job, Scheduler

Result = TypeVar("Result")

#: Any thread may set it, to end a transcription.
Stop = threading.Event

_STOPPED = "the transcription was stopped"

#: How many windows of one call are worked on at once; what they take stays reserved.
_AT_ONCE = 8

#: A generator of requests and events, see :mod:`max_whisper.transcribe.scheduler`.
Work = Generator[Any, Any, Result]


class Engine:
    """Runs generators of requests and events over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._scheduler = Scheduler(runtime)
        self._lock = threading.Lock()
        #: Jobs that nobody waits for any more, to be cancelled by whoever has the lock.
        self._left: deque[Job[Any]] = deque()

    def run(self, work: Work[Result], rows: int = 1) -> Result:
        """Runs one generator to its end, and returns what it returns or raises what it raises."""
        return self.run_all([work], rows)[0]

    def run_all(self, works: Sequence[Work[Result]], rows: int = 1) -> list[Result]:
        """Runs generators side by side to their ends; raises the first error, in their order.

        Args:
            works: The generators.
            rows: The most cache rows that each holds at once.
        """
        jobs: list[Job[Result]] = []
        try:
            with self._lock:
                at_once = min(len(works), _AT_ONCE)
                self._scheduler.reserve(rows * at_once, at_once)
                jobs += [self._scheduler.submit(work, rows) for work in works]
            self._drive(lambda: all(job.done for job in jobs))
            return [job.result() for job in jobs]
        finally:
            self._cancel(jobs)

    def events(
        self, work: Work[Result], rows: int = 1, stop: Stop | None = None
    ) -> Generator[Any, None, Result]:
        """Yields the events of one generator as they come, and returns its result.

        Work goes on while someone asks for the next event; closing this generator ends it.

        Args:
            work: The generator.
            rows: The most cache rows that it holds at once.
            stop: Any thread may set it: the work then ends after the pass that it is in.

        Raises:
            StoppedError: ``stop`` was set.
        """
        with self._lock:
            job = self._scheduler.submit(work, rows)
        try:
            while True:
                self._drive(lambda: bool(job.events) or job.done or _is_set(stop))
                if _is_set(stop) and not job.done:
                    raise StoppedError(_STOPPED)
                while job.events:
                    yield job.events.popleft()
                if job.done and not job.events:
                    return job.result()
        finally:
            self._cancel([job])

    def events_of_many(
        self, starts: Iterable[Callable[[], Work[Result]]], rows: int, at_once: int, stop: Stop | None = None
    ) -> Generator[tuple[int, Any], None, None]:
        """Runs many generators, some at a time, and yields (number, event) as events come.

        The last that is heard of each is its result, or the exception that ended it; the others
        go on.

        Args:
            starts: Each makes one generator, when there is room for it.
            rows: The most cache rows that each holds at once.
            at_once: How many may be on their way at once.
            stop: As for :meth:`events`.

        Raises:
            StoppedError: ``stop`` was set.
        """
        with self._lock:
            self._scheduler.reserve(rows * at_once, at_once)
        waiting = iter(enumerate(starts))
        jobs: dict[int, Job[Result]] = {}
        more = True
        try:
            while more or jobs:
                while more and len(jobs) < at_once:
                    number, start = next(waiting, (-1, None))
                    if start is None:
                        more = False
                        break
                    try:
                        work = start()
                    except Exception as error:
                        yield number, error
                        continue
                    with self._lock:
                        jobs[number] = self._scheduler.submit(work, rows)
                if jobs:
                    self._drive(lambda: any(job.events or job.done for job in jobs.values()) or _is_set(stop))
                if _is_set(stop) and (more or not all(job.done for job in jobs.values())):
                    raise StoppedError(_STOPPED)
                for number, job in list(jobs.items()):
                    while job.events:
                        yield number, job.events.popleft()
                    if job.done:
                        del jobs[number]
                        yield number, job.error if job.error is not None else job.result()
        finally:
            self._cancel(list(jobs.values()))

    def _drive(self, ready: Callable[[], bool]) -> None:
        while True:
            with self._lock:
                self._cancel_left()
                if ready():
                    return
                self._scheduler.step()

    def _cancel(self, jobs: Sequence[Job[Any]]) -> None:
        # The garbage collector may close a generator anywhere, also where this very thread has the
        # lock: to wait for it could be to wait for ever.
        self._left.extend(jobs)
        if self._lock.acquire(blocking=False):
            try:
                self._cancel_left()
            finally:
                self._lock.release()

    def _cancel_left(self) -> None:
        while self._left:
            self._scheduler.cancel(self._left.popleft())


def _is_set(stop: Stop | None) -> bool:
    return stop is not None and stop.is_set()
