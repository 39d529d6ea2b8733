"""How to decode a window, and what comes of it; fields and defaults are openai-whisper's."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import OptionError

TASKS = ("transcribe", "translate", "lang_id")


@dataclass(frozen=True)
class DecodingOptions:
    """How to decode one 30-second window.

    Attributes:
        task: "transcribe", "translate" (to English) or "lang_id" (name the language, no text).
        language: Code or name; None detects it.
        temperature: 0 takes the most probable tokens; above 0 they are drawn.
        sample_len: The most tokens to sample; None is half the text context.
        best_of: How many independent draws compete, at a temperature above 0.
        beam_size: How many beams to search with; None searches greedily.
        patience: The search ends with ``beam_size * patience`` finished beams
            (arXiv:2204.05424); None is 1.
        length_penalty: The exponent of Google NMT's length penalty, 0 to 1; None divides by
            the length.
        prompt: Text or tokens that came before this window; the end of it is used.
        prefix: Text or tokens that this window's transcript begins with.
        suppress_tokens: Ids never to sample, in a list or joined by commas. -1 stands for the
            tokens that are not speech.
        suppress_blank: Whether a transcript must not begin with a blank or be empty.
        without_timestamps: Whether to sample text only.
        max_initial_timestamp: The latest first timestamp in seconds; None or 0 sets no limit.
        fp16: Accepted for openai-whisper's sake; precision is chosen when a model is loaded.
        seed: Decides the draws at a temperature above 0, together with nothing but the window's
            place in its recording: not the other windows of the batch.
        repetition_penalty: Above 1, makes tokens that were sampled before less probable.
        no_repeat_ngram_size: If above 0, no sequence of so many tokens is sampled twice.
    """

    task: str = "transcribe"
    language: str | None = None
    temperature: float = 0.0
    sample_len: int | None = None
    best_of: int | None = None
    beam_size: int | None = None
    patience: float | None = None
    length_penalty: float | None = None
    prompt: str | list[int] | None = None
    prefix: str | list[int] | None = None
    suppress_tokens: str | Iterable[int] | None = "-1"
    suppress_blank: bool = True
    without_timestamps: bool = False
    max_initial_timestamp: float | None = 1.0
    fp16: bool = True
    seed: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    @property
    def group_size(self) -> int:
        """How many sequences are decoded side by side."""
        return self.beam_size or self.best_of or 1


@dataclass(frozen=True)
class Trace:
    """How a window's tokens came about, one step of decoding after the other.

    Attributes:
        logprobs: The log-probability of each sampled token as it was chosen, at temperature 1 among
            those that were allowed; last that of the end of the text, unless the text was cut off.
        prefix: The log-probability of each token of the prefix, which was given, among all tokens.
        queries: (n_text_layer, n, n_text_state) float32 cross-attention queries, or None where nobody
            asked for them: a row for each token that a token was predicted from, beginning with the
            start of the transcript. The last rows, one for each token of prefix and ``logprobs``,
            are where these were predicted.
    """

    logprobs: tuple[float, ...]
    prefix: tuple[float, ...] = ()
    queries: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class DecodingResult:
    """What decoding one window gave.

    Attributes:
        audio_features: (n_audio_ctx, n_audio_state) float32 encoder output, or None where
            nobody asked for it.
        language: The language given or detected, as a code.
        language_probs: Code to probability, if the language was detected.
        tokens: Sampled ids up to the end of the text, timestamps among them.
        text: The text of the tokens, without timestamps.
        avg_logprob: Log-probability per token, the end of the text counted as one.
        no_speech_prob: Probability of ``<|nospeech|>`` at the start of the transcript.
        temperature: The temperature it was decoded with.
        compression_ratio: Length of the text over its length when compressed.
        trace: How the tokens came about.
    """

    audio_features: NDArray[np.float32] | None = field(repr=False)
    language: str
    language_probs: dict[str, float] | None = None
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    avg_logprob: float = np.nan
    no_speech_prob: float = np.nan
    temperature: float = np.nan
    compression_ratio: float = np.nan
    trace: Trace | None = field(default=None, repr=False)


def verify(options: DecodingOptions) -> DecodingOptions:
    """Returns the options.

    Raises:
        OptionError: For options that exclude each other or are out of range.
    """
    o = options
    if o.task not in TASKS:
        raise OptionError(f"task is {o.task!r}; it must be one of {', '.join(TASKS)}")
    if o.temperature < 0:
        raise OptionError(f"temperature is {o.temperature}; it can't be negative")
    if o.beam_size is not None and o.best_of is not None:
        raise OptionError("beam_size and best_of exclude each other: give one of them")
    if o.temperature == 0 and o.best_of is not None:
        raise OptionError("best_of needs a temperature above 0: greedy decoding has one outcome only")
    if o.patience is not None and o.beam_size is None:
        raise OptionError("patience needs beam_size")
    if o.length_penalty is not None and not 0 <= o.length_penalty <= 1:
        raise OptionError(f"length_penalty is {o.length_penalty}; it must be from 0 to 1")
    for name in ("beam_size", "best_of"):
        value = getattr(o, name)
        if value is not None and value < 1:
            raise OptionError(f"{name} is {value}; it must be at least 1")
    if o.beam_size is not None and round(o.beam_size * (o.patience or 1.0)) < 1:
        raise OptionError(f"patience {o.patience} leaves no beam of {o.beam_size} to wait for")
    if o.repetition_penalty <= 0:
        raise OptionError(f"repetition_penalty is {o.repetition_penalty}; it must be above 0")
    return options


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes of its zlib compression; repetitive text scores high."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))
