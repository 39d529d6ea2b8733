"""What a run of steps means, one pass after the other.

This is the specification that a runtime's kernel is held to; runtimes without a kernel of their
own go this way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from max_whisper.decoding.rules import timestamp_bounds
from max_whisper.decoding.runtime import NEVER, Batch, Candidates, Constraint, Plan, Ran, Run, Standing


def run_by_passes(forward: Callable[[Batch], Candidates], run: Run) -> Ran:
    """Takes the steps of a run by passes of the decoder."""
    count = len(run.standings)
    standings = list(run.standings)
    tokens, logprobs, queries = [], [], []
    for step in range(run.seeds.shape[1]):
        found = forward(
            Batch(
                np.array([standing.last for standing in standings], np.int32),
                run.rows,
                run.positions + np.int32(step),
                run.windows,
                run.sources,
                np.arange(count, dtype=np.int32),
                [
                    constraint(plan, standing, run.eot, int(seed))
                    for plan, standing, seed in zip(run.plans, standings, run.seeds[:, step])
                ],
            )
        )
        chosen = found.tokens[:, 0]
        tokens.append(chosen)
        logprobs.append(found.logprobs[:, 0])
        queries.append(found.queries())
        standings = [
            standing.advance(int(token), plan.timestamp_begin)
            for standing, token, plan in zip(standings, chosen, run.plans)
        ]
        if run.eot in chosen:
            break
    return Ran(np.stack(tokens), np.stack(logprobs), np.stack(queries, axis=1))


def constraint(plan: Plan, standing: Standing, eot: int, seed: int) -> Constraint:
    """What the next token of a sequence may be."""
    narrowed = Constraint(suppressed=plan.suppressed, temperature=plan.temperature, seed=seed)
    if plan.timestamp_begin == NEVER:
        return narrowed
    return narrowed.within(plan.timestamp_begin, *timestamp_bounds(plan.timestamp_begin, eot, standing))
