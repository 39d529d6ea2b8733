"""Recordings in pieces, over a model of tables: the same engine, the same options."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from max_whisper.errors import AudioError, OptionError
from max_whisper.model import Whisper
from max_whisper.transcribe import prepared
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.pieces import InOrder
from max_whisper.transcribe.recording import transcribe_recording
from max_whisper.transcribe.scheduler import Scheduler
from max_whisper.transcribe.segments import Language, Progress, Segment, Transcript
from support.mock_runtime import MockRuntime
from support.tiny import LANGUAGES, MULTILINGUAL, TinyModel, TinyTokenizer

TABLES = TinyModel(3, end=1.0)
SECOND = 16000


class TinyWhisper(Whisper):
    def __init__(self):
        self.mock = MockRuntime(MULTILINGUAL, TABLES.logits, TABLES.features)
        super().__init__(self.mock, None)

    def tokenizer(self, language=None, task=None):
        return TinyTokenizer(language or "en", task or "transcribe")


@pytest.fixture
def model(monkeypatch):
    """A model of tables that calls samples of 1 speech; its spectrogram shows their number's digits."""

    def spectrogram(audio, n_mels, padding):
        if isinstance(audio, str):
            raise AudioError(f"{audio}: no such file")
        frames = len(audio) // 160
        mel = np.zeros((n_mels, frames + padding // 160), np.float32)
        mel[:, :frames] = audio[: frames * 160 : 160] * (1 + np.arange(frames) // 7 % 5)
        return mel

    def ones(samples, options, detect=None):
        edges = np.flatnonzero(np.diff(samples == 1, prepend=False, append=False))
        return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

    monkeypatch.setattr(prepared, "read_log_mel", spectrogram)
    monkeypatch.setattr(
        prepared, "LogMel", lambda pieces, *rest: spectrogram(np.concatenate(list(pieces)), *rest)
    )
    monkeypatch.setattr(prepared, "speech_timestamps", ones)
    monkeypatch.setattr(prepared, "silero", lambda samples: samples[::512].tolist())
    return TinyWhisper()


def speech(*seconds):
    """Speech and silence in turn, so many seconds of each."""
    kinds = (np.arange(len(seconds)) + 1) % 2
    return np.repeat(kinds, np.round(np.array(seconds) * SECOND).astype(int)).astype(np.float32)


LONG = speech(22, 1, 25, 1, 18, 1, 29, 1, 12, 6, 9)
PLAIN = {"no_speech_threshold": None, "language": "en"}


def pieces_of(segments):
    return sorted({segment["seek"] for segment in segments})


def test_a_recording_in_pieces_is_in_order(model):
    events = list(model.events(LONG, transcribe_options(batch_size=4, **PLAIN)))
    segments = [event for event in events if isinstance(event, Segment)]
    result = model.transcribe(LONG, batch_size=4, **PLAIN)
    assert [segment.as_dict() for segment in segments] == result["segments"]
    assert [segment.id for segment in segments] == list(range(len(segments)))
    seeks = [segment.seek for segment in segments]
    assert seeks == sorted(seeks) and len(set(seeks)) >= 4
    assert all(before.start <= after.start for before, after in pairwise(segments))
    assert all(segment.start >= segment.seek / 100 for segment in segments)
    assert result["text"] == "".join(segment.text for segment in segments)
    done = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in done] == sorted(event.done for event in done)
    assert done[-1] == Progress(len(LONG) // 160, len(LONG) // 160)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_the_text_does_not_depend_on_how_many_pieces_share_a_batch(model, batch_size):
    assert model.transcribe(LONG, batch_size=batch_size, **PLAIN) == model.transcribe(
        LONG, batch_size=3, **PLAIN
    )


def test_a_piece_is_transcribed_as_if_it_were_alone(model):
    result = model.transcribe(LONG, batch_size=3, initial_prompt="abc", **PLAIN)
    options = transcribe_options(batch_size=3, initial_prompt="abc", **PLAIN)
    prepared = model.prepare(LONG, options)
    works, lengths = model._transcriber.pieces(prepared, options)
    assert sum(lengths) == len(LONG) // 160 and len(works) == len(lengths) >= 4
    alone, start = [], 0
    for length in lengths:
        scheduler = Scheduler(MockRuntime(MULTILINGUAL, TABLES.logits, TABLES.features))
        piece = (start, start + length)
        work = transcribe_recording(prepared.mel, MULTILINGUAL, model.tokenizer, options, piece=piece)
        job = scheduler.submit(work, options.rows)
        while scheduler.step():
            pass
        alone += job.result().segments
        start += length
    numbered = [replace(segment, id=i).as_dict() for i, segment in enumerate(alone)]
    assert result["segments"] == numbered


def test_a_recording_of_one_piece_is_as_without_a_batch(model):
    for audio in (speech(20), speech(29.9), speech(0.5), np.zeros(0, np.float32)):
        assert model.transcribe(audio, batch_size=4, **PLAIN) == model.transcribe(audio, **PLAIN)


FORGETFUL = {"initial_prompt": "some words", "condition_on_previous_text": False}
EFFECTS = {
    "task": {"task": "translate"},
    "language": {"language": "de"},
    "temperature": {"temperature": 0.7},
    "best_of": {"temperature": 0.7, "best_of": 3},
    "seed": {"temperature": 0.7, "seed": 5},
    "beam_size": {"beam_size": 3},
    "patience": {"beam_size": 3, "patience": 3.0},
    "length_penalty": {"beam_size": 3, "length_penalty": 1.0},
    "sample_len": {"sample_len": 3},
    "suppress_tokens": {"suppress_tokens": "0,1,2,3"},
    "suppress_blank": {"suppress_blank": False, "without_timestamps": True, "initial_prompt": "e"},
    "without_timestamps": {"without_timestamps": True},
    "max_initial_timestamp": {"max_initial_timestamp": 0.1},
    "repetition_penalty": {"repetition_penalty": 3.0},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "initial_prompt": {"initial_prompt": "some words"},
    "carry_initial_prompt": {"carry_initial_prompt": True, **FORGETFUL},
    "condition_on_previous_text": {"condition_on_previous_text": False},
    "prompt_reset_on_temperature": {"temperature": 0.7, "prompt_reset_on_temperature": 0.9},
    "hotwords": {"hotwords": "names"},
    "prefix": {"prefix": "once"},
    "clip_timestamps": {"clip_timestamps": "5,60,80"},
    "compression_ratio_threshold": {"compression_ratio_threshold": 0.1},
    "logprob_threshold": {"logprob_threshold": -0.01},
    "no_speech_threshold": {"no_speech_threshold": 0.0, "logprob_threshold": -0.01},
    "vad_filter": {"vad_filter": True},
    "multilingual": {"multilingual": True, "language": None},
    "languages": {"language": None, "languages": "fr,de"},
    "token_logprobs": {"token_logprobs": True},
}
# What these are compared with, where that is not the run without any.
AGAINST = {
    "best_of": {"temperature": 0.7},
    "seed": {"temperature": 0.7},
    "patience": {"beam_size": 3},
    "length_penalty": {"beam_size": 3},
    "carry_initial_prompt": FORGETFUL,
    "prompt_reset_on_temperature": {"temperature": 0.7},
    "suppress_blank": {"without_timestamps": True, "initial_prompt": "e"},
    "no_speech_threshold": {"logprob_threshold": -0.01},
}
LADDER = {"temperature": (0.0, 0.6), "compression_ratio_threshold": None, "logprob_threshold": None}


def in_every_way(model, options):
    """The result of each mode, as one recording and in pieces of several windows."""
    given = {**LADDER, **PLAIN, **options}
    for pieces in ({}, {"batch_size": 3, "chunk_length": 65}):
        chosen = transcribe_options(**given, **pieces)
        result = model.transcribe(LONG, **given, **pieces)
        yield result
        assert [s.as_dict() for s in model.stream(LONG, **given, **pieces)] == result["segments"]
        many = [event for _, event in model.events_of_many([LONG], chosen)]
        assert [e.as_dict() for e in many if isinstance(e, Transcript)] == [result]


@pytest.mark.parametrize("name", EFFECTS)
def test_every_option_counts_in_every_mode(model, name):
    plain = list(in_every_way(model, AGAINST.get(name, {})))
    changed = list(in_every_way(model, EFFECTS[name]))
    for before, after in zip(plain, changed):
        assert before != after


def test_the_options_tested_are_those_that_there_are():
    known = set(transcribe_options.__kwdefaults__) | set(vars(transcribe_options().decoding))
    elsewhere = {
        # with words: tests of words
        *("word_timestamps", "prepend_punctuations", "append_punctuations"),
        "hallucination_silence_threshold",
        # of language.py and vad.py, before there are pieces
        *("language_detection_segments", "language_detection_threshold", "vad_parameters"),
        # of channels.py: each channel is a recording
        *("multichannel", "speaker_names"),
        # these make pieces
        *("batch_size", "chunk_length"),
        # refused, or without effect by contract
        *("prompt", "fp16"),
    }
    assert known == set(EFFECTS) | elsewhere


def test_a_prefix_begins_the_recording_and_no_later_piece(model):
    result = model.transcribe(LONG, batch_size=3, prefix="once upon", **PLAIN)
    assert result["text"].startswith(" once upon")
    assert result["text"].count("once upon") == 1
    alone = model.transcribe(speech(20), prefix="once upon", **PLAIN)
    assert alone["text"].startswith(" once upon")
    assert alone["segments"][0]["tokens"][0] == TinyTokenizer().timestamp_begin
    later = model.transcribe(LONG, prefix="once upon", clip_timestamps="30,50", **PLAIN)
    assert later["segments"][0]["text"].startswith(" once upon")


def test_a_prefix_that_leaves_no_room_is_refused(model):
    with pytest.raises(OptionError, match="prefix takes 41 tokens; there is room for 31"):
        model.transcribe(speech(20), prefix="x" * 39, **PLAIN)


def test_the_language_is_told_once_and_first(model):
    options = transcribe_options(batch_size=3, no_speech_threshold=None)
    events = list(model.events(LONG, options))
    alone = list(model.events(LONG, replace(options, batch_size=None)))
    assert isinstance(events[0], Language) and events[0] == alone[0]
    assert sum(isinstance(event, Language) for event in events) == 1


def test_each_window_may_have_its_language(model):
    options = transcribe_options(batch_size=3, multilingual=True, no_speech_threshold=None)
    for pieces in (3, None):
        events = list(model.events(LONG, replace(options, batch_size=pieces)))
        segments = [event for event in events if isinstance(event, Segment)]
        spoken = [segment.language for segment in segments]
        assert set(spoken) <= set(LANGUAGES) and len(set(spoken)) > 1
        assert len({(segment.seek, segment.language) for segment in segments}) == len(
            {segment.seek for segment in segments}
        )
        told = [event.code for event in events if isinstance(event, Language)]
        assert told[0] == spoken[0] and all(before != after for before, after in pairwise(told))
    some = model.transcribe(LONG, multilingual=True, languages=["german"], no_speech_threshold=None)
    assert {segment["language"] for segment in some["segments"]} == {"de"}


def test_speech_alone_is_cut_too_and_times_are_the_recordings(model):
    audio = speech(0, 15, 22, 8, 25, 9, 14, 1, 14)
    result = model.transcribe(audio, vad_filter=True, batch_size=2, **PLAIN)
    plain = model.transcribe(audio, vad_filter=True, **PLAIN)
    assert result["segments"][0]["seek"] == plain["segments"][0]["seek"] == 1500
    starts = [segment["start"] for segment in result["segments"]]
    assert starts == sorted(starts) and starts[-1] == 79
    nothing = model.transcribe(speech(0, 70), vad_filter=True, batch_size=2, **PLAIN)
    assert nothing == {"text": "", "segments": [], "language": "en"}


def test_an_error_ends_its_recording_alone(model):
    options = transcribe_options(batch_size=2, **PLAIN)
    heard = list(model.events_of_many(["none.wav", LONG, speech(20)], options))
    last = dict(heard)
    assert isinstance(last[0], AudioError)
    assert last[1].as_dict() == model.transcribe(LONG, batch_size=2, **PLAIN)
    assert isinstance(last[2], Transcript)
    with pytest.raises(AudioError):
        model.transcribe("none.wav", batch_size=2)
    with pytest.raises(OptionError, match="prefix"):
        model.transcribe(LONG, batch_size=2, prefix="x" * 99, **PLAIN)


def test_a_stream_that_is_closed_holds_nothing(model):
    stream = model.stream(LONG, batch_size=3, **PLAIN)
    next(stream)
    stream.close()
    assert model.transcribe(LONG, batch_size=3, **PLAIN)["text"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"chunk_length": 20}, "needs batch_size"),
        ({"batch_size": 2, "chunk_length": 0.5}, "chunk_length is 0.5"),
        ({"multilingual": True, "language": "en"}, "leave language out"),
        ({"languages": "en", "language": "en"}, "leave language out"),
        ({"multilingual": True, "language_detection_segments": 2}, "has no part in it"),
        ({"languages": "klingon"}, "klingon"),
        ({"language_detection_segments": 0}, "at least 1"),
        ({"language_detection_threshold": 2}, "from 0 to 1"),
    ],
)
def test_options_without_sense_are_refused(options, reason):
    with pytest.raises(OptionError, match=reason):
        transcribe_options(**options)


def test_order_is_kept_whoever_is_first():
    def segment(piece, number):
        return Segment(number, piece * 100, piece, piece + 1, f"{piece}{number} ", (), 0.0, 0.0, 1.0, 0.0)

    order = InOrder([100, 300, 100], 1000)
    assert list(order.take(2, segment(2, 0))) == []
    assert list(order.take(2, Transcript("c", (), "en"))) == [Progress(200, 1000)]
    assert list(order.take(0, segment(0, 0))) == [segment(0, 0)]
    assert list(order.take(1, segment(1, 0))) == []
    assert list(order.take(1, Progress(3, 4))) == []
    assert list(order.take(0, Transcript("a", (), "en"))) == [
        replace(segment(1, 0), id=1),
        Progress(400, 1000),
    ]
    *told, last = order.take(1, Transcript("b", (), "en"))
    assert told == [replace(segment(2, 0), id=2), Progress(1000, 1000)]
    assert (last.text, [s.id for s in last.segments], last.language) == ("abc", [0, 1, 2], "en")
