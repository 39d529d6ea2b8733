"""Which tokens may come next: each of Whisper's rules as a small class.

A rule narrows a :class:`~max_whisper.decoding.runtime.Constraint` in view of the tokens sampled so
far. It touches no logits, so it costs the same for any vocabulary; a runtime applies the outcome
where the logits are. The rules run for every row at every step: one that has nothing to add
returns the constraint it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.runtime import NEVER, Constraint, Plan, Standing, TokenSet
from max_whisper.errors import OptionError

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer

#: What one window lasts, in seconds (openai-whisper: ``audio.CHUNK_LENGTH``).
WINDOW_SECONDS = 30


class Rule(Protocol):
    """Narrows a constraint, given the tokens sampled so far."""

    def narrow(self, constraint: Constraint, tokens: Sequence[int]) -> Constraint:
        """The constraint for the next token; ``tokens`` holds sampled tokens alone."""

    def lasting(self, plan: Plan) -> Plan | None:
        """What it asks of every token but the first; None where that takes more than a plan says."""


class SuppressTokens:
    """Never samples some tokens."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = token_set(tuple(sorted(set(ids))))
        self._base: Constraint | None = None
        self._narrowed = Constraint()

    def narrow(self, constraint: Constraint, tokens: Sequence[int]) -> Constraint:
        """See :class:`Rule`."""
        if constraint is not self._base:
            self._base, self._narrowed = constraint, replace(constraint, suppressed=self.ids)
        return self._narrowed

    def lasting(self, plan: Plan) -> Plan | None:
        """See :class:`Rule`."""
        return replace(plan, suppressed=self.ids)


class SuppressBlank:
    """Does not begin with a blank, and does not end before it began."""

    def __init__(self, blank: Sequence[int]) -> None:
        self.blank = tuple(blank)

    def narrow(self, constraint: Constraint, tokens: Sequence[int]) -> Constraint:
        """See :class:`Rule`."""
        if tokens:
            return constraint
        return replace(constraint, banned=constraint.banned + self.blank)

    def lasting(self, plan: Plan) -> Plan | None:
        """See :class:`Rule`."""
        return plan


class ApplyTimestampRules:
    """Timestamps come first, in pairs, and never go back.

    Every segment has a begin and an end: after text, one timestamp ends the segment, and the next
    begins another. A segment that ends where it began is ruled out, which also rules out endless
    loops. ``initial_index`` bounds the first timestamp, in steps (None: no bound).
    """

    def __init__(self, eot: int, timestamp_begin: int, initial_index: int | None) -> None:
        self.eot = eot
        self.begin = timestamp_begin
        self.initial_stop = NEVER if initial_index is None else timestamp_begin + initial_index + 1
        self._base: Constraint | None = None
        self._narrowed: dict[tuple[int, int, int], Constraint] = {}

    def narrow(self, constraint: Constraint, tokens: Sequence[int]) -> Constraint:
        """See :class:`Rule`."""
        if constraint is not self._base:
            self._base, self._narrowed = constraint, {}
        key = self._bounds(tokens)
        if (narrowed := self._narrowed.get(key)) is None:
            narrowed = self._narrowed[key] = constraint.within(self.begin, *key)
        return narrowed

    def lasting(self, plan: Plan) -> Plan | None:
        """See :class:`Rule`."""
        return replace(plan, timestamp_begin=self.begin)

    def _bounds(self, tokens: Sequence[int]) -> tuple[int, int, int]:
        """The lowest id, the lowest timestamp, and the id that ends the timestamps."""
        if not tokens:
            return self.begin, 0, self.initial_stop
        return timestamp_bounds(self.begin, self.eot, Standing.of(tokens, self.begin))


def timestamp_bounds(begin: int, eot: int, standing: Standing) -> tuple[int, int, int]:
    """The lowest id that may follow, the lowest timestamp, and the id that ends the timestamps."""
    if standing.last < begin:
        return 0, standing.stamp + 1, NEVER
    if standing.before >= begin:
        return 0, 0, begin
    return eot, standing.last, NEVER


