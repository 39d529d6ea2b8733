"""What a run of steps means, one pass after the other.

This is the specification that a runtime's kernel is held to; runtimes without a kernel of their
own go this way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.rules import timestamp_bounds
from max_whisper.decoding.runtime import (
    NEVER,
    Batch,
    Beams,
    Candidates,
    Constraint,
    Plan,
    Ran,
    Run,
    Standing,
)
from max_whisper.decoding.search import best_continuations, place


def run_by_passes(forward: Callable[[Batch], Candidates], run: Run) -> Ran:
    """Takes the steps of a run by passes of the decoder."""
    count = len(run.standings)
    going = _Sequences(run) if run.beams is None else _Beams(run, run.beams)
    tokens, logprobs, queries = [], [], []
    for step in range(run.seeds.shape[1]):
        found = forward(
            Batch(
                np.array([standing.last for standing in going.standings], np.int32),
                going.rows,
                run.positions + np.int32(step),
                run.windows,
                going.sources,
                np.arange(count, dtype=np.int32),
                [
                    constraint(plan, standing, run.eot, int(seed))
                    for plan, standing, seed in zip(run.plans, going.standings, run.seeds[:, step])
                ],
                run.k,
            )
        )
        tokens.append(found.tokens)
        logprobs.append(found.logprobs)
        queries.append(found.queries())
        if going.take(found.tokens, found.logprobs, step):
            break
    return Ran(np.stack(tokens), np.stack(logprobs), np.stack(queries, axis=1))


class _Sequences:
    """The sequences of a run, each going on by itself."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.standings = list(run.standings)
        self.rows = run.rows
        self.sources = run.sources

    def take(self, tokens: NDArray[np.int32], logprobs: NDArray[np.float32], step: int) -> bool:
        """Goes on with the best candidates; returns whether a sequence has ended."""
        self.standings = [
            standing.advance(int(token), plan.timestamp_begin)
            for standing, token, plan in zip(self.standings, tokens[:, 0], self.run.plans)
        ]
        return self.run.eot in tokens[:, 0]


class _Beams(_Sequences):
    """The beams of the searches of a run."""

    def __init__(self, run: Run, beams: Beams) -> None:
        super().__init__(run)
        self.size = beams.size
        self.rows, self.sources = run.rows.copy(), run.sources.copy()
        self.sums, self.wanted = beams.sums.copy(), beams.wanted.copy()

    def take(self, tokens: NDArray[np.int32], logprobs: NDArray[np.float32], step: int) -> bool:
        """Goes on with each search's best continuations; returns whether a search is done."""
        for search, first in enumerate(range(0, len(self.rows), self.size)):
            own = slice(first, first + self.size)
            kept, ended = best_continuations(
                self.sums[own], tokens[own], logprobs[own], self.size, self.wanted[search], self.run.eot
            )
            self.wanted[search] -= len(ended)
            self.sums[own] = [one.score for one in kept]
            begin = self.run.plans[first].timestamp_begin
            parents = [first + one.parent for one in kept]
            self.standings[own] = [
                self.standings[parent].advance(one.token, begin) for parent, one in zip(parents, kept)
            ]
            length = self.run.positions[first] + step + 1
            self.rows[own], moved = place(self.rows[parents].tolist(), sorted(self.rows[own].tolist()))
            for row, parent in moved:
                self.sources[row, :length] = self.sources[parent, :length]
        return bool((self.wanted <= 0).any())


def constraint(plan: Plan, standing: Standing, eot: int, seed: int) -> Constraint:
    """What the next token of a sequence may be."""
    narrowed = Constraint(suppressed=plan.suppressed, temperature=plan.temperature, seed=seed)
    if plan.timestamp_begin == NEVER:
        return narrowed
    return narrowed.within(plan.timestamp_begin, *timestamp_bounds(plan.timestamp_begin, eot, standing))
