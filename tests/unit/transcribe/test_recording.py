from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from max_whisper.decoding.options import DecodingResult, Trace
from max_whisper.decoding.window import Fallback
from max_whisper.errors import OptionError
from max_whisper.transcribe.cutting import Window, cut_segments, without_emptiness
from max_whisper.transcribe.encoding import is_silent
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.recording import (
    History,
    clip_frames,
    transcribe_recording,
)
from max_whisper.transcribe.scheduler import Scheduler
from max_whisper.transcribe.segments import Language, Progress, Segment
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, MULTILINGUAL, TIMESTAMP_BEGIN, TinyModel, TinyTokenizer

TINY = TinyTokenizer()
WINDOW = Window(1000, 2400)
MODEL = TinyModel(3, end=1.0)


def at(index):
    return TIMESTAMP_BEGIN + index


def text(words):
    return TINY.encode(words)


def cut(tokens, window=WINDOW):
    found = cut_segments(DecodingResult(None, "en", tokens=tokens), window, TINY, DIMS, 7)
    return found, [(s.start, s.end, s.text) for s in found.segments]


def test_the_next_window_starts_where_the_last_complete_segment_ends():
    found, segments = cut([at(0), *text("one"), at(5), at(6), *text("two"), at(10), at(10), *text("thr")])
    assert segments == [(10.0, 13.0, "one"), (13.6, 16.0, "two")]
    assert found.seek == 1000 + 10 * 60
    assert not found.closed
    assert [s.id for s in found.segments] == [7, 8]


def test_a_lone_timestamp_at_the_end_ends_the_window():
    found, segments = cut([at(0), *text("one"), at(5), at(5), *text("two"), at(9)])
    assert segments == [(10.0, 13.0, "one"), (13.0, pytest.approx(15.4), "two")]
    assert found.closed and found.seek == 3400


@pytest.mark.parametrize(
    ("tokens", "end"),
    [([at(0), *text("one")], 34.0), ([at(0), *text("one"), at(5)], 13.0), (text("one"), 34.0)],
)
def test_without_a_pair_all_is_one_segment(tokens, end):
    found, segments = cut(tokens)
    assert segments == [(10.0, end, "one")]
    assert found.seek == 3400


def test_no_tokens_are_a_segment_without_text():
    found, segments = cut([])
    assert segments == [(10.0, 34.0, "")]
    assert without_emptiness(found.segments[0]).tokens == ()


def test_what_has_no_duration_is_emptied():
    found, _ = cut([at(3), *text("one"), at(3), at(3), *text("two"), at(4), at(4)])
    first, second = map(without_emptiness, found.segments)
    assert (first.text, first.tokens, first.words) == ("", (), None)
    assert second.text == "two"


@pytest.mark.parametrize(
    ("clips", "frames"),
    [
        ("", [(0, 5000)]),
        ("0", [(0, 5000)]),
        ("1.5,2", [(150, 200)]),
        ([1, 2, 3.004], [(100, 200), (300, 5000)]),
        ("10,99", [(1000, 5000)]),
        ("60", [(6000, 5000)]),
    ],
)
def test_clips_end_where_the_recording_does(clips, frames):
    assert clip_frames(transcribe_options(clip_timestamps=clips).clips, 5000) == frames


def test_history_gives_all_since_it_was_told_to_forget():
    history = History([1, 2], carry=False, room=5)
    assert history.prompt() == [1, 2]
    history.tokens.extend([3, 4])
    assert history.prompt() == [1, 2, 3, 4]
    history.forget()
    history.tokens.append(5)
    assert history.prompt() == [5]
    assert history.said == [3, 4, 5]


def test_a_carried_prompt_stays_in_front_and_leaves_the_rest_its_room():
    history = History([1, 2], carry=True, room=5)
    history.tokens.extend([3, 4, 5, 6])
    assert history.prompt() == [1, 2, 4, 5, 6]
    history.forget()
    history.tokens.append(7)
    assert history.prompt() == [1, 2, 7]


