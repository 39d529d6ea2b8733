"""The channels of a call, put in order of time whoever is ahead."""

from __future__ import annotations

import random

import numpy as np
import pytest

from max_whisper.errors import AudioError, AudioWarning, OptionError
from max_whisper.model import Whisper
from max_whisper.transcribe import prepared, transcriber
from max_whisper.transcribe.channels import Channels, merged, opened
from max_whisper.transcribe.options import transcribe_options
from max_whisper.transcribe.segments import Language, Progress, Segment, Transcript
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, MULTILINGUAL, TinyModel, TinyTokenizer


def segment(start, text, number=0):
    return Segment(number, 0, start, start + 1.0, text, (1,), 0.0, -0.5, 1.0, 0.1)


def told(*windows, language="en"):
    """What a channel tells of windows of 10 s: the starts of the segments of each."""
    events, segments = [], []
    for number, starts in enumerate(windows):
        found = [segment(start, f" {start}", len(segments) + i) for i, start in enumerate(starts)]
        segments += found
        events += [*found, Progress((number + 1) * 1000, len(windows) * 1000)]
    return [*events, Transcript("".join(s.text for s in segments), tuple(segments), language)]


def mixed(channels, chance):
    """The events of channels in a random order that keeps each one's own."""
    left = [list(events) for events in channels]
    while any(left):
        number = chance.choice([n for n, events in enumerate(left) if events])
        yield number, left[number].pop(0)


def collect(told_by_channels, names):
    """All events of a recording, and its transcript."""
    events, out = merged((each for each in told_by_channels), names), []
    while True:
        try:
            out.append(next(events))
        except StopIteration as end:
            return out, end.value


CHANNELS = [told([1, 4], [12, 19], [25]), told([2, 4, 9], [], [21, 25]), told([], [], [])]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_is_that_of_time_whoever_is_ahead(seed):
    events, transcript = collect(mixed(CHANNELS, random.Random(seed)), ["A", "B", "C"])
    segments = [event for event in events if isinstance(event, Segment)]
    assert [(s.start, s.speaker) for s in segments] == [
        (1, "A"),
        (2, "B"),
        *((4, "A"), (4, "B")),
        (9, "B"),
        *((12, "A"), (19, "A"), (21, "B")),
        *((25, "A"), (25, "B")),
    ]
    assert [s.id for s in segments] == list(range(10))
    assert transcript.segments == tuple(segments)
    assert transcript.text == "".join(s.text for s in segments)
    progress = [event.done for event in events if isinstance(event, Progress)]
    assert progress == sorted(progress) and progress[-1] == 3000


@pytest.mark.parametrize("seed", range(10))
def test_a_segment_that_starts_before_one_told_earlier_has_one_place_all_the_same(seed):
    # word times may put a start before the window that it comes from
    channels = [told([1], [9, 8.5, 12]), told([8.7, 9.5], [11])]
    _, transcript = collect(mixed(channels, random.Random(seed)), ["A", "B"])
    assert [s.start for s in transcript.segments] == [1, 8.7, 9.5, 9, 8.5, 11, 12]


def test_a_segment_is_told_as_soon_as_nothing_can_come_before_it():
    channels = Channels(["A", "B"])
    first, second = segment(3, " a"), segment(12, " b")
    assert not list(channels.tell(0, first))
    assert list(channels.tell(0, Progress(1000, 3000))) == [Progress(500, 3000)]
    (told_now, _) = channels.tell(1, Progress(1000, 3000))
    assert (told_now.text, told_now.speaker) == (" a", "A")
    assert not list(channels.tell(1, second))
    assert [s.text for s in channels.tell(0, Transcript(" a", (first,), "en"))] == [" b"]
    assert channels.transcript is None
    assert not list(channels.tell(1, Transcript(" b", (second,), "en")))
    assert channels.transcript.text == " a b"


def test_each_speaker_has_a_language_and_the_transcript_that_of_who_says_most():
    channels = [told([1], language="en"), told([2, 3, 4], language="de")]
    events = [(0, Language("en", 0.9)), *((0, e) for e in channels[0]), *((1, e) for e in channels[1])]
    out, transcript = collect(events, ["A", "B"])
    assert out[0] == Language("en", 0.9, "A")
    assert transcript.language == "de"
    result = transcript.as_dict()
    assert result["speakers"] == [
        {"speaker": "A", "language": "en", "text": " 1"},
        {"speaker": "B", "language": "de", "text": " 2 3 4"},
    ]
    assert [s["speaker"] for s in result["segments"]] == ["A", "B", "B", "B"]
    assert "speaker" not in segment(1, "a").as_dict()
    assert set(Transcript("", (), "en").as_dict()) == {"text", "segments", "language"}


