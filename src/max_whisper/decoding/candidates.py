"""What a :class:`~max_whisper.decoding.runtime.Constraint` means, in numpy.

This is the specification that a runtime's kernel is held to. It favours plain statements over
speed; nothing but tests and mock runtimes calls it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.runtime import Constraint, HostCandidates

Float = NDArray[np.float32]


def candidates(
    logits: Float, constraints: Sequence[Constraint], k: int, queries: Float | None = None
) -> HostCandidates:
    """The k best next tokens of each row of logits under its constraint.

    Args:
        logits: (L, n_vocab) float32, as the model gives them; not changed.
        constraints: L constraints.
        k: How many candidates are wanted. Candidates beyond the allowed tokens have a
            log-probability of minus infinity.
        queries: Handed through.
    """
    count = len(constraints)
    tokens = np.empty((count, k), np.int32)
    logprobs = np.empty((count, k), np.float32)
    watched = np.full(count, np.nan, np.float32)
    for i, constraint in enumerate(constraints):
        if constraint.watch >= 0:
            among = logits[i, : constraint.watch_stop]
            watched[i] = np.exp(log_softmax(among)[constraint.watch])
        allowed = constrain(logits[i], constraint)
        best = choose(allowed, constraint, k)
        tokens[i] = best
        logprobs[i] = log_softmax(allowed)[best]
    return HostCandidates(tokens, logprobs, watched, logits, queries)


def constrain(logits: Float, constraint: Constraint) -> Float:
    """The logits (n_vocab,) with every forbidden token at minus infinity."""
    out = logits.astype(np.float32)
    penalised = list(dict.fromkeys(constraint.repeated))
    values = out[penalised]
    penalty = np.float32(constraint.repetition_penalty)
    out[penalised] = np.where(values > 0, values / penalty, values * penalty)

    out[list(constraint.suppressed.ids)] = -np.inf
    out[list(constraint.banned)] = -np.inf
    out[: constraint.first] = -np.inf
    begin = constraint.timestamp_begin
    out[begin : max(begin, constraint.timestamp_first)] = -np.inf
    out[max(begin, constraint.timestamp_stop) :] = -np.inf
    if constraint.weigh_timestamps and timestamps_outweigh_text(out, begin):
        out[:begin] = -np.inf
    return out


def timestamps_outweigh_text(logits: Float, begin: int) -> bool:
    """Whether all timestamps together are more probable than the most probable text token."""
    logprobs = log_softmax(logits)
    timestamps, text = logprobs[begin:], logprobs[:begin]
    if not timestamps.size or np.isneginf(timestamps.max()):
        return False
    return bool(_logsumexp(timestamps) > text.max())


def choose(logits: Float, constraint: Constraint, k: int) -> NDArray[np.int64]:
    """The ids of the k best of constrained logits; among equals the lowest id comes first.

    Above temperature 0 the order is that of ``logits / temperature + noise``, which makes the
    first one a draw from the softmax at that temperature.
    """
    if constraint.temperature > 0:
        noise = gumbel_noise(constraint.seed, logits.size)
        logits = logits / np.float32(constraint.temperature) + noise
    return np.argsort(-logits, kind="stable")[:k]


def gumbel_noise(seed: int, count: int) -> Float:
    """Gumbel noise for the token ids 0 to count - 1, from a hash of the id and a 64-bit seed.

    Each number depends on its own id and the seed alone, so any kernel can compute it anywhere.
    The hash is the mixer known as lowbias32, applied twice. 23 of its bits make a uniform number
    at the middle of its interval: every such number and its distance from 1 is a float32, so
    the noise is finite without a clamp. (24 bits are one too many: the highest would round to 1.)
    """
    ids = np.arange(count, dtype=np.uint32)
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)
    bits = _lowbias32(_lowbias32(ids ^ low) ^ high)
    uniform = ((bits >> np.uint32(9)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)
    noise: Float = -np.log(-np.log(uniform))
    return noise


def log_softmax(logits: Float) -> Float:
    """Log-softmax over the last axis, in float32."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    out: Float = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float32))
    return out


def _logsumexp(values: Float) -> float:
    highest = values.max()
    return float(highest + np.log(np.exp(values - highest).sum(dtype=np.float32)))


def _lowbias32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    out: NDArray[np.uint32] = x ^ (x >> np.uint32(16))
    return out
