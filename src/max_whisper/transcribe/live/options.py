"""How to transcribe a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from max_whisper.decoding.options import DecodingOptions, verify
from max_whisper.errors import OptionError
from max_whisper.tokenizer import language_code
from max_whisper.transcribe.language import Detection, detection_options
from max_whisper.transcribe.live.gate import LIVE_VAD
from max_whisper.transcribe.options import APPEND_PUNCTUATIONS, PREPEND_PUNCTUATIONS, transcribe_options
from max_whisper.transcribe.vad import VadOptions, vad_options

#: Of a piece, no more than this (seconds) is taken at a time: the model hears 30 s at once.
LONGEST_STEP = 5.0
#: At this length (seconds) the audio is cut whatever was agreed.
LONGEST_BUFFER = 25.0

# Options of a window that a stream follows; the others belong to searches that it does not do.
_DECODING = ("suppress_tokens", "suppress_blank", "repetition_penalty", "no_repeat_ngram_size", "fp16")


@dataclass(frozen=True)
class LiveOptions:
    """How to transcribe a stream; :func:`live_options` checks what is given.

    Attributes:
        decoding: Of each hearing: greedy, without timestamps.
        initial_prompt: Text that stands in for what came before the stream.
        hotwords: Names and terms that stand before each prompt.
        detection: How the language is found where none is given.
        condition_on_previous_text: Whether what was agreed is the prompt once its audio is cut off.
        min_chunk_size: How many seconds of new audio are waited for before it is heard.
        buffer_trimming_sec: How many seconds of audio are kept before what is agreed is cut off.
        compression_ratio_threshold: A text that compresses better than this repeats itself: what was
            heard anew is not believed.
        logprob_threshold: With the other threshold: text less likely than this is silence.
        no_speech_threshold: Where no speech is likelier than this and text unlikely, it is silence.
        prepend_punctuations: Marks that belong to the word after them.
        append_punctuations: Marks that belong to the word before them.
        vad: If given, only what counts as speech by it is heard, and each pause ends an utterance.
    """

    decoding: DecodingOptions = field(default_factory=lambda: DecodingOptions(without_timestamps=True))
    initial_prompt: str | None = None
    hotwords: str | None = None
    detection: Detection = field(default_factory=Detection)
    condition_on_previous_text: bool = True
    min_chunk_size: float = 1.0
    buffer_trimming_sec: float = 15.0
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    prepend_punctuations: str = PREPEND_PUNCTUATIONS
    append_punctuations: str = APPEND_PUNCTUATIONS
    vad: VadOptions | None = None


def live_options(
    *,
    language: str | None = None,
    task: str = "transcribe",
    languages: str | Sequence[str] | None = None,
    vad_filter: bool = False,
    vad_parameters: VadOptions | Mapping[str, Any] | None = None,
    **options: Any,
) -> LiveOptions:
    """Options under the names that users of openai-whisper and whisper_streaming know, checked.

    Args:
        language: Code or English name; None detects it from the first words.
        task: "transcribe" or "translate".
        languages: Codes or names, in a list or joined by commas: the language is one of them.
        vad_filter: Whether silence is left out.
        vad_parameters: What counts as speech: options, or a dict of some of them. Live, the shortest
            pause is 500 ms and padding 300 ms if they are not given.
        options: Fields of :class:`LiveOptions`, and of its ``decoding``: suppress_tokens,
            suppress_blank, repetition_penalty, no_repeat_ngram_size.

    Raises:
        OptionError: For options that make no sense, or not live.
        TypeError: For a name that is no option.
    """
    if task == "lang_id":
        raise OptionError("task lang_id is for single windows: use detect_language")
    given = {name: options.pop(name) for name in _DECODING if name in options}
    for name in DecodingOptions.__dataclass_fields__:
        if options.get(name) is not None:
            raise OptionError(f"{name} has no effect live, where every hearing is greedy: leave it out")
        options.pop(name, None)
    for name, default in (transcribe_options.__kwdefaults__ or {}).items():
        if name not in LiveOptions.__dataclass_fields__ and options.pop(name, default) not in (None, default):
            raise OptionError(f"{name} is for whole recordings, not for live ones: leave it out")
    if language is not None and languages:
        raise OptionError("languages is for detecting the language: leave language out")
    suppressed = given.get("suppress_tokens")
    if suppressed is not None and not isinstance(suppressed, str):
        given["suppress_tokens"] = list(suppressed)
    decoding = DecodingOptions(
        task=task,
        language=None if language is None else language_code(language),
        without_timestamps=True,
        **given,
    )
    if isinstance(vad_parameters, Mapping):
        vad_parameters = {**_LIVE_VAD, **vad_parameters}
    chosen = vad_options(vad_filter, vad_parameters)
    if chosen is not None and vad_parameters is None:
        chosen = LIVE_VAD
    live = replace(
        LiveOptions(**options),
        decoding=verify(decoding),
        detection=detection_options(languages, 1, None),
        vad=chosen,
    )
    if not 0.1 <= live.min_chunk_size <= LONGEST_STEP:
        raise OptionError(
            f"min_chunk_size is {live.min_chunk_size}; it must be from 0.1 to {LONGEST_STEP:g} s"
        )
    if not 5 <= live.buffer_trimming_sec <= LONGEST_BUFFER:
        raise OptionError(
            f"buffer_trimming_sec is {live.buffer_trimming_sec}; it must be from 5 to {LONGEST_BUFFER:g} s"
        )
    return live


_LIVE_VAD = {name: getattr(LIVE_VAD, name) for name in ("min_silence_duration_ms", "speech_pad_ms")}