def test_names():
    assert opened(call(1, 0.1, 0.2))[0] == ("Speaker 1", "Speaker 2")
    assert opened(call(1, 0.1, 0.2), ("Ann", "Bob"))[0] == ("Ann", "Bob")
    with pytest.raises(AudioError, match="2 channels, and 3 speakers are named"):
        opened(call(1, 0.1, 0.2), ("a", "b", "c"))
    assert transcribe_options(multichannel=True, speaker_names="Ann, Bob").speaker_names == ("Ann", "Bob")
    for names in ("Ann", ["Ann"]):
        with pytest.raises(OptionError, match="requires multichannel"):
            transcribe_options(speaker_names=names)
    for names in ("Ann,", "Ann,Ann", ["A\nB", "C"]):
        with pytest.raises(OptionError, match="no two the same"):
            transcribe_options(multichannel=True, speaker_names=names)


class TinyWhisper(Whisper):
    """A model of tables, which writes down how many windows share a pass."""

    def __init__(self):
        tables = TinyModel(3, end=1.0)
        self.runtime = MockRuntime(MULTILINGUAL, tables.logits, tables.features)
        super().__init__(self.runtime, None)

    def tokenizer(self, language=None, task=None):
        return TinyTokenizer(language or "en", task or "transcribe")


OPTIONS = {"language": "en", "no_speech_threshold": None, "temperature": 0.0}


@pytest.fixture
def model(monkeypatch):
    def whole_numbers(audio, n_mels, padding):
        frames = (len(audio) + padding) // 160
        return np.tile((np.arange(frames) * round(audio[0] * 100) % 7).astype(np.float32), (DIMS.n_mels, 1))

    monkeypatch.setattr(prepared, "read_log_mel", whole_numbers)
    return TinyWhisper()


def call(seconds, *levels):
    return np.stack([np.full(16000 * seconds, level, np.float32) for level in levels])


def test_a_channel_gives_what_it_would_give_alone_beside_the_others(model):
    channels = call(70, 0.05, 0.03)
    alone = [model.transcribe(channel, **OPTIONS) for channel in channels]
    model.runtime.passes.clear()
    result = model.transcribe(channels, multichannel=True, **OPTIONS)
    assert any(len(set(batch.windows.tolist())) == 2 for batch in model.runtime.passes)
    for number, own in enumerate(alone):
        name = f"Speaker {number + 1}"
        assert result["speakers"][number] == {"speaker": name, "language": "en", "text": own["text"]}
        found = [s for s in result["segments"] if s["speaker"] == name]
        assert len(found) == len(own["segments"]) > 1
        for mine, theirs in zip(found, own["segments"]):
            assert {**mine, "id": None, "speaker": None} == {**theirs, "id": None, "speaker": None}
    starts = [s["start"] for s in result["segments"]]
    assert starts == sorted(starts)
    streamed = model.stream(channels, multichannel=True, **OPTIONS)
    assert [s.as_dict() for s in streamed] == result["segments"]


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_many_calls_get_what_each_gets_alone_and_errors_stay_with_their_own(model, at_once):
    recordings = [call(40, 0.05, 0.03), call(7, 0.02), call(35, 0.01, 0.04, 0.06), call(20, 0.06, 0.03)]
    options = transcribe_options(multichannel=True, **OPTIONS)
    outcomes, segments = {}, {}
    for number, event in model.events_of_many(recordings, options, at_once=at_once):
        if isinstance(event, Segment):
            segments.setdefault(number, []).append(event)
        elif isinstance(event, Transcript | Exception):
            assert number not in outcomes
            outcomes[number] = event
    assert isinstance(outcomes.pop(1), AudioError)
    assert set(outcomes) == {0, 2, 3}
    for number, outcome in outcomes.items():
        assert list(outcome.segments) == segments[number]
        assert outcome.as_dict() == model.transcribe(recordings[number], multichannel=True, **OPTIONS)


def test_the_first_error_of_a_channel_ends_its_call(model, monkeypatch):
    prepare = transcriber.prepare

    def failing(audio, n_mels, options, detect):
        if audio[0] == np.float32(0.03):
            raise AudioError("broken")
        return prepare(audio, n_mels, options, detect)

    monkeypatch.setattr(transcriber, "prepare", failing)
    with pytest.raises(AudioError, match="broken"):
        model.transcribe(call(40, 0.05, 0.03), multichannel=True, **OPTIONS)
    options = transcribe_options(multichannel=True, **OPTIONS)
    calls = [call(40, 0.05, 0.03), call(7, 0.02, 0.01)]
    ends = [
        (n, type(e)) for n, e in model.events_of_many(calls, options) if isinstance(e, Transcript | Exception)
    ]
    assert sorted(ends, key=str) == [(0, AudioError), (1, Transcript)]


def test_the_same_sound_in_all_channels_is_told(model):
    with pytest.warns(AudioWarning, match="all 2 channels have the same sound"):
        model.transcribe(call(5, 0.05, 0.05), multichannel=True, **OPTIONS)


def test_verbose_names_who_speaks(model, capsys):
    model.transcribe(
        call(40, 0.05, 0.03),
        verbose=True,
        multichannel=True,
        speaker_names="Ann,Bob",
        **{**OPTIONS, "language": None},
    )
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("Detected language of Ann: ") for line in lines) == 1
    assert any("]  Ann: " in line for line in lines) and any("]  Bob: " in line for line in lines)
