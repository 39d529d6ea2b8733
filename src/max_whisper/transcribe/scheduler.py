"""Runs many recordings, or windows, over one runtime: each pass of the decoder serves them all.

A job is a generator that yields requests (:mod:`max_whisper.decoding.requests`) and, between them,
events: anything that is not a request, for whoever started the job. The scheduler answers requests
one round after the other. What a job gets does not depend on the company it runs in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.requests import (
    Acquire,
    Align,
    Attend,
    Encode,
    Features,
    Fork,
    Forward,
    GoOn,
    Release,
    Request,
)
from max_whisper.decoding.runtime import ALL, Batch, Beams, Candidates, Constraint, Ran, Run, Runtime

Result = TypeVar("Result")


class Job(Generic[Result]):
    """A generator on its way.

    Attributes:
        events: What it has yielded and nobody has taken yet, oldest first.
        done: Whether it has ended.
        error: What ended it, unless it returned.
    """

    def __init__(self, generator: Generator[Any, Any, Result], rows: int) -> None:
        self.events: deque[Any] = deque()
        self.done = False
        self.error: BaseException | None = None
        self._generator = generator
        self._result: Result | None = None
        self._most_rows = rows
        self._request: Request | None = None
        self._rows: set[int] = set()
        self._windows: set[int] = set()

    def result(self) -> Result:
        """What the generator returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        if not self.done:
            raise RuntimeError("the job has not ended")
        return self._result  # type: ignore[return-value]

    def _advance(self, resume: Callable[[], Any]) -> None:
        """Resumes the generator, and lets it run to its next request or its end."""
        self._request = None
        try:
            item = resume()
            while not isinstance(item, Request):
                self.events.append(item)
                item = next(self._generator)
            self._request = item
        except StopIteration as stop:
            self.done, self._result = True, stop.value
        except BaseException as error:
            self.done, self.error = True, error
            if not isinstance(error, Exception):
                raise


@dataclass
class _Part:
    """The candidates of one request, out of a pass that it shared."""

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    watched: NDArray[np.float32]
    whole: Candidates
    outputs: slice
    inputs: slice

    def logits(self) -> NDArray[np.float32]:
        return self.whole.logits()[self.outputs]

    def queries(self, tokens: slice = ALL) -> NDArray[np.float32]:
        own = range(self.inputs.start, self.inputs.stop)[tokens]
        return self.whole.queries(slice(own.start, own.stop))


