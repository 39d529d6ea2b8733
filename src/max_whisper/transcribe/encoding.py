"""How much of a window is encoded.

The model was trained on windows of thirty seconds. One that has less sound is filled up with
silence, which takes as long to encode as speech. A model may say how much silence it wants to hear
after the sound, and not the rest; what it then makes of the window is looked at, and where it may
have suffered, the whole window is encoded after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.options import DecodingOptions, DecodingResult
from max_whisper.decoding.requests import Encode, Release, Steps
from max_whisper.decoding.window import Fallback, at_temperature, decode_window, decode_with_fallback
from max_whisper.spectrogram import Mel
from max_whisper.transcribe.cutting import Window
from max_whisper.transcribe.language import WINDOW_FRAMES

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer

#: Frames by which a timestamp may lie behind the sound; one step of timestamps is two frames.
_LATE = 100


@dataclass(frozen=True)
class Encoded:
    """An encoded window.

    Attributes:
        number: The scheduler's number of it.
        place: Where it lies in the recording.
        rest: The whole window's log-mel (n_mels, 3000), if only its beginning was encoded.
    """

    number: int
    place: Window
    rest: NDArray[np.float32] | None = None


def encode(mel: Mel, place: Window, silence: int | None) -> Steps[Encoded]:
    """Encodes a window of a recording's log-mel, with ``silence`` frames after it (None: all)."""
    whole = window_of(mel, place)
    frames = WINDOW_FRAMES if silence is None else (place.size + silence + 1) // 2 * 2
    if frames >= WINDOW_FRAMES:
        return Encoded((yield Encode(whole)), place)
    return Encoded((yield Encode(np.ascontiguousarray(whole[:, :frames]))), place, whole)


def window_of(mel: Mel, place: Window) -> NDArray[np.float32]:
    """A window's mel (n_mels, 3000), filled up with zeros."""
    out = np.zeros((mel.shape[0], WINDOW_FRAMES), np.float32)
    out[:, : place.size] = mel[:, place.seek : place.seek + place.size]
    return out


def decode(
    encoded: Encoded,
    options: DecodingOptions,
    fallback: Fallback,
    tokenizer: Tokenizer,
    dims: ModelDimensions,
    *,
    keep_queries: bool = False,
) -> Steps[tuple[DecodingResult, Encoded]]:
    """Decodes a window; the second value is the window as it is encoded now."""
    if encoded.rest is not None:
        first = at_temperature(options, fallback.temperatures[0])
        result = yield from decode_window(encoded.number, first, tokenizer, dims, keep_queries=keep_queries)
        result = ending_in_time(result, encoded.place, tokenizer.timestamp_begin)
        if not is_doubtful(result, encoded.place, fallback, tokenizer.timestamp_begin):
            return result, encoded
        yield Release(window=encoded.number)
        encoded = Encoded((yield Encode(encoded.rest)), encoded.place)
    result = yield from decode_with_fallback(
        encoded.number, options, fallback, tokenizer, dims, keep_queries=keep_queries
    )
    return result, encoded


def ending_in_time(result: DecodingResult, place: Window, timestamp_begin: int) -> DecodingResult:
    """A result whose one segment ends long after the sound, so that it ends with the sound.

    Small models often take some of the silence for the end of what they heard, which is the same with
    more silence; several segments may have been made up in it.
    """
    end = timestamp_begin + place.size // 2
    *said, last = result.tokens or [0]
    first = said.pop(0) if said and said[0] >= timestamp_begin else timestamp_begin
    alone = bool(said) and max(said) < timestamp_begin and first < end
    if not alone or not _is_late([last], place, timestamp_begin):
        return result
    return replace(result, tokens=[*result.tokens[:-1], end])


def _is_late(tokens: Sequence[int], place: Window, timestamp_begin: int) -> bool:
    last = max(tokens, default=0)
    return last > timestamp_begin and 2 * (last - timestamp_begin) > place.size + _LATE


def is_doubtful(result: DecodingResult, place: Window, fallback: Fallback, timestamp_begin: int) -> bool:
    """Whether a window may have suffered from what was not encoded.

    It repeats itself, is uncertain, seems silent, or says something after its end.
    """
    late = _is_late(result.tokens, place, timestamp_begin)
    return late or fallback.rejects(result) or Fallback().rejects(result) or is_silent(result, Fallback())


def is_silent(result: DecodingResult, thresholds: Fallback) -> bool:
    """Whether nobody speaks in a window: unlikely speech, unless its text is likely."""
    if thresholds.no_speech_threshold is None:
        return False
    likely = thresholds.logprob_threshold is not None and result.avg_logprob > thresholds.logprob_threshold
    return result.no_speech_prob > thresholds.no_speech_threshold and not likely
