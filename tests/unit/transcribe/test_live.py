"""Streams, over a model that hears one word a second."""

from __future__ import annotations

import asyncio
import sys
import threading

import numpy as np
import pytest

from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.requests import Attend
from max_whisper.decoding.rules import rules_for
from max_whisper.decoding.window import decode_window
from max_whisper.errors import AudioError, OptionError
from max_whisper.model import Whisper
from max_whisper.transcribe.live import Agreed, StreamingTranscriber, Tail
from max_whisper.transcribe.live.agreement import HeardWord, agreeing
from max_whisper.transcribe.live.gate import SpeechGate
from max_whisper.transcribe.live.hypothesis import Known, hear
from max_whisper.transcribe.live.sentences import Sentences
from max_whisper.transcribe.live.trimming import cut_before, moment_before
from max_whisper.transcribe.segments import Language, Segment
from max_whisper.transcribe.vad import VadOptions
from support.mock_runtime import MockRuntime
from support.spoken import RATE, SPOKEN, SpokenWhisper, is_loud, live_in_this_world, speech, text_of
from support.tiny import DIMS, TinyModel, TinyTokenizer


@pytest.fixture(autouse=True)
def _world(monkeypatch):
    live_in_this_world(monkeypatch)


def live(model, **options):
    """A stream. Words of this world begin with a blank of their own, so a blank may come first."""
    return StreamingTranscriber(model, suppress_blank=False, **options)


def pieces(samples, size):
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def words_of(events):
    return [word for event in events if isinstance(event, Agreed) for word in event.words]


@pytest.mark.parametrize("vad", [False, True])
@pytest.mark.parametrize("size", [161, 1600, 16000, 100_000])
def test_all_that_is_said_is_agreed_once_and_in_time(size, vad):
    numbers = list(range(40))
    transcriber = live(SpokenWhisper(), vad_filter=vad)
    words = words_of(transcriber.events(pieces(speech(numbers), size)))
    assert "".join(word.word for word in words) == text_of(numbers)
    for number, word in enumerate(words):
        assert abs(word.start - number) < 0.1, word
        assert abs(word.end - number - SPOKEN) < 0.3, word


def test_the_tail_is_what_follows_the_agreed_words_and_may_change():
    told, tails = "", []
    transcriber = live(SpokenWhisper(), min_chunk_size=0.5)
    for event in transcriber.events(pieces(speech(range(12)), 1600)):
        if isinstance(event, Agreed):
            told += event.text
        elif isinstance(event, Tail):
            tails.append(event.text)
            assert told + event.text == "" or (told + event.text).startswith(told)
    assert told == text_of(range(12))
    assert any("x" in tail for tail in tails) and "x" not in told
    assert tails[-1] == ""


def test_segments_are_sentences_and_have_all_words():
    events = list(live(SpokenWhisper()).events(pieces(speech(range(25)), 8000)))
    segments = [event for event in events if isinstance(event, Segment)]
    assert [segment.id for segment in segments] == [0, 1, 2]
    assert "".join(segment.text for segment in segments) == text_of(range(25))
    assert all(segment.end - segment.start <= 12 for segment in segments)
    assert [word for segment in segments for word in segment.words] == words_of(events)


def test_a_second_hearing_samples_only_what_is_new():
    model = SpokenWhisper()
    transcriber = live(model, buffer_trimming_sec=20)
    transcriber.feed(speech(range(4))[: 4 * RATE])
    assert model.passes() >= 20  # a pass a letter
    transcriber.feed(speech([4]))
    # One pass for all that was heard before and one for the times; then the new word's letters.
    assert model.passes() <= 2 + len(" country") + 1


def test_where_nothing_comes_in_nothing_is_encoded():
    model = SpokenWhisper()
    transcriber = live(model)
    events = transcriber.feed(speech(range(3)))
    assert not words_of(events) and model.runtime.encodings == 1
    assert transcriber.feed(np.empty(0, np.float32)) == []
    events = transcriber.finish()
    assert "".join(word.word for word in words_of(events)) == text_of(range(3))
    assert model.runtime.encodings == 1
    assert transcriber.finish() == []
    with pytest.raises(ValueError, match="finished"):
        transcriber.feed(speech([1]))


def test_silence_gives_nothing_and_costs_nothing_with_voice_activity():
    model = SpokenWhisper()
    transcriber = live(model, vad_filter=True)
    assert [e for piece in pieces(speech([None] * 60), 1600) for e in transcriber.feed(piece)] == []
    assert model.runtime.encodings == 0
    numbers = [0, 1, 2, None, None, None, 3, 4, None, None]
    events = [e for piece in pieces(speech(numbers), 1600) for e in transcriber.feed(piece)]
    words = words_of(events)
    assert [word.word.strip() for word in words] == text_of(numbers).split()
    assert [round(word.start) for word in words] == [60, 61, 62, 66, 67]
    # A pause settles what was said before it, and each utterance is a segment.
    assert [event.text for event in events if isinstance(event, Segment)] == [
        " ask not what",
        " your country",
    ]
    spent = model.runtime.encodings
    assert transcriber.finish() == [] and model.runtime.encodings == spent