class Scheduler:
    """Answers the requests of all its jobs, one round at a time; not thread-safe by itself.

    A job takes its window first and rows after it, rows all at once, and returns rows before it
    asks for more: so a job that waits holds nothing that another one waits for in a circle.

    Args:
        runtime: The model. The scheduler must be its only caller.
        rows: How many cache rows to begin with.
        windows: How many windows may be encoded at once to begin with.
    """

    def __init__(self, runtime: Runtime, rows: int = 1, windows: int = 1) -> None:
        self.runtime = runtime
        self._jobs: list[Job[Any]] = []
        self._rows = self._windows = 0
        self._wanted = (rows, windows)
        self._free_rows: list[int] = []
        self._free_windows: list[int] = []
        self._rows_short = False
        self._sources = np.empty((0, runtime.dims.n_text_ctx), np.int32)

    def reserve(self, rows: int, windows: int) -> None:
        """Makes room for so many rows and windows, once the windows now in use are done with."""
        self._wanted = (max(self._wanted[0], rows), max(self._wanted[1], windows))

    def submit(self, generator: Generator[Any, Any, Result], rows: int = 1) -> Job[Result]:
        """Takes a generator on, after those that are there.

        Args:
            generator: Yields requests and events.
            rows: The most cache rows that it will hold at once.
        """
        job = Job(generator, rows)
        self.reserve(rows, 1)
        self._jobs.append(job)
        return job

    def cancel(self, job: Job[Any]) -> None:
        """Ends a job wherever it is, and frees what it holds."""
        if not job.done:
            job.done, job.error, job._request = True, RuntimeError("the job was cancelled"), None
            job._generator.close()
        self._retire(job)

    def step(self) -> bool:
        """One round: every job gets as far as its next pass, and the passes are run as one.

        Returns:
            Whether any job is left.
        """
        if self._wanted != (self._rows, self._windows):
            self._grow()
        self._rows_short = False
        moved = self._serve_all(self._jobs)
        # Where no token is chosen, less is computed: that must not hang on who else is there.
        passing = _grouped(self._jobs, Forward, lambda request: request.k == 0)
        for together in passing:
            self._pass(together, self._forward)
            self._serve_all(together)  # those that have begun go on with those that are on their way
        running = _grouped(self._jobs, GoOn, lambda request: request.k)
        for together in running:
            self._pass(together, self._run)
            self._serve_all(together)  # those that end make room before the others go on
        if passing or running:
            return True
        if self._jobs and not moved and not self._may_grow():
            self._fail(self._jobs, RuntimeError("no job can go on: each waits for what another one holds"))
        return bool(self._jobs)

    def _serve_all(self, jobs: Sequence[Job[Any]]) -> bool:
        """Answers jobs until they want a pass or have to wait; returns whether any got on."""
        moved = False
        for job in list(jobs):
            moved = self._serve(job) or moved
            if job.done:
                self._retire(job)
        return moved

    def _serve(self, job: Job[Any]) -> bool:
        """Answers a job until it wants a pass or has to wait; returns whether it got on."""
        moved = False
        if job._request is None and not job.done:
            job._advance(partial(next, job._generator))
            moved = True
        while (request := job._request) is not None and not isinstance(request, (Forward, GoOn)):
            try:
                ready, answer = self._answer(job, request)
            except Exception as error:
                self._fail([job], error)
                return True
            if not ready:
                break
            job._advance(partial(job._generator.send, answer))
            moved = True
        return moved

    def _answer(self, job: Job[Any], request: Request) -> tuple[bool, Any]:
        """Whether a request can be answered now, and the answer."""
        if isinstance(request, Fork):
            past = self._sources[list(request.parents), : request.length]
            self._sources[list(request.rows), : request.length] = past
            return True, None
        if isinstance(request, Acquire):
            return self._acquire(job, request.rows)
        if isinstance(request, Release):
            self._release(job, request.rows, () if request.window is None else (request.window,))
            return True, None
        if isinstance(request, (Encode, Attend)):
            if not self._free_windows or self._wanted != (self._rows, self._windows):
                return False, None
            window = self._free_windows[0]
            if isinstance(request, Encode):
                self.runtime.encode(request.mel, window)
            else:
                self.runtime.attend(request.features, window)
            job._windows.add(self._free_windows.pop(0))
            return True, window
        if isinstance(request, Features):
            return True, self.runtime.features(request.window)
        if isinstance(request, Align):
            return True, self.runtime.alignment(
                request.queries, request.heads, request.window, request.positions, request.wanted
            )
        raise TypeError(f"{type(request).__name__} is no request that the scheduler knows")

    def _acquire(self, job: Job[Any], count: int) -> tuple[bool, Any]:
        """Hands out rows, the oldest job first: nobody overtakes one that waits for many."""
        if len(job._rows) + count > job._most_rows:
            raise RuntimeError(f"a job of {job._most_rows} rows asks for {len(job._rows) + count}")
        self._rows_short = self._rows_short or count > len(self._free_rows)
        if self._rows_short:
            return False, None
        rows = tuple(self._free_rows[:count])
        del self._free_rows[:count]
        job._rows.update(rows)
        for row in rows:
            self._sources[row] = row
        return True, rows

    def _release(self, job: Job[Any], rows: Iterable[int], windows: Iterable[int]) -> None:
        for row in tuple(rows):
            job._rows.remove(row)
            self._free_rows.append(row)
        for window in tuple(windows):
            job._windows.remove(window)
            self._free_windows.append(window)
        self._free_rows.sort()
        self._free_windows.sort()

    def _retire(self, job: Job[Any]) -> None:
        self._release(job, job._rows, job._windows)
        if job in self._jobs:
            self._jobs.remove(job)

    def _fail(self, jobs: Sequence[Job[Any]], error: Exception) -> None:
        """Raises an error where the jobs' generators stand, and lets them end."""
        for job in list(jobs):
            job._advance(partial(job._generator.throw, error))
            if job.done:
                self._retire(job)

    def _pass(self, jobs: Sequence[Job[Any]], answer: Callable[[Any], Sequence[Any]]) -> None:
        """Answers some jobs together; where that fails, each alone, so that one fails alone."""
        try:
            answers = answer([job._request for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                self._fail(jobs, error)
            else:
                for job in jobs:
                    self._pass([job], answer)
            return
        for job, found in zip(jobs, answers):
            job._advance(partial(job._generator.send, found))
            if job.done:
                self._retire(job)

    def _forward(self, requests: Sequence[Forward]) -> Sequence[Candidates]:
        tokens: list[int] = []
        rows: list[int] = []
        positions: list[int] = []
        windows: list[int] = []
        outputs: list[int] = []
        constraints: list[Constraint] = []
        parts: list[tuple[slice, slice, int]] = []  # outputs, inputs, k
        for request in requests:
            before, asked = len(tokens), len(outputs)
            tokens.extend(request.tokens)
            rows.extend(request.rows)
            positions.extend(request.positions)
            windows.extend([request.window] * len(request.tokens))
            outputs.extend([before + output for output in request.outputs])
            constraints.extend(request.constraints)
            parts.append((slice(asked, len(outputs)), slice(before, len(tokens)), request.k))
        found = self.runtime.forward(
            Batch(
                np.array(tokens, np.int32),
                np.array(rows, np.int32),
                np.array(positions, np.int32),
                np.array(windows, np.int32),
                self._sources,
                np.array(outputs, np.int32),
                constraints,
                max(request.k for request in requests),
                any(request.logits for request in requests),
            )
        )
        if len(requests) == 1:
            return [found]
        return [
            _Part(found.tokens[o, :k], found.logprobs[o, :k], found.watched[o], found, o, i)
            for o, i, k in parts
        ]

    def _run(self, requests: Sequence[GoOn]) -> Sequence[Ran]:
        steps = min(request.seeds.shape[1] for request in requests)
        counts = [len(request.rows) for request in requests]
        ran = self.runtime.run(
            Run(
                [standing for request in requests for standing in request.standings],
                np.array([row for request in requests for row in request.rows], np.int32),
                np.repeat(np.array([request.position for request in requests], np.int32), counts),
                np.repeat(np.array([request.window for request in requests], np.int32), counts),
                self._sources,
                [request.plan for request, count in zip(requests, counts) for _ in range(count)],
                np.concatenate([request.seeds[:, :steps] for request in requests]),
                requests[0].eot,  # a model has one
                _all_beams([request.beams for request in requests]),
            )
        )
        ends = np.cumsum(counts).tolist()
        parts = [slice(end - count, end) for end, count in zip(ends, counts)]
        return [Ran(ran.tokens[:, own], ran.logprobs[:, own], ran.queries[:, :, own]) for own in parts]

    def _may_grow(self) -> bool:
        """Whether more room is wanted and no window is in use."""
        return self._wanted != (self._rows, self._windows) and len(self._free_windows) == self._windows

    def _grow(self) -> None:
        if not self._may_grow():
            return
        rows, windows = self._wanted
        self.runtime.reserve(rows, windows)
        self._rows, self._windows = rows, windows
        self._free_rows, self._free_windows = list(range(rows)), list(range(windows))
        identity = np.arange(rows, dtype=np.int32)[:, None]
        self._sources = np.repeat(identity, self.runtime.dims.n_text_ctx, axis=1)


def _grouped(
    jobs: Sequence[Job[Any]], kind: type[Any], key: Callable[[Any], Any]
) -> Sequence[Sequence[Job[Any]]]:
    """The jobs whose requests are of a kind, those of one key together."""
    groups: dict[Any, list[Job[Any]]] = {}
    for job in jobs:
        if isinstance(job._request, kind):
            groups.setdefault(key(job._request), []).append(job)
    return list(groups.values())


def _all_beams(parts: Sequence[Beams | None]) -> Beams | None:
    """The beams of several searches of one size."""
    beams = [part for part in parts if part is not None]
    if not beams:
        return None
    sums = np.concatenate([part.sums for part in beams])
    return Beams(beams[0].size, sums, np.concatenate([part.wanted for part in beams]))
