"""Ids, texts and words over the checkpoints' vocabularies, as openai-whisper has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from max_whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer

GOLDEN = json.loads((Path(__file__).parent.parent / "data" / "text" / "tokenizer.json").read_text("utf-8"))
NAMES = [
    name
    for name in GOLDEN["cases"][0]
    if name not in ("setting", "encoded", "sequences", "special_tokens", "all_language_tokens")
]


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_languages_are_in_order() -> None:
    assert [list(item) for item in LANGUAGES.items()] == GOLDEN["languages"]["codes"]
    assert GOLDEN["languages"]["names"] == TO_LANGUAGE_CODE


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: str(case["setting"]))
def test_tokenizer(case: dict[str, Any]) -> None:
    tokenizer = get_tokenizer(**case["setting"])
    assert {name: plain(getattr(tokenizer, name)) for name in NAMES} == {name: case[name] for name in NAMES}
    assert list(tokenizer.all_language_tokens) == case["all_language_tokens"]
    assert [tokenizer.decode([token]) for token in tokenizer.all_language_tokens] == [
        f"<|{code}|>" for code in tokenizer.all_language_codes
    ]
    assert len(tokenizer.special_tokens) == case["special_tokens"]
    for text, ids in zip(GOLDEN["texts"], case["encoded"]):
        assert tokenizer.encode(text) == ids
    for sequence in case["sequences"]:
        ids = sequence["ids"]
        assert tokenizer.decode(ids) == sequence["text"]
        assert tokenizer.decode_with_timestamps(ids) == sequence["timed"]
        assert list(tokenizer.split_to_word_tokens(ids)) == sequence["words"]
        assert list(tokenizer.split_tokens_on_spaces(ids)) == sequence["spaces"]
        assert list(tokenizer.split_tokens_on_unicode(ids)) == sequence["characters"]


def test_special_tokens_in_text_must_be_allowed() -> None:
    tokenizer = get_tokenizer(True)
    with pytest.raises(ValueError, match="disallowed special token"):
        tokenizer.encode("<|endoftext|>")
    assert tokenizer.encode("<|endoftext|>", allowed_special="all") == [tokenizer.eot]
