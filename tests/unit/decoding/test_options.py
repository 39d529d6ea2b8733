from __future__ import annotations

import inspect

import pytest

from max_whisper.decoding.options import DecodingOptions, compression_ratio, verify
from max_whisper.decoding.rules import NoRepeatNgram, RepetitionPenalty, rules_for, token_set
from max_whisper.decoding.runtime import Constraint
from max_whisper.decoding.window import Fallback, at_temperature, build_prompt
from max_whisper.errors import MaxWhisperError
from support.tiny import DIMS, IDS, TinyTokenizer


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"beam_size": 2, "best_of": 2}, "best_of"),
        ({"best_of": 2}, "best_of"),
        ({"patience": 1.0}, "patience"),
        ({"beam_size": 1, "patience": 0.1}, "patience"),
        ({"length_penalty": 1.5}, "length_penalty"),
        ({"temperature": -0.1}, "temperature"),
        ({"task": "summarise"}, "task"),
        ({"beam_size": 0}, "beam_size"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ],
)
def test_options_that_make_no_sense_are_named(options, named):
    with pytest.raises(ValueError, match=named) as caught:
        verify(DecodingOptions(**options))
    assert isinstance(caught.value, MaxWhisperError)


@pytest.mark.parametrize("given", ["1,x", "999", [10**6], "-2"])
def test_suppressed_tokens_must_exist(given):
    with pytest.raises(ValueError, match="suppress_tokens"):
        rules_for(DecodingOptions(suppress_tokens=given), TinyTokenizer(), DIMS)


def test_a_prompt_that_leaves_no_room_is_refused():
    options = DecodingOptions(prefix=[1] * 70, prompt=[2] * 70)
    with pytest.raises(ValueError, match="context is 64"):
        build_prompt(options, TinyTokenizer(), DIMS)


def test_a_prompt_keeps_its_end_and_the_start_of_the_transcript_is_known():
    prompt = build_prompt(DecodingOptions(prompt=list(range(30)) * 2), TinyTokenizer(), DIMS)
    assert prompt.tokens[:2] == [IDS["prev"], 29] and prompt.tokens[2:32] == list(range(30))
    assert prompt.tokens[prompt.sot_index :] == [IDS["sot"], IDS["en"], IDS["transcribe"]]


def test_options_of_one_kind_of_search_do_not_reach_the_other():
    options = DecodingOptions(beam_size=5, patience=2.0)
    assert at_temperature(options, 0.4) == DecodingOptions(temperature=0.4)
    assert at_temperature(DecodingOptions(best_of=5), 0.0) == DecodingOptions()


def test_equal_token_sets_are_one():
    assert token_set((1, 2)) is token_set((1, 2))


def test_no_sequence_is_sampled_twice():
    rule = NoRepeatNgram(3)
    assert rule.narrow(Constraint(banned=(9,)), [1, 2, 3, 4, 1, 2]).banned == (9, 3)
    assert rule.narrow(Constraint(), [1, 2]).banned == ()
    assert rule.narrow(Constraint(), []).banned == ()
    assert NoRepeatNgram(1).narrow(Constraint(), [4, 2]).banned == (4, 2)


def test_repeated_tokens_are_told_once_each():
    constraint = RepetitionPenalty(1.2).narrow(Constraint(), [3, 1, 3])
    assert (constraint.repeated, constraint.repetition_penalty) == ((3, 1), 1.2)


@pytest.mark.parametrize(
    ("scores", "rejected"),
    [
        ((2.5, -0.5, 0.0), True),
        ((2.3, -0.5, 0.0), False),
        ((2.3, -1.1, 0.0), True),
        ((2.3, -1.1, 0.7), False),
        ((2.5, -1.1, 0.7), False),
        ((2.5, -0.5, 0.7), True),
    ],
)
def test_what_is_repetitive_or_uncertain_is_rejected_unless_silent(scores, rejected):
    from max_whisper.decoding.options import DecodingResult

    ratio, logprob, silence = scores
    result = DecodingResult(None, "en", compression_ratio=ratio, avg_logprob=logprob, no_speech_prob=silence)
    assert Fallback().rejects(result) is rejected


def test_fields_and_defaults_are_openai_whispers():
    fields = dict(list(inspect.signature(DecodingOptions).parameters.items())[:15])
    assert {name: parameter.default for name, parameter in fields.items()} == {
        "task": "transcribe",
        "language": None,
        "temperature": 0.0,
        "sample_len": None,
        "best_of": None,
        "beam_size": None,
        "patience": None,
        "length_penalty": None,
        "prompt": None,
        "prefix": None,
        "suppress_tokens": "-1",
        "suppress_blank": True,
        "without_timestamps": False,
        "max_initial_timestamp": 1.0,
        "fp16": True,
    }


def test_the_compression_ratio_counts_bytes():
    assert compression_ratio("") == 0
    assert compression_ratio("é" * 100) == pytest.approx(200 / 12, rel=0.2)