@pytest.mark.parametrize("size", [8000, 100_000])
def test_long_pauses_within_an_utterance_leave_room(size):
    numbers = [*range(22), *[None] * 11, *range(4)]
    options = {"min_silence_duration_ms": 12_000, "min_speech_duration_ms": 8000}
    transcriber = live(SpokenWhisper(), buffer_trimming_sec=25, vad_filter=True, vad_parameters=options)
    words = words_of(transcriber.events(pieces(speech(numbers), size)))
    assert "".join(word.word for word in words) == text_of(numbers)
    assert [round(word.start) for word in words] == [i for i, n in enumerate(numbers) if n is not None]


def weight(thing, seen):
    """Bytes of all that hangs on something but the model."""
    if id(thing) in seen or isinstance(thing, (type, Whisper)) or callable(thing):
        return 0
    seen.add(id(thing))
    total = sys.getsizeof(thing)
    if isinstance(thing, np.ndarray):
        return total if thing.base is None else total + weight(thing.base, seen)
    if isinstance(thing, dict):
        parts = [*thing.keys(), *thing.values()]
    else:
        parts = list(thing) if isinstance(thing, (list, tuple, set)) else []
    return total + sum(weight(part, seen) for part in [*parts, *getattr(thing, "__dict__", {}).values()])


def test_hours_do_not_add_up():
    model = SpokenWhisper()
    transcriber = live(model, min_chunk_size=3.0, buffer_trimming_sec=6, vad_filter=True)
    numbers = [n if n % 17 else None for n in range(20)]
    stretch = pieces(speech(numbers), 3 * RATE)
    sizes, heard = [], 0
    for _ in range(24):
        for piece in stretch:
            heard += len(words_of(transcriber.feed(piece)))
            model.passes()
        sizes.append(weight(transcriber, set()))
    assert heard >= 23 * len(text_of(numbers).split())
    assert sizes[0] > 1_900_000 and max(sizes[3:]) - sizes[2] < 20_000, sizes
    assert len(transcriber._said) <= model.dims.n_text_ctx // 4
    assert not model._engine._scheduler._jobs


def test_a_model_that_never_agrees_with_itself_is_believed_in_the_end():
    model = SpokenWhisper()
    model.runtime.unsure = True
    transcriber = live(model)
    longest, words = 0.0, []
    for piece in pieces(speech(range(33)), RATE):
        words += words_of(transcriber.feed(piece))
        longest = max(longest, transcriber._buffer.seconds)
    words += words_of(transcriber.finish())
    assert longest <= 30
    assert len(words) == 33


def test_threads_with_streams_of_their_own_share_a_model():
    model = SpokenWhisper()
    found = {}

    def work(first):
        transcriber = live(model)
        found[first] = words_of(transcriber.events(pieces(speech(range(first, first + 20)), RATE)))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, words in found.items():
        assert "".join(word.word for word in words) == text_of(range(first, first + 20))


def test_async_streams_give_the_same():
    async def source():
        for piece in pieces(speech(range(9)), 8000):
            yield piece

    async def collect():
        return [event async for event in live(SpokenWhisper()).aevents(source())]

    again = live(SpokenWhisper()).events(pieces(speech(range(9)), 8000))
    assert asyncio.run(collect()) == list(again)


def test_the_language_is_told_with_the_first_agreed_words():
    transcriber = live(SpokenWhisper(multilingual=True))
    assert transcriber.language is None
    events = list(transcriber.events(pieces(speech(range(6)), RATE)))
    kinds = [type(event) for event in events if not isinstance(event, Tail)]
    assert kinds[:2] == [Language, Agreed] and kinds.count(Language) == 1
    assert transcriber.language == "fr"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"beam_size": 5}, "beam_size has no effect live"),
        ({"temperature": 0.2}, "temperature has no effect live"),
        ({"task": "lang_id"}, "detect_language"),
        ({"language": "klingon"}, "klingon"),
        ({"min_chunk_size": 0}, "min_chunk_size is 0"),
        ({"buffer_trimming_sec": 40}, "buffer_trimming_sec is 40"),
        ({"vad_parameters": {"threshold": 0.4}}, "without vad_filter"),
        ({"vad_filter": True, "vad_parameters": {"max_speech_duration_s": 9}}, "no meaning live"),
    ],
)
def test_options_that_mean_nothing_live_are_refused(options, reason):
    with pytest.raises(OptionError, match=reason):
        live(SpokenWhisper(), **options)


def test_names_that_are_no_options_are_refused():
    with pytest.raises(TypeError, match="word_times"):
        live(SpokenWhisper(), word_times=True)


def test_arrays_that_are_no_samples_are_refused():
    with pytest.raises(AudioError, match="one-dimensional"):
        live(SpokenWhisper()).feed(np.zeros((2, 100)))


