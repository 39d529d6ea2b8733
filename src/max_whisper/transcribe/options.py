"""How to transcribe a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from max_whisper.decoding.options import DecodingOptions, verify
from max_whisper.decoding.window import Fallback, at_temperature
from max_whisper.errors import OptionError
from max_whisper.transcribe.vad import VadOptions, vad_options

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PREPEND_PUNCTUATIONS = "\"'“¿([{-"
APPEND_PUNCTUATIONS = "\"'.。,，!！?？:：”)]}、"
FRAMES_PER_SECOND = 100


@dataclass(frozen=True)
class TranscribeOptions:
    """How to transcribe a recording; see :func:`transcribe_options` for the plain form.

    Attributes:
        decoding: Options of each window. Temperature, prompt and seed are set window by window.
        fallback: Temperatures, and the thresholds that lead from one to the next. The
            no-speech threshold also decides which windows are skipped.
        condition_on_previous_text: Whether the text so far is each window's prompt.
        initial_prompt: Text that stands in for what came before the first window.
        carry_initial_prompt: Whether it stands before each window's prompt.
        clips: Seconds at which clips start and end, in turn; the last end may be left out.
        word_timestamps: Whether each word gets its times.
        prepend_punctuations: Marks that belong to the word after them.
        append_punctuations: Marks that belong to the word before them.
        hallucination_silence_threshold: With word times, silences longer than this (seconds) are
            skipped where what surrounds them looks invented.
        vad: If given, only what counts as speech by it is heard at all.
        multichannel: Whether each channel is a speaker, and is transcribed by itself.
        speaker_names: What they are called, in the channels' order; "Speaker 1" and so on if empty.
    """

    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    fallback: Fallback = field(default_factory=Fallback)
    condition_on_previous_text: bool = True
    initial_prompt: str | None = None
    carry_initial_prompt: bool = False
    clips: tuple[float, ...] = ()
    word_timestamps: bool = False
    prepend_punctuations: str = PREPEND_PUNCTUATIONS
    append_punctuations: str = APPEND_PUNCTUATIONS
    hallucination_silence_threshold: float | None = None
    vad: VadOptions | None = None
    multichannel: bool = False
    speaker_names: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The most sequences that a window is decoded with side by side."""
        decodings = [at_temperature(self.decoding, t) for t in self.fallback.temperatures]
        return max(decoding.group_size for decoding in decodings)


def transcribe_options(
    *,
    temperature: float | Sequence[float] = TEMPERATURES,
    compression_ratio_threshold: float | None = 2.4,
    logprob_threshold: float | None = -1.0,
    no_speech_threshold: float | None = 0.6,
    condition_on_previous_text: bool = True,
    initial_prompt: str | None = None,
    carry_initial_prompt: bool = False,
    word_timestamps: bool = False,
    prepend_punctuations: str = PREPEND_PUNCTUATIONS,
    append_punctuations: str = APPEND_PUNCTUATIONS,
    clip_timestamps: str | Sequence[float] = "0",
    hallucination_silence_threshold: float | None = None,
    vad_filter: bool = False,
    vad_parameters: VadOptions | Mapping[str, Any] | None = None,
    multichannel: bool = False,
    speaker_names: str | Sequence[str] | None = None,
    **decode_options: Any,
) -> TranscribeOptions:
    """Options under the names that openai-whisper's ``transcribe`` takes, checked.

    ``vad_filter`` and ``vad_parameters`` are faster-whisper's.

    Args:
        temperature: One temperature, or several to try in turn.
        compression_ratio_threshold: See :class:`~max_whisper.decoding.window.Fallback`.
        logprob_threshold: See there.
        no_speech_threshold: See there.
        condition_on_previous_text: See :class:`TranscribeOptions`.
        initial_prompt: See there.
        carry_initial_prompt: See there.
        word_timestamps: See there.
        prepend_punctuations: See there.
        append_punctuations: See there.
        clip_timestamps: Seconds joined by commas, or a list: start,end,start,end,...
        hallucination_silence_threshold: See :class:`TranscribeOptions`.
        vad_filter: Whether silence is left out before anything is transcribed.
        vad_parameters: What counts as speech: options, or a dict of some of them.
        multichannel: See :class:`TranscribeOptions`.
        speaker_names: Names joined by commas, or a list; see there.
        decode_options: See :class:`~max_whisper.decoding.options.DecodingOptions`.

    Raises:
        OptionError: For options that make no sense.
        TypeError: For a name that is no option.
    """
    temperatures = (temperature,) if isinstance(temperature, (int, float)) else tuple(temperature)
    if not temperatures:
        raise OptionError("temperature is empty; give at least one")
    if "prompt" in decode_options:
        raise OptionError("each window has a prompt of its own: use initial_prompt")
    options = TranscribeOptions(
        DecodingOptions(**decode_options),
        Fallback(temperatures, compression_ratio_threshold, logprob_threshold, no_speech_threshold),
        condition_on_previous_text,
        initial_prompt,
        carry_initial_prompt,
        _clips(clip_timestamps),
        word_timestamps,
        prepend_punctuations,
        append_punctuations,
        hallucination_silence_threshold,
        vad_options(vad_filter, vad_parameters),
        multichannel,
        _names(multichannel, speaker_names),
    )
    for each in temperatures:
        verify(at_temperature(options.decoding, each))
    if options.decoding.task == "lang_id":
        raise OptionError("task lang_id is for single windows: use detect_language")
    return replace(options, decoding=_plain(options.decoding))


def _clips(given: str | Sequence[float]) -> tuple[float, ...]:
    try:
        clips = tuple(float(s) for s in given.split(",") if given) if isinstance(given, str) else tuple(given)
    except ValueError as error:
        raise OptionError(f"clip_timestamps is {given!r}; it must be seconds joined by commas") from error
    if any(not 0 <= second < float("inf") for second in clips):
        raise OptionError(f"clip_timestamps is {given!r}; seconds can't be negative or endless")
    return clips


def _names(multichannel: bool, given: str | Sequence[str] | None) -> tuple[str, ...]:
    if not given:
        return ()
    if not multichannel:
        raise OptionError("speaker_names requires multichannel: without it nobody tells speakers apart")
    names = tuple(name.strip() for name in (given.split(",") if isinstance(given, str) else given))
    if not all(name.isprintable() and name for name in names) or len(set(names)) < len(names):
        raise OptionError(f"speaker_names is {given!r}; each must be one line of text, and no two the same")
    return names


def _plain(options: DecodingOptions) -> DecodingOptions:
    """The options with whatever can be read only once turned into a list."""
    given = options.suppress_tokens
    if given is None or isinstance(given, str):
        return options
    return replace(options, suppress_tokens=list(given))
