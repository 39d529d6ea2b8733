"""How the next tokens are chosen among candidates: greedily, by chance, or with beams.

A search keeps a few sequences of sampled tokens side by side. At each step the window's loop asks
it for a constraint per live sequence, and hands it the candidates that the runtime found. The
arithmetic is float32, step by step as in openai-whisper, so that its sums are ours.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.runtime import Beams, Constraint, Plan


class Choice(NamedTuple):
    """A token that a sequence took, behind those that it took before: a past that beams share.

    Attributes:
        before: The choice before it; None for the first.
        sequence: Which of those that were live then took it: an index.
        logprob: The token's log-probability.
    """

    before: Choice | None
    sequence: int
    logprob: float


class Hypothesis(NamedTuple):
    """A sequence that was found.

    Attributes:
        tokens: Sampled tokens without the end of the text.
        logprob: Their log-probability, with that of the end if the text has one.
        last: Its last choice: the end of the text if it has one.
    """

    tokens: list[int]
    logprob: float
    last: Choice | None

    def choices(self) -> list[Choice]:
        """All choices, the first one first."""
        out, choice = [], self.last
        while choice is not None:
            out.append(choice)
            choice = choice.before
        return out[::-1]


class Search(Protocol):
    """Sequences that are decoded side by side.

    Attributes:
        size: How many there are at most, each with a cache row of its own.
        k: How many candidates each step needs for each sequence.
        live: The sampled tokens of each sequence that goes on; at the start, an empty one for
            each constraint that the first step shall have.
        done: Whether nothing is left to search.
    """

    size: int
    k: int
    live: list[list[int]]
    done: bool

    def constrain(self, constraint: Constraint, index: int) -> Constraint:
        """What the search itself asks of the next token of a live sequence."""

    def plan(self, plan: Plan) -> Plan:
        """The plan of its sequences for as long as none ends."""

    def beams(self) -> Beams | None:
        """What the live sequences are to each other; None: nothing."""

    def seeds(self, steps: int) -> NDArray[np.uint64]:
        """The seeds (live, steps) of the next draws."""

    def update(self, tokens: NDArray[np.int32], logprobs: NDArray[np.float32]) -> Sequence[int]:
        """Takes the candidates (live, k) of a step; ``live`` is then as the next step needs it.

        Returns:
            For each sequence now live, the index that its past had among those live before.
        """

    def hypotheses(self) -> list[Hypothesis]:
        """What was found, in order of finding."""


class Sampling:
    """Takes the first candidate: the most probable token, or at a temperature above 0 a draw.

    With a size above 1 as many independent draws compete. ``seed`` is 64 bits; each draw's own
    seed comes from it, the number of the sequence and the position.
    """

    k = 1

    def __init__(self, eot: int, size: int = 1, temperature: float = 0.0, seed: int = 0) -> None:
        self.size = size
        self.live: list[list[int]] = [[] for _ in range(size)]
        self.done = False
        self._eot = eot
        self._temperature = temperature
        self._seed = seed
        self._members = list(range(size))
        self._tokens = list(self.live)
        self._sums = [np.float32(0)] * size
        self._choices: list[Choice | None] = [None] * size

    def constrain(self, constraint: Constraint, index: int) -> Constraint:
        """See :class:`Search`."""
        if self._temperature == 0:
            return constraint
        seed = _draw_seed(self._seed, self._members[index], len(self.live[index]))
        return replace(constraint, temperature=self._temperature, seed=seed)

    def plan(self, plan: Plan) -> Plan:
        """See :class:`Search`."""
        return replace(plan, temperature=self._temperature)

    def beams(self) -> Beams | None:
        """See :class:`Search`."""
        return None

    def seeds(self, steps: int) -> NDArray[np.uint64]:
        """See :class:`Search`."""
        seeds = np.zeros((len(self.live), steps), np.uint64)
        if self._temperature > 0:
            for index, (member, tokens) in enumerate(zip(self._members, self.live)):
                for step in range(steps):
                    seeds[index, step] = _draw_seed(self._seed, member, len(tokens) + step)
        return seeds

    def update(self, tokens: NDArray[np.int32], logprobs: NDArray[np.float32]) -> Sequence[int]:
        """See :class:`Search`."""
        going: list[int] = []
        for i, member in enumerate(self._members):
            token = int(tokens[i, 0])
            self._sums[member] += logprobs[i, 0]
            self._choices[member] = Choice(self._choices[member], i, float(logprobs[i, 0]))
            if token != self._eot:
                self._tokens[member].append(token)
                going.append(i)
        if len(going) < len(self._members):
            self._members = [self._members[i] for i in going]
            self.live = [self._tokens[member] for member in self._members]
            self.done = not going
        return going

    def hypotheses(self) -> list[Hypothesis]:
        """See :class:`Search`."""
        sums = map(float, self._sums)
        return [Hypothesis(*found) for found in zip(self._tokens, sums, self._choices)]


class Beam:
    """Beam search (arXiv:2204.05424 for the patience).

    Each step keeps the best ``size`` continuations that do not end; those that end above them
    are finished, until ``size * patience`` of them are there.
    """

    def __init__(self, eot: int, size: int, patience: float | None = None) -> None:
        self.size = size
        self.k = size + 1
        self.live: list[list[int]] = [[]]
        self.done = False
        self._eot = eot
        self._wanted = round(size * (patience or 1.0))
        self._sums = np.zeros(1, np.float32)
        self._choices: list[Choice | None] = [None]
        self._finished: list[Hypothesis] = []

    def constrain(self, constraint: Constraint, index: int) -> Constraint:
        """See :class:`Search`."""
        return constraint

    def plan(self, plan: Plan) -> Plan:
        """See :class:`Search`."""
        return plan

    def beams(self) -> Beams | None:
        """See :class:`Search`."""
        wanted = self._wanted - len(self._finished)
        return Beams(self.size, self._sums, np.array([wanted], np.int32))

    def seeds(self, steps: int) -> NDArray[np.uint64]:
        """See :class:`Search`."""
        return np.zeros((len(self.live), steps), np.uint64)

    def update(self, tokens: NDArray[np.int32], logprobs: NDArray[np.float32]) -> Sequence[int]:
        """See :class:`Search`."""
        count, wanted = len(self.live), self._wanted - len(self._finished)
        logprobs = logprobs[:count, : self.k]
        kept, ended = best_continuations(
            self._sums, tokens[:count, : self.k], logprobs, self.size, wanted, self._eot
        )

        def choice(found: Continuation) -> Choice:
            logprob = float(logprobs[found.parent, found.place])
            return Choice(self._choices[found.parent], found.parent, logprob)

        self._finished += [Hypothesis(self.live[one.parent], one.score, choice(one)) for one in ended]
        self.live = [[*self.live[one.parent], one.token] for one in kept]
        self._choices = [choice(one) for one in kept]
        self._sums = np.array([one.score for one in kept], np.float32)
        self.done = len(self._finished) >= self._wanted
        return [one.parent for one in kept]

    def hypotheses(self) -> list[Hypothesis]:
        """See :class:`Search`; where too few have finished, the best that have not fill up."""
        found = list(self._finished)
        missing = max(0, self.size - len(found))
        for j in np.argsort(self._sums)[::-1][:missing]:
            found.append(Hypothesis(self.live[j], float(self._sums[j]), self._choices[j]))
        return found


class Continuation(NamedTuple):
    """A beam and one of its candidates.

    Attributes:
        parent: The beam's index.
        place: The candidate's among the beam's.
        token: The candidate.
        score: The log-probability of both together.
    """

    parent: int
    place: int
    token: int
    score: float


def best_continuations(
    sums: NDArray[np.float32],
    tokens: NDArray[np.int32],
    logprobs: NDArray[np.float32],
    size: int,
    wanted: int,
    eot: int,
) -> tuple[list[Continuation], list[Continuation]]:
    """Which continuations of a search's beams become its next beams, and which end above them.

    Args:
        sums: (beams,) float32 log-probabilities.
        tokens: (beams, k) candidates.
        logprobs: (beams, k) float32.
        size: How many go on: the best. Of equals the first beam's first candidate is the best.
        wanted: How many may end, at most.
        eot: The token that ends a text.
    """
    k = tokens.shape[1]
    ids: list[int] = tokens.ravel().tolist()
    scores: list[float] = (sums[:, None] + logprobs).ravel().tolist()
    kept: list[Continuation] = []
    ended: list[Continuation] = []
    for candidate in sorted(range(len(scores)), key=scores.__getitem__, reverse=True):
        found = Continuation(candidate // k, candidate % k, ids[candidate], scores[candidate])
        if found.token != eot:
            kept.append(found)
            if len(kept) == size:
                break
        elif len(ended) < wanted:
            ended.append(found)
    return kept, ended


def place(parents: Sequence[int], rows: Sequence[int]) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """Finds a cache row for each sequence, given the row that holds its past.

    The first sequence of each row stays there, others move to rows that nobody else wants, the
    lowest first: a search whose sequences have one child each moves nothing.

    Args:
        parents: For each sequence, the row of its past.
        rows: All rows there are, in order.

    Returns:
        The row of each sequence, and (row, parent) of those that moved.
    """
    if len(set(parents)) == len(parents):
        return tuple(parents), []
    free = [row for row in rows if row not in parents]
    placed: list[int] = []
    moved: list[tuple[int, int]] = []
    for parent in parents:
        row = parent
        if parent in placed:
            row = free.pop(0)
            moved.append((row, parent))
        placed.append(row)
    return tuple(placed), moved


def search_for(options: DecodingOptions, eot: int) -> Search:
    """The search that the options ask for."""
    if options.beam_size is not None:
        return Beam(eot, options.beam_size, options.patience)
    seed = derived_seed(options.seed, "temperature", options.temperature)
    return Sampling(eot, options.group_size, options.temperature, seed)


def most_likely(found: Sequence[Hypothesis], length_penalty: float | None) -> Hypothesis:
    """The hypothesis with the highest log-probability for its length; of equals the first.

    Args:
        found: At least one hypothesis.
        length_penalty: The exponent of the length penalty in Google's NMT (arXiv:1609.08144);
            None divides by the number of tokens.
    """

    def score(hypothesis: Hypothesis) -> float:
        tokens, total = hypothesis.tokens, hypothesis.logprob
        if length_penalty is None:
            return total / max(len(tokens), 1)
        return total / float(((5 + len(tokens)) / 6) ** length_penalty)

    return max(found, key=score)


def derived_seed(seed: int, purpose: str, value: float) -> int:
    """64 bits that depend on all of a seed, what it is for, and a number."""
    message = struct.pack("<q", seed & 0x7FFFFFFFFFFFFFFF) + purpose.encode() + struct.pack("<d", value)
    return int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "little")


def _draw_seed(seed: int, member: int, position: int) -> int:
    """64 bits for one draw: splitmix64's output function over the seed and a counter."""
    mask = 0xFFFFFFFFFFFFFFFF
    x = (seed + (((member << 32) | (position + 1)) * 0x9E3779B97F4A7C15)) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)
