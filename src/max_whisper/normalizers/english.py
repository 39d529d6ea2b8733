"""The normalizers for English."""

from __future__ import annotations

from whisper_normalizer import english
from whisper_normalizer.english import EnglishNumberNormalizer, EnglishSpellingNormalizer

__all__ = ["EnglishNumberNormalizer", "EnglishSpellingNormalizer", "EnglishTextNormalizer"]

# Rules that the package has added to openai-whisper's; with them word error rates would not be
# comparable to published ones.
_ADDED = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b")


class EnglishTextNormalizer(english.EnglishTextNormalizer):  # type: ignore[misc]
    """Lower case, American spelling, numbers as digits, no fillers, no punctuation."""

    def __init__(self) -> None:
        super().__init__()
        for rule in _ADDED:
            self.replacers.pop(rule, None)
