"""The seam between decoding and the model: what a runtime takes and gives.

Decoding sees the model as rows of a self-attention cache and windows of encoded audio. One
forward pass takes a flat list of tokens, each with the row that it belongs to, its position in
that row and the window that it listens to; a prompt is many tokens of one row, a step is one
token of each row, and both may share a pass. What comes back are candidates for the next token,
already held to each row's constraint, so that logits stay where they were computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import ModelDimensions

#: The id of a token that no vocabulary has.
NEVER = 1 << 30


@dataclass(frozen=True, eq=False)
class TokenSet:
    """Token ids that are never allowed; compared by identity, made once per decode."""

    ids: tuple[int, ...] = ()


NO_TOKENS = TokenSet()


@dataclass(frozen=True)
class Constraint:
    """What the next token of one row may be, and how it is chosen.

    The logits of forbidden tokens count as minus infinity, for the choice and for the
    log-softmax alike. ``timestamp_begin`` splits the vocabulary into text and timestamps.

    Attributes:
        suppressed: Ids that are forbidden.
        first: Ids below this one are forbidden (0: none).
        timestamp_begin: The id of ``<|0.00|>``.
        timestamp_first: Timestamps below this id are forbidden.
        timestamp_stop: Timestamps from this id on are forbidden.
        weigh_timestamps: Where the timestamps' total probability exceeds that of every single
            text token, text is forbidden as well.
        banned: Further forbidden ids, of this row alone.
        repeated: Ids whose logit is divided by ``repetition_penalty`` if positive, multiplied
            if negative, before everything else.
        repetition_penalty: See ``repeated``; 1 changes nothing.
        temperature: 0 takes the most probable tokens; above 0, the first candidate is drawn
            from softmax(logits / temperature) with ``seed``.
        seed: 64 bits that alone decide the draw.
        watch: A token id whose probability in the unconstrained softmax is returned (-1: none).
        watch_stop: That softmax is over the ids below this one, ``watch`` among them.
    """

    suppressed: TokenSet = NO_TOKENS
    first: int = 0
    timestamp_begin: int = NEVER
    timestamp_first: int = 0
    timestamp_stop: int = NEVER
    weigh_timestamps: bool = False
    banned: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    temperature: float = 0.0
    seed: int = 0
    watch: int = -1
    watch_stop: int = NEVER

    def within(self, begin: int, first: int, timestamp_first: int, timestamp_stop: int) -> Constraint:
        """The same, held to the rules of timestamps."""
        return replace(
            self,
            first=first,
            timestamp_begin=begin,
            timestamp_first=timestamp_first,
            timestamp_stop=timestamp_stop,
            weigh_timestamps=True,
        )


NO_CONSTRAINT = Constraint()


ALL = slice(None)


@dataclass(frozen=True)
class Batch:
    """One forward pass of the decoder over N tokens, L of which are asked for a successor.

    Tokens of one row stand in order of position; all of a pass are written to the cache before
    any attends, and a token sees its row's positions up to its own.

    Attributes:
        tokens: (N,) int32 ids.
        rows: (N,) int32, the cache row that holds each token.
        positions: (N,) int32, each token's position in its row.
        windows: (N,) int32, the encoded window that each token attends to.
        sources: (rows, n_text_ctx) int32: position p of row r is kept in cache row
            ``sources[r, p]``. Beams that share a past point to the same row, so reordering
            beams moves no cache.
        outputs: (L,) int32 indices into the N tokens; one index may stand several times.
        constraints: L constraints, one an output.
        k: How many candidates are wanted for each output, best first; 0 if only what is watched is.
        logits: Whether all logits are wanted, too.
    """

    tokens: NDArray[np.int32]
    rows: NDArray[np.int32]
    positions: NDArray[np.int32]
    windows: NDArray[np.int32]
    sources: NDArray[np.int32]
    outputs: NDArray[np.int32]
    constraints: Sequence[Constraint]
    k: int = 1
    logits: bool = False


@dataclass(frozen=True)
class Plan:
    """How each further token of a sequence is chosen, where few of those before it matter.

    Attributes:
        suppressed: Ids that are never chosen.
        timestamp_begin: The id of ``<|0.00|>`` where the rules of timestamps apply, else
            :data:`NEVER`.
        prefix: Tokens that those rules take for the beginning of what was sampled.
        temperature: As for :class:`Constraint`.
    """

    suppressed: TokenSet = NO_TOKENS
    timestamp_begin: int = NEVER
    prefix: tuple[int, ...] = ()
    temperature: float = 0.0


class Standing(NamedTuple):
    """What the rules of timestamps need to know of the tokens sampled so far.

    Attributes:
        last: The last one.
        before: The one before it; a timestamp, where there is none.
        stamp: The latest timestamp, or -1.
    """

    last: int
    before: int
    stamp: int

    @classmethod
    def of(cls, tokens: Sequence[int], begin: int) -> Standing:
        """Where a sequence of at least one token stands."""
        stamp = next((token for token in reversed(tokens) if token >= begin), -1)
        return cls(tokens[-1], tokens[-2] if len(tokens) > 1 else NEVER, stamp)

    def advance(self, token: int, begin: int) -> Standing:
        """Where it stands with one token more."""
        return Standing(token, self.last, token if token >= begin else self.stamp)


@dataclass(frozen=True, eq=False)
class Beams:
    """What the N sequences of a run are to each other if they are beams of searches.

    Attributes:
        size: The beams of a search, which are neighbours.
        sums: (N,) float32, the log-probability of each.
        wanted: (N / size,) int32, how many more sequences have to end until a search is done.
    """

    size: int
    sums: NDArray[np.float32]
    wanted: NDArray[np.int32]

    @property
    def k(self) -> int:
        """How many candidates each step needs for each beam: one may be the end of the text."""
        return self.size + 1


@dataclass(frozen=True)
class Run:
    """Steps of N sequences, each going on from the token that the step before chose.

    All go on together, until one of them chooses ``eot`` or all steps are taken. Beams go on as
    :func:`max_whisper.decoding.search.best_continuations` and
    :func:`max_whisper.decoding.search.place` have it, until a search is done.

    Attributes:
        standings: Where each sequence stands; its last token is the first to be computed.
        rows: (N,) int32, the cache row of each.
        positions: (N,) int32, the last token's position in its row.
        windows: (N,) int32, the window that each attends to.
        sources: As for :class:`Batch`.
        plans: How each goes on.
        seeds: (N, steps) uint64, the seed of each draw.
        eot: The token that ends a text.
        beams: What the sequences are to each other; None: nothing.
    """

    standings: Sequence[Standing]
    rows: NDArray[np.int32]
    positions: NDArray[np.int32]
    windows: NDArray[np.int32]
    sources: NDArray[np.int32]
    plans: Sequence[Plan]
    seeds: NDArray[np.uint64]
    eot: int
    beams: Beams | None = None

    @property
    def k(self) -> int:
        """How many candidates each step has for each sequence."""
        return 1 if self.beams is None else self.beams.k


@dataclass(frozen=True)
class Ran:
    """What a run gives back.

    Attributes:
        tokens: (steps taken, N, k) int32 candidates, best first.
        logprobs: (steps taken, N, k) float32.
        queries: (n_text_layer, steps taken, N, n_text_state) float32 cross-attention queries.
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    queries: NDArray[np.float32] = field(repr=False)


