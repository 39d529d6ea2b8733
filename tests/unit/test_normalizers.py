"""Normalized text as openai-whisper's normalizers make it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from max_whisper.normalizers import (
    BasicTextNormalizer,
    EnglishNumberNormalizer,
    EnglishSpellingNormalizer,
    EnglishTextNormalizer,
)

GOLDEN = json.loads((Path(__file__).parent.parent / "data" / "text" / "normalizers.json").read_text("utf-8"))


@pytest.mark.parametrize("index", range(len(GOLDEN["sentences"])))
def test_text(index: int) -> None:
    sentence = GOLDEN["sentences"][index]
    assert EnglishTextNormalizer()(sentence) == GOLDEN["english"][index]
    assert BasicTextNormalizer()(sentence) == GOLDEN["basic"][index]
    letters = BasicTextNormalizer(remove_diacritics=True, split_letters=True)
    assert letters(sentence) == GOLDEN["letters"][index]


def test_numbers_and_spelling() -> None:
    assert EnglishNumberNormalizer()("two hundred and five") == "205"
    assert EnglishSpellingNormalizer()("colour") == "color"