class RepetitionPenalty:
    """Makes tokens that were sampled before less probable (arXiv:1909.05858)."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def narrow(self, constraint: Constraint, tokens: Sequence[int]) -> Constraint:
        """See :class:`Rule`."""
        return replace(constraint, repeated=tuple(dict.fromkeys(tokens)), repetition_penalty=self.penalty)

    def lasting(self, plan: Plan) -> Plan | None:
        """See :class:`Rule`."""
        return None


class NoRepeatNgram:
    """Samples no sequence of ``size`` tokens twice."""

    def __init__(self, size: int) -> None:
        self.size = size

    def narrow(self, constraint: Constraint, tokens: Sequence[int]) -> Constraint:
        """See :class:`Rule`."""
        before = self.size - 1
        last = tuple(tokens[len(tokens) - before :])
        banned = tuple(
            tokens[i + before] for i in range(len(tokens) - before) if tuple(tokens[i : i + before]) == last
        )
        return replace(constraint, banned=constraint.banned + banned) if banned else constraint

    def lasting(self, plan: Plan) -> Plan | None:
        """See :class:`Rule`."""
        return None


class AfterPrefix:
    """Lets a rule take a prefix for the beginning of what was sampled."""

    def __init__(self, rule: Rule, prefix: Sequence[int]) -> None:
        self.rule = rule
        self.prefix = tuple(prefix)

    def narrow(self, constraint: Constraint, tokens: Sequence[int]) -> Constraint:
        """See :class:`Rule`."""
        return self.rule.narrow(constraint, (*self.prefix, *tokens))

    def lasting(self, plan: Plan) -> Plan | None:
        """See :class:`Rule`."""
        lasting = self.rule.lasting(plan)
        return None if lasting is None else replace(lasting, prefix=self.prefix)


def plan_of(rules: Sequence[Rule]) -> Plan | None:
    """What all rules together ask of every token but the first, if a plan can say it."""
    plan: Plan | None = Plan()
    for rule in rules:
        plan = rule.lasting(plan) if plan is not None else None
    return plan


@lru_cache(maxsize=1024)
def token_set(ids: tuple[int, ...]) -> TokenSet:
    """The one set of these ids: runtimes know sets by identity, and keep what they made of them."""
    return TokenSet(ids)


def rules_for(options: DecodingOptions, tokenizer: Tokenizer, dims: ModelDimensions) -> list[Rule]:
    """The rules that the options ask for.

    Their order does not matter to the outcome. The first ones reuse what they made of a
    constraint for as long as they are given the same one, so those that change it at every step
    come last.

    Raises:
        OptionError: For token ids that the vocabulary does not have.
    """
    rules: list[Rule] = []
    suppressed = suppressed_tokens(options, tokenizer, dims.n_vocab) if options.suppress_tokens else []
    if not options.without_timestamps:
        suppressed.append(tokenizer.no_timestamps)
    if suppressed:
        rules.append(SuppressTokens(suppressed))
    if not options.without_timestamps:
        index = None
        if options.max_initial_timestamp:
            index = round(options.max_initial_timestamp / (WINDOW_SECONDS / dims.n_audio_ctx))
        rules.append(ApplyTimestampRules(tokenizer.eot, tokenizer.timestamp_begin, index))
    if options.suppress_blank:
        rules.append(SuppressBlank([*tokenizer.encode(" "), tokenizer.eot]))
    if options.repetition_penalty != 1:
        rules.append(RepetitionPenalty(options.repetition_penalty))
    if options.no_repeat_ngram_size > 0:
        rules.append(NoRepeatNgram(options.no_repeat_ngram_size))
    prefix = options.prefix
    if isinstance(prefix, list) and prefix and prefix[0] >= tokenizer.timestamp_begin:
        # What begins with a timestamp is a transcript's beginning: the next token continues it.
        return [AfterPrefix(rule, prefix) for rule in rules]
    return rules


def suppressed_tokens(options: DecodingOptions, tokenizer: Tokenizer, n_vocab: int) -> list[int]:
    """The ids that ``suppress_tokens`` stands for, and those that never belong in a transcript.

    Raises:
        OptionError: Where it names something that is no token.
    """
    given = options.suppress_tokens or ()
    try:
        ids = [int(i) for i in (given.split(",") if isinstance(given, str) else given)]
    except ValueError as error:
        raise OptionError(f"suppress_tokens is {given!r}; it must be token ids joined by commas") from error
    if -1 in ids:
        ids = [i for i in ids if i != -1] + list(tokenizer.non_speech_tokens)
    for i in ids:
        if not 0 <= i < n_vocab:
            raise OptionError(f"suppress_tokens names {i}; the vocabulary's ids are 0 to {n_vocab - 1}")
    ids += [tokenizer.transcribe, tokenizer.translate, tokenizer.sot, tokenizer.sot_prev, tokenizer.sot_lm]
    if tokenizer.no_speech is not None:
        ids.append(tokenizer.no_speech)
    return ids
