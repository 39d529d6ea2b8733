"""Whole recordings, token for token what openai-whisper's float32 run on the CPU gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from . import golden
from .conftest import MODELS

CLIPS = (
    "jfk",
    "librivox-0870",
    "librivox-0880",
    "librivox-0890",
    "librivox-0920",
    "librivox-0930",
    "prompts_en",
)
RUNS = ("greedy", "greedy_condition", "greedy_words", "beam5")


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", MODELS)
def test_recording_equals_the_references(model: Callable[[str], Any], name: str, clip: str, run: str) -> None:
    stored = golden.load(name, clip)
    expected = stored["runs"][run]
    result = model(name).transcribe(
        str(golden.audio(clip)), language=stored["language"], **expected["options"]
    )
    assert not golden.differences(expected, result), "\n".join(["", *golden.differences(expected, result)])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("segments", 0, "tokens", 3), 11),
        (("segments", 1, "start"), 7.62),
        (("segments", 1, "avg_logprob"), -0.399),
        (("segments", 0, "no_speech_prob"), 0.094),
        (("text",), " And so"),
        (("segments",), []),
        (("segments", 0, "seek"), 100),
    ],
)
def test_the_comparison_sees(path: tuple[Any, ...], value: Any) -> None:
    expected = golden.load("base", "jfk")["runs"]["greedy"]
    result = copy.deepcopy({**expected, "language": "en"})
    assert not golden.differences(expected, result)
    holder = result
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    assert golden.differences(expected, result)
