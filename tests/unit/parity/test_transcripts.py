from __future__ import annotations

import random

import jiwer
import pytest

from max_whisper.parity.transcripts import (
    compare_transcripts,
    edit_distance,
    first_difference,
    marked,
    stopped_early,
    word_error_rate,
)


def result(*segments: tuple[int, float, str, list[int]]) -> dict[str, object]:
    return {
        "text": "".join(text for _, _, text, _ in segments),
        "language": "en",
        "segments": [
            {"seek": seek, "start": 0.0, "end": end, "text": text, "tokens": tokens}
            for seek, end, text, tokens in segments
        ],
    }


def test_error_rates_equal_jiwers() -> None:
    generator = random.Random(0)
    for _ in range(50):
        texts = [" ".join(generator.choices("abcdefg", k=generator.randint(1, 30))) for _ in range(2)]
        assert word_error_rate(texts[0], texts[1], "de") == pytest.approx(jiwer.wer(*texts))


def test_nothing_against_nothing_and_against_something() -> None:
    assert edit_distance([], []) == 0
    assert edit_distance([], ["a"]) == edit_distance(["a"], []) == 1
    assert word_error_rate("", "", "en") == 0
    assert word_error_rate("", "invented", "en") == float("inf")
    assert word_error_rate("said", "", "en") == 1


def test_spelling_and_signs_are_no_errors_in_english() -> None:
    assert word_error_rate("The colour, isn't it?", "the color is not it", "en") == 0


def test_first_difference() -> None:
    assert first_difference([1, 2], [1, 2]) is None
    changed = first_difference([1, 2, 3], [1, 9, 3])
    assert changed is not None and (changed.position, changed.expected, changed.found) == (1, 2, 9)
    longer = first_difference([1], [1, 5])
    assert longer is not None and (longer.position, longer.expected, longer.found) == (1, None, 5)


def test_differences_are_marked_in_place() -> None:
    assert marked("ask not what", "ask knot what") == [
        ("equal", "ask", "ask"),
        ("replace", "not", "knot"),
        ("equal", "what", "what"),
    ]


def test_stopping_after_the_first_window_is_told() -> None:
    whole = result((0, 27.0, " one", [1]), (2700, 55.0, " two", [2]))
    cut = result((0, 27.0, " one", [1]))
    assert "ends at 27.00 s" in str(stopped_early(whole, cut))
    assert stopped_early(whole, whole) is None
    assert stopped_early(cut, whole) is None


def test_a_text_of_the_same_length_is_not_the_same_text() -> None:
    reference, found = result((0, 2.0, " ask not", [1, 2])), result((0, 2.0, " ask now", [1, 3]))
    compared = compare_transcripts("max", reference, found, language="en")
    assert compared.length_ratio == 1
    assert compared.word_error_rate == 0.5
    assert compared.same_tokens is False and str(compared.difference) == "token 1: 3, the reference has 2"


def test_an_engine_without_tokens_is_not_said_to_agree() -> None:
    found = {"text": " ask not", "language": "en", "segments": []}
    compared = compare_transcripts(
        "t", result((0, 2.0, " ask not", [1])), found, language="en", transcript="ask not what"
    )
    assert compared.same_tokens is None
    assert compared.word_error_rate == 0
    assert compared.transcript_error_rate == pytest.approx(1 / 3)
