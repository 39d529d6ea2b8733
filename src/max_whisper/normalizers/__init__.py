"""Text made comparable for word error rates, as in the Whisper paper's appendix C.

The rules and word lists come from the ``whisper-normalizer`` package; the results are
openai-whisper's.
"""

from max_whisper.normalizers.basic import BasicTextNormalizer
from max_whisper.normalizers.english import (
    EnglishNumberNormalizer,
    EnglishSpellingNormalizer,
    EnglishTextNormalizer,
)

__all__ = [
    "BasicTextNormalizer",
    "EnglishNumberNormalizer",
    "EnglishSpellingNormalizer",
    "EnglishTextNormalizer",
]