@pytest.mark.parametrize("seed", range(8))
def test_a_draft_changes_nothing_but_the_cost(seed):
    tables = TinyModel(seed, end=2.0)
    runtime = MockRuntime(DIMS, tables.logits, tables.features)
    model = Whisper(runtime, None)
    tokenizer, rng = TinyTokenizer(), np.random.default_rng(seed)
    options = DecodingOptions(language="en", without_timestamps=True, no_repeat_ngram_size=2)
    features = np.full((DIMS.n_audio_ctx, DIMS.n_audio_state), seed, np.float32)

    def listen(known):
        window = yield Attend(features)
        most = 32 - len(known.agreed)
        return (yield from hear(window, known, rules_for(options, tokenizer, DIMS), tokenizer, most))

    def plain():
        window = yield Attend(features)
        return (yield from decode_window(window, options, tokenizer, DIMS))

    whole = model.run(listen(Known()))
    assert list(whole.tokens) == model.run(plain()).tokens
    for cut in range(min(len(whole.tokens) + 1, 32)):
        wrong = rng.integers(0, 20, 5).tolist()
        for draft in (whole.tokens[:cut], [*whole.tokens[:cut], *wrong]):
            runtime.passes.clear()
            again = model.run(listen(Known((), (), draft)))
            assert again.tokens == whole.tokens
            assert again.avg_logprob == pytest.approx(whole.avg_logprob)
            assert again.checked >= cut
            assert len(runtime.passes) <= len(whole.tokens) - cut + 1
        # What is agreed is gone on from.
        assert model.run(listen(Known((), whole.tokens[:cut], ()))).tokens == whole.tokens[cut:]


def said(text, gap=0.0):
    return [HeardWord(f" {word}", (1,), i + gap, i + 0.8, 0.9) for i, word in enumerate(text.split())]


@pytest.mark.parametrize(
    ("before", "now", "count"),
    [
        ("ask not", "ask not what", 2),
        ("ask nut", "ask not what", 1),
        ("", "ask", 0),
        ("ask not", "", 0),
        ("ask not what", "ask not", 2),
        # Case and punctuation are the later one's, unless the audio ends there.
        ("Ask not.", "ask not, what", 2),
        ("ask not", "ask not.", 1),
        ("ask not.", "ask not.", 2),
        ("ask -", "ask . what", 1),
    ],
)
def test_agreement(before, now, count):
    assert agreeing(said(before), said(now)) == count


def test_a_sentence_ends_where_another_begins_or_after_a_long_pause():
    sentences = Sentences()
    words = [
        *said("Ask not. What"),
        HeardWord(" for", (7,), 6.0, 6.5, 0.9),
        HeardWord(".", (8,), 6.5, 6.5, 0.9),
    ]
    found = [segment for word in words for segment in sentences.add([word], -0.5, 0.1)] + sentences.end()
    assert [segment.text for segment in found] == [" Ask not.", " What", " for."]
    assert found[-1].tokens == (7, 8) and [word.word for word in found[-1].words] == [" for."]
    assert (found[0].start, found[0].end, found[0].avg_logprob) == (0, 1.8, -0.5)
    assert sentences.end() == []


def test_audio_is_cut_before_a_sentence_or_after_a_pause_and_keeps_some_context():
    words = said("One two three. Four five six seven eight")
    assert cut_before(words) == 3
    assert moment_before(words, 3) == pytest.approx(2.9)
    words = said("one two three four five six seven eight")
    words[5] = HeardWord(" six", (1,), 5.5, 5.8, 0.9)
    assert cut_before(words) == 5
    assert moment_before(words, 5) == pytest.approx(5.3)
    assert cut_before(said("one two")) == 0 and cut_before([]) == 0


def stretches(gate, samples, size=700):
    out = [stretch for piece in pieces(samples, size) for stretch in gate.feed(piece)]
    return [*out, *gate.finish()]


def test_the_gate_lets_speech_through_in_place_and_nothing_else():
    samples = speech([None, None, 3, 4, None, None, None, 5, None, None])
    samples[samples > 0] += np.arange(np.count_nonzero(samples)).astype(np.float32) / 1e6
    options = VadOptions(min_silence_duration_ms=500, speech_pad_ms=300)
    found = stretches(SpeechGate(options, is_loud), samples)
    passed = np.zeros(len(samples), bool)
    for stretch in found:
        span = slice(stretch.start, stretch.start + len(stretch.samples))
        assert np.array_equal(stretch.samples, samples[span]) and not passed[span].any()
        passed[span] = True
    assert passed[samples > 0].all()
    assert sum(stretch.ends for stretch in found) == 2
    # Before and after speech the padding, no more than a window of 32 ms off; all of a short pause.
    edges = (np.flatnonzero(np.diff(passed.astype(int))) / RATE).tolist()
    assert edges == pytest.approx([1.7, 4.1, 6.7, 8.1], abs=0.04)
    assert [stretch.pauses for stretch in found].count(True) >= 2


def test_the_gate_leaves_short_speech_out():
    samples = speech([None, None, None])
    samples[RATE : RATE + 3000] = 0.01
    assert stretches(SpeechGate(VadOptions(min_speech_duration_ms=400), is_loud), samples) == []
    assert stretches(SpeechGate(VadOptions(min_speech_duration_ms=100), is_loud), samples) != []
