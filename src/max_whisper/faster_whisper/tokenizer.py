"""A tokenizer that is made as faster-whisper's is."""

from __future__ import annotations

from collections.abc import Sequence

from max_whisper import tokenizer
from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.rules import suppressed_tokens

__all__ = ["Tokenizer", "get_suppressed_tokens"]


class Tokenizer(tokenizer.Tokenizer):
    """A model's vocabulary (``WhisperModel.hf_tokenizer``) with a language and a task."""

    def __init__(
        self,
        tokenizer: tokenizer.Vocabulary,
        multilingual: bool,
        task: str | None = None,
        language: str | None = None,
    ) -> None:
        """Takes them; for an English-only model, task and language are none."""
        super().__init__(tokenizer, language if multilingual else None, task if multilingual else None)


def get_suppressed_tokens(tokenizer: tokenizer.Tokenizer, suppress_tokens: Sequence[int]) -> tuple[int, ...]:
    """The ids that ``suppress_tokens`` stands for, and those that never belong in a transcript."""
    options = DecodingOptions(suppress_tokens=list(suppress_tokens))
    return tuple(sorted(set(suppressed_tokens(options, tokenizer, tokenizer.vocabulary.n_vocab))))
