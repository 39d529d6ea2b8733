"""What decoding asks of the scheduler: the requests that its generators yield.

A generator of type :data:`Steps` yields a request, is sent the answer, and returns its result. It
never calls a runtime: that lets one recording, or hundreds, share each pass of the decoder.
Requests are told from anything else a generator may yield by their base class.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.runtime import Beams, Constraint, Plan, Standing

Result = TypeVar("Result")

#: A generator that yields requests, is sent their answers, and returns a result.
Steps = Generator["Request", Any, Result]


class Request:
    """Base of all requests."""


@dataclass(frozen=True, eq=False)
class Encode(Request):
    """Encode a log-mel window (n_mels, 2 * n_audio_ctx). Answer: the window's number."""

    mel: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Attend(Request):
    """Keep encoder output (n_audio_ctx, n_audio_state) as a window. Answer: its number."""

    features: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Features(Request):
    """Answer: the encoder output (n_audio_ctx, n_audio_state) of a window."""

    window: int


@dataclass(frozen=True, eq=False)
class Acquire(Request):
    """Take cache rows, all at once, waiting until they are free. Answer: a tuple of row numbers."""

    rows: int


@dataclass(frozen=True, eq=False)
class Release(Request):
    """Give rows, and perhaps a window, back. Answer: None.

    Whatever a generator still holds when it ends is given back for it, so only a generator that
    goes on needs to ask.
    """

    rows: tuple[int, ...] = ()
    window: int | None = None


@dataclass(frozen=True, eq=False)
class Fork(Request):
    """Let rows take over the past of other rows; nothing is copied. Answer: None.

    All parents are read before any row changes, so rows may trade places.

    Attributes:
        rows: Rows that get a new past.
        parents: For each, the row whose past it takes over (maybe itself).
        length: How many positions the past has.
    """

    rows: tuple[int, ...]
    parents: tuple[int, ...]
    length: int


@dataclass(frozen=True, eq=False)
class Forward(Request):
    """One pass over some tokens. Answer: :class:`~max_whisper.decoding.runtime.Candidates`.

    Attributes:
        tokens: N ids.
        rows: The cache row of each.
        positions: The position of each in its row.
        window: The window that all of them listen to.
        outputs: Indices into the N tokens that are asked for a successor.
        constraints: One for each output.
        k: How many candidates are wanted for each output; 0 if only what is watched is.
        logits: Whether all logits are wanted, too.
    """

    tokens: Sequence[int]
    rows: Sequence[int]
    positions: Sequence[int]
    window: int
    outputs: Sequence[int]
    constraints: Sequence[Constraint]
    k: int = 1
    logits: bool = False


@dataclass(frozen=True, eq=False)
class GoOn(Request):
    """Several steps of sequences, see :class:`~max_whisper.decoding.runtime.Run`.

    Fewer may be taken than are asked for. Answer: :class:`~max_whisper.decoding.runtime.Ran`.

    Attributes:
        standings: Where each sequence stands.
        rows: The cache row of each.
        position: The position of their last tokens.
        window: The window that all of them listen to.
        plan: How each goes on.
        seeds: (sequences, steps) the seed of each draw.
        eot: The token that ends a text.
        beams: What they are to each other, if they are the beams of one search.
    """

    standings: Sequence[Standing]
    rows: Sequence[int]
    position: int
    window: int
    plan: Plan
    seeds: NDArray[np.uint64]
    eot: int
    beams: Beams | None = None

    @property
    def k(self) -> int:
        """How many candidates each step has for each sequence."""
        return 1 if self.beams is None else self.beams.k


@dataclass(frozen=True, eq=False)
class Align(Request):
    """Answer: when tokens begin, see :meth:`~max_whisper.decoding.runtime.Runtime.alignment`.

    Attributes:
        queries: (n_text_layer, N, n_text_state) of a pass over the same window.
        heads: (layer, head) pairs.
        window: The window.
        positions: How many of its positions hold speech.
        wanted: Consecutive tokens of the N.
    """

    queries: NDArray[np.float32]
    heads: Sequence[tuple[int, int]]
    window: int
    positions: int
    wanted: slice