@pytest.mark.parametrize(
    ("no_speech", "logprob", "thresholds", "silent"),
    [
        (0.7, -1.5, (0.6, -1.0), True),
        (0.7, -0.5, (0.6, -1.0), False),
        (0.5, -1.5, (0.6, -1.0), False),
        (0.7, -0.5, (0.6, None), True),
        (0.7, -1.5, (None, -1.0), False),
    ],
)
def test_silence_is_unlikely_speech_without_a_likely_text(no_speech, logprob, thresholds, silent):
    result = DecodingResult(None, "en", avg_logprob=logprob, no_speech_prob=no_speech)
    limits = Fallback(no_speech_threshold=thresholds[0], logprob_threshold=thresholds[1])
    assert is_silent(result, limits) is silent


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": ()}, "temperature"),
        ({"clip_timestamps": "1,b"}, "clip_timestamps"),
        ({"clip_timestamps": [-1.0]}, "clip_timestamps"),
        ({"clip_timestamps": "nan"}, "clip_timestamps"),
        ({"prompt": "x"}, "initial_prompt"),
        ({"task": "lang_id"}, "detect_language"),
        ({"patience": 2.0}, "patience"),
        ({"temperature": (0.0, -0.2)}, "temperature"),
        ({"word_timestamps": "quick"}, "word_timestamps is 'quick'; it must be True, False or 'fast'"),
    ],
)
def test_options_that_make_no_sense_are_named(options, named):
    with pytest.raises(OptionError, match=named):
        transcribe_options(**options)


def test_an_unknown_option_is_an_error():
    with pytest.raises(TypeError, match="beam_sise"):
        transcribe_options(beam_sise=5)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, 1),
        ({"beam_size": 5, "temperature": 0}, 5),
        ({"beam_size": 3, "best_of": 4}, 4),
        ({"best_of": 4, "temperature": 0}, 1),
        ({"beam_size": 5, "temperature": 0.5}, 1),
    ],
)
def test_rows_are_those_of_the_widest_search_that_may_come(options, rows):
    assert transcribe_options(**options).rows == rows


def transcribe(frames, runtime, **options):
    mel = np.zeros((DIMS.n_mels, frames + 3000), np.float32)
    mel[:, :frames] = np.arange(frames) % 5
    chosen = transcribe_options(**options)
    scheduler = Scheduler(runtime)
    job = scheduler.submit(
        transcribe_recording(
            mel, MULTILINGUAL, lambda language, task: TinyTokenizer(language or "en", task), chosen, [(0, 0)]
        ),
        chosen.rows,
    )
    while scheduler.step():
        pass
    return job


def test_events_tell_language_segments_and_progress():
    job = transcribe(4000, MockRuntime(DIMS, MODEL.logits, MODEL.features))
    events = list(job.events)
    assert isinstance(events[0], Language) and events[0].code == job.result().language
    assert [e for e in events if isinstance(e, Segment)] == list(job.result().segments)
    progress = [e for e in events if isinstance(e, Progress)]
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert progress[-1] == Progress(4000, 4000)


@pytest.mark.parametrize(("frames", "shared"), [(3500, 1), (2500, 0)])
def test_the_window_that_told_the_language_is_not_encoded_again(frames, shared):
    def encodings(**options):
        runtime = MockRuntime(DIMS, MODEL.logits, MODEL.features)
        return transcribe(frames, runtime, **options).result().language, runtime.encodings

    language, detecting = encodings()
    _, given = encodings(language=language)
    assert detecting == given + 1 - shared


def test_a_model_that_stays_where_it_is_does_not_hold_the_recording_up():
    def stuck(history, features):
        logits = np.full(DIMS.n_vocab, -9.0, np.float32)
        logits[TIMESTAMP_BEGIN] = 9
        return logits

    runtime = MockRuntime(DIMS, stuck, MODEL.features)
    job = transcribe(9000, runtime, without_timestamps=True, temperature=0, no_speech_threshold=None)
    assert job.result().text == ""
    assert {segment.seek for segment in job.result().segments} == {0, 3000, 6000}


def test_segments_as_dicts_have_openai_whispers_keys():
    job = transcribe(3000, MockRuntime(DIMS, MODEL.logits, MODEL.features), no_speech_threshold=None)
    result = job.result().as_dict()
    assert list(result) == ["text", "segments", "language"]
    expected = "id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob"
    assert " ".join(result["segments"][0]) == expected
    assert isinstance(result["segments"][0]["tokens"], list)


