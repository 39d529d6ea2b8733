"""Constraints as the arrays that the candidates' kernel reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.runtime import Constraint, TokenSet

Ints = NDArray[np.int32]


class ConstraintArrays:
    """Turns constraints into arrays, remembering the sets that come back at every step."""

    def __init__(self) -> None:
        self._sets: dict[int, tuple[TokenSet, Ints]] = {}

    def fill(self, constraints: Sequence[Constraint]) -> tuple[Ints, Ints, Ints, NDArray[np.float32]]:
        """limits (L, 9), forbidden (L, F), repeated (L, R) and numbers (L, 2).

        Ids that are not there are -1; F and R are at least 1.
        """
        limits = np.array([_limits(constraint) for constraint in constraints], np.int64)
        numbers = np.array([(c.temperature, c.repetition_penalty) for c in constraints], np.float32)
        return (
            limits.astype(np.uint32).view(np.int32),
            _pad([self._forbidden(constraint) for constraint in constraints]),
            _pad([_ids(constraint.repeated) for constraint in constraints]),
            numbers,
        )

    def suppressed(self, sets: Sequence[TokenSet]) -> Ints:
        """The ids of some sets, (L, F), -1 where there are fewer."""
        return _pad([self._set(tokens) for tokens in sets])

    def _forbidden(self, constraint: Constraint) -> Ints:
        suppressed = self._set(constraint.suppressed)
        if not constraint.banned:
            return suppressed
        return np.concatenate([suppressed, _ids(constraint.banned)])

    def _set(self, tokens: TokenSet) -> Ints:
        found = self._sets.get(id(tokens))
        if found is None:
            if len(self._sets) > 64:
                self._sets.clear()
            # The set itself is kept beside its array, so that its id stays its own.
            found = self._sets[id(tokens)] = (tokens, _ids(tokens.ids))
        return found[1]


def _limits(constraint: Constraint) -> tuple[int, ...]:
    return (
        constraint.first,
        constraint.timestamp_begin,
        constraint.timestamp_first,
        constraint.timestamp_stop,
        constraint.weigh_timestamps,
        constraint.watch & 0xFFFFFFFF,
        constraint.seed & 0xFFFFFFFF,
        (constraint.seed >> 32) & 0xFFFFFFFF,
        constraint.watch_stop,
    )


def _ids(ids: Sequence[int]) -> Ints:
    return np.array(ids, np.int32)


def _pad(rows: list[Ints]) -> Ints:
    if len(rows) == 1 and len(rows[0]):
        return rows[0][None]
    padded = np.full((len(rows), max(1, *(len(row) for row in rows)) if rows else 1), -1, np.int32)
    for target, row in zip(padded, rows):
        target[: len(row)] = row
    return padded
