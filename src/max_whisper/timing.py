"""Word times under the names and the path that openai-whisper has them at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from max_whisper.transcribe.alignment import dtw, median_filter
from max_whisper.transcribe.options import APPEND_PUNCTUATIONS, PREPEND_PUNCTUATIONS
from max_whisper.transcribe.segments import Segment
from max_whisper.transcribe.words import WordTiming, merge_punctuations, place_words

if TYPE_CHECKING:
    from max_whisper.model import Whisper
    from max_whisper.tokenizer import Tokenizer

__all__ = [
    "WordTiming",
    "add_word_timestamps",
    "dtw",
    "dtw_cpu",
    "dtw_cuda",
    "find_alignment",
    "median_filter",
    "merge_punctuations",
]

dtw_cpu = dtw
# There is one implementation; the name is kept for those who choose by device.
dtw_cuda = dtw


def find_alignment(
    model: Whisper, tokenizer: Tokenizer, text_tokens: Sequence[int], mel: ArrayLike, num_frames: int
) -> list[WordTiming]:
    """When the words of a text are said: see :meth:`max_whisper.Whisper.align_window`."""
    return model.align_window(mel, text_tokens, tokenizer, num_frames)


def add_word_timestamps(
    *,
    segments: list[dict[str, Any]],
    model: Whisper,
    tokenizer: Tokenizer,
    mel: ArrayLike,
    num_frames: int,
    prepend_punctuations: str = PREPEND_PUNCTUATIONS,
    append_punctuations: str = APPEND_PUNCTUATIONS,
    last_speech_timestamp: float,
) -> None:
    """Adds ``words`` to a window's segments, and moves their starts and ends to them, in place.

    Args:
        segments: Dicts as ``transcribe`` returns them.
        model: Finds the words.
        tokenizer: One of the model's.
        mel: The window that the segments come from.
        num_frames: How many of its frames hold speech.
        prepend_punctuations: Marks that belong to the word after them.
        append_punctuations: Marks that belong to the word before them.
        last_speech_timestamp: When the last word before the window ended, in seconds.
    """
    eot = tokenizer.eot
    text = [token for segment in segments for token in segment["tokens"] if token < eot]
    alignment = find_alignment(model, tokenizer, text, mel, num_frames)
    # Ids are given at the end of transcription, so there may be none yet.
    given = [Segment(**{"id": 0, **segment, "words": None}) for segment in segments]
    placed = place_words(
        given, alignment, eot, prepend_punctuations, append_punctuations, last_speech_timestamp
    )
    for segment, words in zip(segments, placed):
        segment.update(start=words.start, end=words.end, words=words.as_dict()["words"])