def test_hotwords_stand_before_every_prompt_and_leave_the_rest_its_room():
    history = History([1], carry=False, room=5, hotwords=[8, 9])
    assert history.prompt() == [8, 9, 1]
    history.tokens.extend([3, 4, 5, 6])
    assert history.prompt() == [8, 9, 4, 5, 6]
    assert history.prompt(hotwords=False) == [1, 3, 4, 5, 6]
    history.forget()
    assert history.prompt() == [8, 9]
    carried = History([1], carry=True, room=5, hotwords=[8, 9])
    carried.tokens.extend([3, 4, 5, 6])
    assert carried.prompt() == [8, 9, 4, 5, 6]
    assert History([], carry=False, room=2, hotwords=[7, 8, 9]).prompt() == [7, 8]


@pytest.mark.parametrize(
    "options", [{"multilingual": True}, {"languages": "de"}, {"language_detection_segments": 2}]
)
def test_an_english_model_has_no_languages_to_find(options):
    mel = np.zeros((DIMS.n_mels, 4000), np.float32)
    work = transcribe_recording(mel, DIMS, TinyTokenizer, transcribe_options(**options))
    with pytest.raises(OptionError, match="knows English only"):
        next(work)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "beam_size": 3},
        {"temperature": 0.8, "best_of": 3},
        {"temperature": 0.0, "prefix": "ab"},
        {"temperature": 0.0, "condition_on_previous_text": False, "without_timestamps": True},
    ],
)
def test_each_token_has_its_log_probability(options):
    def segments(**more):
        runtime = MockRuntime(DIMS, MODEL.logits, MODEL.features)
        return transcribe(4000, runtime, language="en", **options, **more).result().segments

    told = segments(token_logprobs=True)
    assert any(segment.tokens for segment in told)
    for segment, plain in zip(told, segments(), strict=True):
        assert (
            len(segment.token_logprobs) == len(segment.tokens) and max(segment.token_logprobs, default=0) <= 0
        )
        assert segment.as_dict()["token_logprobs"] == list(segment.token_logprobs)
        assert replace(segment, token_logprobs=None) == plain and "token_logprobs" not in plain.as_dict()


def test_log_probabilities_go_with_their_segments():
    tokens = [at(0), *text("one"), at(5), at(6), *text("two"), at(10)]
    logprobs = tuple(-float(i) for i in range(len(tokens) + 1))
    result = DecodingResult(None, "en", tokens=tokens, trace=Trace(logprobs))
    found = cut_segments(result, WINDOW, TINY, DIMS, 0, token_logprobs=True)
    assert [segment.token_logprobs for segment in found.segments] == [logprobs[:5], logprobs[5:10]]
    emptied = without_emptiness(replace(found.segments[0], text=" "))
    assert (emptied.tokens, emptied.token_logprobs) == ((), ())


class Attentive(MockRuntime):
    """With attention that wanders."""

    def scores(self, queries, heads, window):
        chance = np.random.default_rng(3)
        return chance.standard_normal((len(heads), queries.shape[1], 1500)).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"prefix": "ab"}])
def test_fast_words_take_no_further_pass(options):
    """Nor do they change what a window is heard to say."""
    runs = {}
    for way in (False, "fast", True):
        runtime = Attentive(DIMS, TinyModel(4).logits, MODEL.features)
        made_of = {"language": "en", "temperature": 0.0, "clip_timestamps": "0,30", **options}
        first = transcribe(3000, runtime, word_timestamps=way, **made_of).result().segments[0]
        # Decoding with timestamps has no other pass with this token.
        runs[way] = first, any(TINY.no_timestamps in batch.tokens for batch in runtime.passes)
    plain, fast, usual = (runs[way] for way in (False, "fast", True))
    assert (plain[1], fast[1], usual[1]) == (False, False, True)
    assert fast[0].tokens == plain[0].tokens == usual[0].tokens
    assert plain[0].words is None and len(fast[0].words) == len(usual[0].words) > 0
