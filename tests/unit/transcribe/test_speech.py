"""Speech put together, and every time found back; over made-up chunks and a model of tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from max_whisper.model import Whisper
from max_whisper.transcribe import prepared
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.recording import transcribe_recording
from max_whisper.transcribe.scheduler import Scheduler
from max_whisper.transcribe.segments import Language, Progress, Segment, Transcript, Word
from max_whisper.transcribe.speech import SpeechMap
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, MULTILINGUAL, TIMESTAMP_BEGIN, TinyModel, TinyTokenizer

SECOND = 16000
TABLES = TinyModel(3, end=1.0)
TINY = TinyTokenizer()


def speech_of(*seconds, length=100.0, padding=0.4):
    """A map of chunks in seconds."""
    chunks = [(round(start * SECOND), round(end * SECOND)) for start, end in seconds]
    return SpeechMap(chunks, round(length * SECOND), round(padding * SECOND))


def at(index):
    return TIMESTAMP_BEGIN + index


def random_map(seed):
    rng = np.random.default_rng(seed)
    bounds = np.sort(rng.choice(5000, 2 * int(rng.integers(1, 12)), replace=False)) * 320
    return SpeechMap([(int(a), int(b)) for a, b in bounds.reshape(-1, 2)], 5000 * 320, 6400)


def said(start, end, words=None, seek=0):
    words = None if words is None else tuple(Word(" w", a, b, 0.5) for a, b in words)
    return Segment(0, seek, start, end, " w", (1,), 0.0, -0.5, 1.0, 0.1, words)


@pytest.mark.parametrize("seed", range(30))
def test_times_are_found_back_exactly_and_in_order(seed):
    speech = random_map(seed)
    recording = np.arange(speech.length, dtype=np.float32)  # each sample says where it is
    collected = np.concatenate(list(speech.collect(recording)))
    assert len(collected) == sum(end - start for start, end in speech.chunks)
    rng = np.random.default_rng([seed, 1])
    samples = np.sort(rng.integers(0, len(collected), 300))
    joints = np.cumsum([0, *(end - start for start, end in speech.chunks)])[:-1]
    for sample in [*samples.tolist(), *joints.tolist()]:
        time = speech.original(sample / SECOND)
        assert time * SECOND == pytest.approx(float(collected[sample]), abs=1e-6)
        assert speech.collected(time) == pytest.approx(sample / SECOND, abs=1e-9)
    times = [speech.original(second) for second in np.sort(rng.random(500) * (len(collected) / SECOND))]
    assert times == sorted(times)
    moments = [speech.collected(second) for second in np.linspace(0, speech.length / SECOND, 500)]
    assert moments == sorted(moments) and moments[0] == 0
    assert speech.collected(1e6) == len(collected) / SECOND


@pytest.mark.parametrize("seed", range(30))
def test_segments_and_words_keep_their_order_and_do_not_overlap(seed):
    speech = random_map(seed)
    rng = np.random.default_rng([seed, 2])
    total = sum(end - start for start, end in speech.chunks) / SECOND
    # two decimals, as words have; some of no duration
    times = np.sort(np.round(rng.choice(np.round(np.linspace(0, total, 400), 2), 80), 2)).tolist()
    words = [speech.word(Word("", a, b, 1.0)) for a, b in zip(times[::2], times[1::2])]
    placed = [time for word in words for time in (word.start, word.end)]
    assert placed == sorted(placed)
    for word in words:  # none lies in what was left out, even in part
        assert any(a / SECOND <= word.start <= word.end <= b / SECOND for a, b in speech.chunks)
    for start, end in zip(times[::2], times[1::2]):
        first, last = speech.interval(start, end)
        assert 0 <= first <= last <= speech.length / SECOND


def test_without_silence_nothing_changes():
    speech = speech_of((0, 100))
    segment = said(3.16, 7.9, [(3.16, 4.0), (4.0, 7.9)], seek=250)
    assert speech.segment(segment) == segment
    assert [speech.progress(done) for done in (0, 3000, 10000)] == [
        Progress(0, 10000),
        Progress(3000, 10000),
        Progress(10000, 10000),
    ]


def test_a_word_across_a_joint_stays_where_most_of_it_is():
    speech = speech_of((10, 14), (17, 20))
    assert speech.word(Word("", 3.0, 4.2, 1.0)) == Word("", 13.0, 14.0, 1.0)
    assert speech.word(Word("", 3.9, 4.6, 1.0)) == Word("", 17.0, 17.6, 1.0)
    assert speech.word(Word("", 4.0, 4.0, 1.0)) == Word("", 17.0, 17.0, 1.0)


def test_a_segment_across_a_joint_spans_the_silence():
    speech = speech_of((10, 14), (17, 20))
    assert speech.interval(1.0, 6.0) == (11.0, 19.0)
    words = [(1.0, 1.5), (3.5, 4.0), (4.0, 6.0)]
    segment = speech.segment(said(1.0, 6.0, words))
    assert (segment.start, segment.end) == (11.0, 19.0)
    assert [(word.start, word.end) for word in segment.words] == [(11.0, 11.5), (13.5, 14.0), (17.0, 19.0)]


def test_what_only_touches_a_chunk_is_not_in_it():
    speech = speech_of((10, 14), (17, 20))
    assert speech.interval(3.3, 6.0) == (13.3, 19.0)
    assert speech.interval(3.5, 6.0) == (17.0, 19.0)  # starts in the padding before the joint
    assert speech.interval(1.0, 4.3) == (11.0, 14.0)  # ends in the padding after it
    assert speech.interval(3.8, 4.2) == (17.0, 17.2)
    assert speech.interval(4.0, 4.0) == (17.0, 17.0)
    adjoining = speech_of((10, 14), (14, 20))
    assert adjoining.interval(3.7, 6.0) == (13.7, 16.0)


def test_a_segment_agrees_with_its_words():
    speech = speech_of((10, 14), (17, 20))
    segment = speech.segment(said(3.5, 4.45, [(3.5, 4.1), (4.1, 4.45)]))
    assert (segment.start, segment.end) == (13.5, 17.45)
    assert [(word.start, word.end) for word in segment.words] == [(13.5, 14.0), (17.1, 17.45)]
    assert speech.segment(said(3.0, 3.5, [])).words == ()


def test_no_window_reaches_across_a_long_silence():
    speech = speech_of((10, 14), (20, 26), (27, 30))
    assert speech.clips(()) == [0, 4, 4, 13]
    last = speech.segment(said(1.0, 4.0))
    assert (last.seek, last.start, last.end) == (1000, 11.0, 14.0)
    later = speech.segment(said(4.0, 15.0, seek=400))
    assert (later.seek, later.start, later.end) == (2000, 20.0, 30.0)


def test_clips_of_the_recording_become_clips_of_its_speech():
    speech = speech_of((10, 14), (17, 20), (40, 50))
    assert speech.clips([0]) == [0, 7, 7, 17]
    assert speech.clips([12, 18, 30]) == [2, 5, 7, 17]
    assert speech.clips([0, 9, 21, 39]) == [0, 0, 7, 7]
    assert speech.clips([13, 41]) == [3, 7, 7, 8]


def test_no_speech_is_collected_as_nothing():
    assert not list(SpeechMap([], 5 * SECOND).collect(np.ones(5 * SECOND, np.float32)))


def run(mel, runtime, speech=None, **options):
    chosen = transcribe_options(no_speech_threshold=None, **options)
    work = transcribe_recording(
        mel, MULTILINGUAL, lambda language, task: TinyTokenizer(language or "en", task), chosen, (), speech
    )
    scheduler = Scheduler(runtime)
    job = scheduler.submit(work, chosen.rows)
    while scheduler.step():
        pass
    return job


def mel_of(frames):
    mel = np.zeros((DIMS.n_mels, frames + 3000), np.float32)
    mel[:, :frames] = np.arange(frames) % 5
    return mel


def test_a_transcription_of_speech_is_the_same_in_another_time():
    speech = speech_of((10, 40), (43, 60), (61, 80))
    mel = mel_of(6600)
    plain = run(mel, MockRuntime(DIMS, TABLES.logits, TABLES.features))
    placed = run(mel, MockRuntime(DIMS, TABLES.logits, TABLES.features), speech)
    assert placed.result().segments == tuple(map(speech.segment, plain.result().segments))
    assert (placed.result().text, placed.result().language) == (plain.result().text, plain.result().language)
    assert {s.seek for s in placed.result().segments} != {s.seek for s in plain.result().segments}
    done = [event for event in placed.events if isinstance(event, Progress)]
    assert [event.done for event in done] == sorted(event.done for event in done)
    assert done[-1] == Progress(10000, 10000)


def test_what_a_model_makes_up_behind_the_end_of_speech_is_left_out():
    ids = [at(0), *TINY.encode("one"), at(10), at(40), *TINY.encode("two"), at(45), TINY.eot]

    def recites(history, features):
        logits = np.full(DIMS.n_vocab, -9.0, np.float32)
        logits[ids[len(history) - len(TINY.sot_sequence)]] = 9
        return logits

    def outcome(speech, options):
        job = run(mel_of(2000), MockRuntime(DIMS, recites, TABLES.features), speech, **options)
        return job.result().text, [(s.start, s.end, s.text) for s in job.result().segments]

    options = {"language": "en", "temperature": 0}
    assert outcome(None, options) == ("onetwo", [(0.0, 6.0, "one"), (24.0, 27.0, "two")])
    assert outcome(speech_of((50, 70)), options) == ("one", [(50.0, 56.0, "one"), (70.0, 70.0, "")])


class TinyWhisper(Whisper):
    def __init__(self):
        self.mock = MockRuntime(MULTILINGUAL, TABLES.logits, TABLES.features)
        super().__init__(self.mock, None)

    def tokenizer(self, language=None, task=None):
        return TinyTokenizer(language or "en", task or "transcribe")


@pytest.fixture
def model(monkeypatch):
    """A model of tables that calls samples of 1 speech, on a spectrogram of whole numbers."""

    def whole_numbers(audio, n_mels, padding):
        frames = (len(audio) + padding) // 160
        return np.tile((np.arange(frames) * len(audio) % 7).astype(np.float32), (DIMS.n_mels, 1))

    def ones(samples, options, detect):
        edges = np.flatnonzero(np.diff(samples == 1, prepend=False, append=False))
        return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]

    monkeypatch.setattr(prepared, "read_log_mel", whole_numbers)
    monkeypatch.setattr(
        prepared, "LogMel", lambda pieces, *rest: whole_numbers(np.concatenate(list(pieces)), *rest)
    )
    monkeypatch.setattr(prepared, "speech_timestamps", ones)
    return TinyWhisper()


def recording(*seconds):
    """Silence and speech in turn, so many seconds of each."""
    return np.repeat(np.arange(len(seconds)) % 2, np.array(seconds) * SECOND).astype(np.float32)


OPTIONS = {"no_speech_threshold": None, "vad_filter": True}


def test_one_recording_a_stream_and_many_give_the_same(model):
    audios = [recording(20, 35, 3, 10, 30, 40), recording(50), recording(0, 33), recording(9, 7, 9)]
    alone = [model.transcribe(audio, language="en", **OPTIONS) for audio in audios]
    for audio, result in zip(audios, alone):
        streamed = [segment.as_dict() for segment in model.stream(audio, language="en", **OPTIONS)]
        assert streamed == result["segments"]
    outcomes = {}
    many = model.events_of_many(audios, transcribe_options(language="en", **OPTIONS), at_once=3)
    for number, event in many:
        if isinstance(event, Transcript):
            outcomes[number] = event.as_dict()
    assert [outcomes[number] for number in range(4)] == alone
    assert alone[0]["segments"][0]["start"] >= 20
    assert alone[2]["text"]


def test_without_speech_nothing_is_encoded(model):
    events = list(model.events(recording(70), transcribe_options(**OPTIONS)))
    assert events == [Progress(7000, 7000)]
    assert model.transcribe(recording(70), **OPTIONS) == {"text": "", "segments": [], "language": None}
    assert model.transcribe(recording(70), language="fr", **OPTIONS)["language"] == "fr"
    assert model.transcribe(np.zeros(0, np.float32), **OPTIONS)["text"] == ""
    assert model.mock.encodings == 0


def test_the_language_is_that_of_the_speech(model):
    events = list(model.events(recording(50, 20), transcribe_options(**OPTIONS)))
    alone = list(model.events(recording(0, 20), transcribe_options(no_speech_threshold=None)))
    assert isinstance(events[0], Language) and events[0] == alone[0]
    shifted = [
        replace(event, seek=event.seek + 5000, start=event.start + 50, end=min(event.end, 20.0) + 50)
        for event in alone
        if isinstance(event, Segment) and event.start < 20
    ]
    assert [event for event in events if isinstance(event, Segment)] == shifted


def test_clips_hold_in_the_time_of_the_recording(model):
    audio = recording(20, 35, 3, 10, 30, 40)
    result = model.transcribe(audio, clip_timestamps="30,40,100,120", language="en", **OPTIONS)
    assert result["segments"]
    for segment in result["segments"]:
        assert 3000 <= segment["seek"] < 4000 or 10000 <= segment["seek"] < 12000
    nothing = model.transcribe(audio, clip_timestamps="0,15,70,80", language="en", **OPTIONS)
    assert nothing == {"text": "", "segments": [], "language": "en"}
