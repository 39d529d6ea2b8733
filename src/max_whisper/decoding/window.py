"""One window: from encoded audio to tokens, text and scores.

The functions here are generators of :mod:`~max_whisper.decoding.requests`; the window that they
are given is already encoded, and stays encoded for as long as its owner wants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.options import (
    DecodingOptions,
    DecodingResult,
    Trace,
    compression_ratio,
    verify,
)
from max_whisper.decoding.requests import Acquire, Fork, Forward, GoOn, Release, Steps
from max_whisper.decoding.rules import Rule, plan_of, rules_for
from max_whisper.decoding.runtime import Candidates, Constraint, Plan, Ran, Standing
from max_whisper.decoding.search import Hypothesis, Search, most_likely, place, search_for
from max_whisper.errors import OptionError

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer

#: How many steps may be taken before others, and the caller, are looked after again.
STEPS_AT_ONCE = 32

_FREE = Constraint()
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Fallback:
    """When a window's result is given up for a try at the next temperature.

    Attributes:
        temperatures: Tried in order; the last one's result is kept in any case.
        compression_ratio_threshold: A text that compresses better than this repeats itself.
        logprob_threshold: An average log-probability below this is too uncertain, unless the
            window is silent.
        no_speech_threshold: A window whose no-speech probability is above this, and whose
            average log-probability is below the other threshold, is silent.
    """

    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6

    def rejects(self, result: DecodingResult) -> bool:
        """Whether the next temperature should be tried."""
        repetitive = (
            self.compression_ratio_threshold is not None
            and result.compression_ratio > self.compression_ratio_threshold
        )
        uncertain = self.logprob_threshold is not None and result.avg_logprob < self.logprob_threshold
        silent = self.no_speech_threshold is not None and result.no_speech_prob > self.no_speech_threshold
        return (repetitive or uncertain) and not (silent and uncertain)


@dataclass(frozen=True)
class Prompt:
    """The tokens that decoding starts from.

    Attributes:
        tokens: All of them.
        sot_index: Where the transcript starts.
        prefix: How many tokens at the end belong to the transcript's text.
    """

    tokens: list[int]
    sot_index: int
    prefix: int = 0


def decode_with_fallback(
    window: int,
    options: DecodingOptions,
    fallback: Fallback,
    tokenizer: Tokenizer,
    dims: ModelDimensions,
    *,
    keep_queries: bool = False,
) -> Steps[DecodingResult]:
    """Decodes a window at one temperature after the other until a result is accepted.

    Options that need a temperature of 0 (beams), or one above it (best_of), apply there alone.
    """
    for temperature in fallback.temperatures:
        tried = at_temperature(options, temperature)
        result = yield from decode_window(window, tried, tokenizer, dims, keep_queries=keep_queries)
        if not fallback.rejects(result):
            break
    return result


def at_temperature(options: DecodingOptions, temperature: float) -> DecodingOptions:
    """The options for one temperature, without those that make no sense there."""
    if temperature > 0:
        return replace(options, temperature=temperature, beam_size=None, patience=None)
    return replace(options, temperature=temperature, best_of=None)


def decode_window(
    window: int,
    options: DecodingOptions,
    tokenizer: Tokenizer,
    dims: ModelDimensions,
    *,
    keep_queries: bool = False,
) -> Steps[DecodingResult]:
    """Decodes a window with one set of options.

    Args:
        window: The window, which is encoded.
        options: How.
        tokenizer: One of the model's.
        dims: The model's dimensions.
        keep_queries: Whether the result's trace has the queries of cross-attention.

    Raises:
        OptionError: For options that make no sense.
    """
    verify(options)
    language, language_probs = options.language, None
    detected = None
    if options.task == "lang_id" or (language is None and dims.is_multilingual):
        detected, language_probs = yield from detect_language(window, tokenizer)
        language = max(language_probs, key=language_probs.__getitem__)
    language = language or "en"
    if options.task == "lang_id":
        return DecodingResult(None, language, language_probs)

    prompt = build_prompt(options, tokenizer, dims)
    if detected is not None and options.language is None:
        prompt.tokens[prompt.sot_index + 1] = detected
    search = search_for(options, tokenizer.eot)
    rules = rules_for(options, tokenizer, dims)
    steps = min(options.sample_len or dims.n_text_ctx // 2, dims.n_text_ctx - len(prompt.tokens) + 1)
    passes: list[NDArray[np.float32]] | None = [] if keep_queries else None
    no_speech_prob, prefix = yield from _search(
        window, prompt, search, rules, steps, tokenizer.no_speech, tokenizer.eot, passes
    )
    found = most_likely(search.hypotheses(), options.length_penalty)
    tokens = found.tokens
    text = tokenizer.decode(tokens).strip()
    return DecodingResult(
        audio_features=None,
        language=language,
        language_probs=language_probs,
        tokens=tokens,
        text=text,
        avg_logprob=found.logprob / (len(tokens) + 1),
        no_speech_prob=no_speech_prob,
        temperature=options.temperature,
        compression_ratio=compression_ratio(text),
        trace=_trace(found, prefix, passes),
    )


def _trace(
    found: Hypothesis, prefix: tuple[float, ...], passes: Sequence[NDArray[np.float32]] | None
) -> Trace:
    """What led to a hypothesis, out of the queries of all passes if they were kept."""
    choices = found.choices()
    logprobs = tuple(choice.logprob for choice in choices)
    if passes is None:
        return Trace(logprobs, prefix)
    # The first choice was made at the prompt's last token, each other one at the token before it.
    own = [queries[:, choice.sequence, None] for queries, choice in zip(passes[1:], choices[1:])]
    return Trace(logprobs, prefix, np.concatenate([passes[0], *own], axis=1))


def detect_language(window: int, tokenizer: Tokenizer) -> Steps[tuple[int, dict[str, float]]]:
    """The most probable language's token, and each language code's probability.

    Raises:
        OptionError: For a model that knows English alone.
    """
    if tokenizer.language is None or tokenizer.language_token not in tokenizer.sot_sequence:
        raise OptionError("an English-only model has no language tokens, so it can't detect a language")
    rows = yield Acquire(1)
    found: Candidates = yield Forward((tokenizer.sot,), rows, (0,), window, (0,), (_FREE,), logits=True)
    ids = list(tokenizer.all_language_tokens)
    logits = found.logits()[0, ids]
    yield Release(rows)
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    return ids[int(probs.argmax())], dict(zip(tokenizer.all_language_codes, probs.tolist()))


def build_prompt(options: DecodingOptions, tokenizer: Tokenizer, dims: ModelDimensions) -> Prompt:
    """What came before, the start of the transcript, and its prefix.

    Raises:
        OptionError: Where that leaves no room for a transcript.
    """
    half = dims.n_text_ctx // 2
    tokens = list(
        tokenizer.sot_sequence_including_notimestamps
        if options.without_timestamps
        else tokenizer.sot_sequence
    )
    given = 0
    if options.prefix:
        prefix = _tokens(options.prefix, tokenizer)
        # With all of its half sampled, openai-whisper keeps the prefix whole, as [-0:] does.
        prefix = prefix[-(half - (options.sample_len or half)) :]
        tokens += prefix
        given = len(prefix)
    if options.prompt:
        tokens = [tokenizer.sot_prev, *_tokens(options.prompt, tokenizer)[-(half - 1) :], *tokens]
    if len(tokens) > dims.n_text_ctx:
        raise OptionError(
            f"prompt and prefix take {len(tokens)} tokens; the model's context is {dims.n_text_ctx}"
        )
    return Prompt(tokens, tokens.index(tokenizer.sot), given)


def _tokens(text: str | Sequence[int], tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(" " + text.strip()) if isinstance(text, str) else list(text)


def _search(
    window: int,
    prompt: Prompt,
    search: Search,
    rules: Sequence[Rule],
    steps: int,
    no_speech: int | None,
    eot: int,
    passes: list[NDArray[np.float32]] | None,
) -> Steps[tuple[float, tuple[float, ...]]]:
    """Runs a search for so many steps or to its end.

    All sequences start from the prompt in the first row. That pass is asked for further candidates,
    at the start of the transcript and before each token of the prefix, because their unconstrained
    probabilities are wanted. Each pass leaves its queries in ``passes``, if that is given.

    Returns:
        The no-speech probability, and the log-probability of each token of the prefix.
    """
    rows: tuple[int, ...] = yield Acquire(search.size)
    length = len(prompt.tokens)
    constraints = _constraints(search, rules)
    given = range(length - prompt.prefix, length)
    found: Candidates = yield Forward(
        prompt.tokens,
        rows[:1] * length,
        range(length),
        window,
        [*[length - 1] * len(constraints), prompt.sot_index, *(at - 1 for at in given)],
        [
            *constraints,
            _FREE if no_speech is None else Constraint(watch=no_speech),
            *(Constraint(watch=prompt.tokens[at]) for at in given),
        ],
        search.k,
    )
    no_speech_prob, *prefix = found.watched[len(constraints) :].tolist()
    if passes is not None:
        passes.append(found.queries(slice(prompt.sot_index, None)))
    placed = rows[:1] * len(constraints)
    parents = search.update(found.tokens, found.logprobs)
    lasting = plan_of(rules)
    plan = None if lasting is None else search.plan(lasting)
    position, stop = length, length + steps - 1
    taken: deque[Taken] = deque()  # steps that the search has not heard of
    while not search.done and position < stop:
        placed, moved = place([placed[parent] for parent in parents], rows)
        if moved:
            yield Fork(tuple(row for row, _ in moved), tuple(parent for _, parent in moved), position)
        if not taken and plan is not None:
            taken.extend((yield from _run(window, search, plan, placed, position, stop, eot)))
        elif not taken:
            taken.append((yield from _pass(window, search, rules, placed, position)))
        tokens, logprobs, queries = taken.popleft()
        if passes is not None:
            passes.append(queries())
        parents = search.update(tokens, logprobs)
        position += 1
    yield Release(rows)
    return no_speech_prob, tuple(np.log(np.maximum(prefix, _TINY)).tolist())


#: A step's candidates (live, k), their log-probabilities, and what gives its queries.
Taken = tuple[NDArray[np.int32], NDArray[np.float32], Callable[[], NDArray[np.float32]]]


def _run(
    window: int, search: Search, plan: Plan, placed: Sequence[int], position: int, stop: int, eot: int
) -> Steps[list[Taken]]:
    """Several steps of a search whose sequences are placed in those rows."""
    ran: Ran = yield GoOn(
        [Standing.of((*plan.prefix, *tokens), plan.timestamp_begin) for tokens in search.live],
        placed,
        position,
        window,
        plan,
        search.seeds(min(STEPS_AT_ONCE, stop - position)),
        eot,
        search.beams(),
    )
    queries = (partial(ran.queries.__getitem__, (slice(None), step)) for step in range(len(ran.tokens)))
    return list(zip(ran.tokens, ran.logprobs, queries))


def _pass(
    window: int, search: Search, rules: Sequence[Rule], placed: Sequence[int], position: int
) -> Steps[Taken]:
    """One step."""
    count = len(placed)
    found: Candidates = yield Forward(
        [tokens[-1] for tokens in search.live],
        placed,
        (position,) * count,
        window,
        range(count),
        _constraints(search, rules),
        search.k,
    )
    return found.tokens, found.logprobs, found.queries


def _constraints(search: Search, rules: Sequence[Rule]) -> list[Constraint]:
    constraints = []
    for index, tokens in enumerate(search.live):
        constraint = _FREE
        for rule in rules:
            constraint = rule.narrow(constraint, tokens)
        constraints.append(search.constrain(constraint, index))
    return constraints
