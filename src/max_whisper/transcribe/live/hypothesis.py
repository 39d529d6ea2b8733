"""Hearing a window again: what was heard before is checked in one pass, and only what is new is sampled.

Streaming decodes the same audio many times over, each time with a little more of it. Greedy decoding
is a function of what stands before, so the text of the last time needs no steps: one pass over it
tells how far the model would choose the very same tokens, and steps are taken from there on. The
outcome is what decoding from the start gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from max_whisper.decoding.options import compression_ratio
from max_whisper.decoding.requests import Acquire, Forward, Release, Steps
from max_whisper.decoding.rules import Rule
from max_whisper.decoding.runtime import Candidates, Constraint

if TYPE_CHECKING:
    from max_whisper.tokenizer import Tokenizer

_FREE = Constraint()


@dataclass(frozen=True)
class Known:
    """What is known of a window before it is heard.

    Attributes:
        prompt: Tokens of what was said before the window.
        agreed: Tokens of its own text that stand.
        draft: Tokens that were heard after those the last time; nothing depends on them but speed.
    """

    prompt: Sequence[int] = ()
    agreed: Sequence[int] = ()
    draft: Sequence[int] = ()


@dataclass(frozen=True)
class Hypothesis:
    """What was heard in a window after the agreed text.

    Attributes:
        tokens: Text tokens.
        avg_logprob: Their log-probability per token, the end of the text counted as one.
        no_speech_prob: The probability of ``<|nospeech|>`` at the start of the transcript.
        compression_ratio: Of the window's whole text, agreed and new.
        checked: How many tokens of the draft were found again.
    """

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    checked: int


def hear(
    window: int, known: Known, rules: Sequence[Rule], tokenizer: Tokenizer, most: int
) -> Steps[Hypothesis]:
    """Decodes a window greedily and without timestamps.

    Args:
        window: An encoded window.
        known: What is known of it. Prompt, agreed text and ``most`` tokens must fit the text context.
        rules: Which tokens may come next; the agreed ones count as sampled.
        tokenizer: For the language and the task.
        most: How many tokens to take after the agreed ones at most.
    """
    (row,) = yield Acquire(1)
    agreed, draft = list(known.agreed), list(known.draft[: most - 1])
    before = [tokenizer.sot_prev, *known.prompt] if known.prompt else []
    start = [*before, *tokenizer.sot_sequence_including_notimestamps, *agreed]
    given = [*start, *draft]
    no_speech = tokenizer.no_speech
    found: Candidates = yield Forward(
        given,
        [row] * len(given),
        range(len(given)),
        window,
        [*range(len(start) - 1, len(given)), len(before)],
        [
            *(_narrowed(rules, [*agreed, *draft[:i]]) for i in range(len(draft) + 1)),
            _FREE if no_speech is None else Constraint(watch=no_speech),
        ],
    )
    chosen = found.tokens[:-1, 0].tolist()
    logprobs = found.logprobs[:-1, 0].tolist()
    no_speech_prob = float(found.watched[-1])
    checked = next((i for i, token in enumerate(draft) if chosen[i] != token), len(draft))

    tokens, total = chosen[: checked + 1], sum(logprobs[: checked + 1])
    while tokens[-1] != tokenizer.eot and len(tokens) < most:
        position = len(start) + len(tokens) - 1
        found = yield Forward(
            tokens[-1:], [row], [position], window, [0], [_narrowed(rules, [*agreed, *tokens])]
        )
        tokens.append(int(found.tokens[0, 0]))
        total += float(found.logprobs[0, 0])
    yield Release((row,))
    count = len(tokens)
    if tokens[-1] == tokenizer.eot:
        tokens.pop()
    text = tokenizer.decode([*agreed, *tokens]).strip()
    return Hypothesis(tuple(tokens), total / count, no_speech_prob, compression_ratio(text), checked)


def _narrowed(rules: Sequence[Rule], tokens: Sequence[int]) -> Constraint:
    constraint = _FREE
    for rule in rules:
        constraint = rule.narrow(constraint, tokens)
    return constraint