class Candidates(Protocol):
    """What a forward pass gives back."""

    @property
    def tokens(self) -> NDArray[np.int32]:
        """(L, k) ids, best first."""

    @property
    def logprobs(self) -> NDArray[np.float32]:
        """(L, k) log-probabilities under the constraint (at temperature 1)."""

    @property
    def watched(self) -> NDArray[np.float32]:
        """(L,) unconstrained probability of ``Constraint.watch`` (nan: none)."""

    def logits(self) -> NDArray[np.float32]:
        """(L, n_vocab) float32, before any constraint, if the batch says that they are wanted."""

    def queries(self, tokens: slice = ALL) -> NDArray[np.float32]:
        """(n_text_layer, n, n_text_state) float32 cross-attention queries of some of the N tokens."""


@dataclass(frozen=True)
class HostCandidates:
    """Candidates that lie in ordinary arrays."""

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    watched: NDArray[np.float32]
    host_logits: NDArray[np.float32] = field(repr=False)
    host_queries: NDArray[np.float32] | None = field(default=None, repr=False)

    def logits(self) -> NDArray[np.float32]:
        """See :class:`Candidates`."""
        return self.host_logits

    def queries(self, tokens: slice = ALL) -> NDArray[np.float32]:
        """See :class:`Candidates`."""
        if self.host_queries is None:
            raise ValueError("this runtime keeps no cross-attention queries")
        return self.host_queries[:, tokens]


class Runtime(Protocol):
    """A loaded model: the only thing that decoding knows of how Whisper is computed.

    Not safe for concurrent calls; the scheduler is its one caller.
    """

    @property
    def dims(self) -> ModelDimensions:
        """The model's dimensions."""

    def reserve(self, rows: int, windows: int) -> None:
        """Makes room for at least that many cache rows and windows; what they held is lost."""

    def encode(self, mel: NDArray[np.float32], window: int) -> None:
        """Encodes a log-mel window (n_mels, frames) and keeps it as ``window``.

        ``frames`` is 2 * n_audio_ctx, as the model was trained, or an even number below it: then
        the window ends there, and takes less to encode and to listen to.
        """

    def attend(self, features: NDArray[np.float32], window: int) -> None:
        """Keeps given encoder output (n_audio_ctx, n_audio_state) as ``window``."""

    def features(self, window: int) -> NDArray[np.float32]:
        """The encoder output (positions, n_audio_state) of a kept window."""

    def forward(self, batch: Batch) -> Candidates:
        """One pass of the decoder."""

    def run(self, run: Run) -> Ran:
        """Several steps, just as passes with :func:`max_whisper.decoding.passes.constraint` give them."""

    def alignment(
        self,
        queries: NDArray[np.float32],
        heads: Sequence[tuple[int, int]],
        window: int,
        positions: int,
        wanted: slice,
    ) -> NDArray[np.integer]:
        """The position in a window at which each wanted token begins, (wanted tokens,).

        It is what :func:`max_whisper.transcribe.alignment.token_begins` makes of cross-attention.

        Args:
            queries: (n_text_layer, N, n_text_state) float32, from :meth:`Candidates.queries`.
            heads: (layer, head) pairs whose attention follows the audio.
            window: The window that the queries attended to.
            positions: How many of its positions hold speech.
            wanted: Consecutive tokens of the N; the others only tell what is unusual in attention.
        """
