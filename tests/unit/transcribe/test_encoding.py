"""How much of a window is encoded, and when the rest of it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from max_whisper.decoding.options import DecodingOptions, DecodingResult
from max_whisper.decoding.requests import Encode, Release
from max_whisper.decoding.window import Fallback
from max_whisper.transcribe import encoding
from max_whisper.transcribe.cutting import Window

BEGIN, EOT = 1000, 900
SOUND = DecodingResult(
    None, "en", tokens=[BEGIN, 5, 6, BEGIN + 500], avg_logprob=-0.3, no_speech_prob=0.1, compression_ratio=1.2
)
MEL = np.arange(2 * 9000, dtype=np.float32).reshape(2, 9000)


class Tokenizer:
    timestamp_begin = BEGIN


def ended(steps, answers):
    """The requests that a generator makes of these answers, and what it returns."""
    requests = []
    try:
        request = next(steps)
        while True:
            requests.append(request)
            request = steps.send(answers.pop(0))
    except StopIteration as stop:
        return requests, stop.value


@pytest.mark.parametrize(
    ("place", "silence", "frames"),
    [
        (Window(100, 1100), 500, 1600),
        (Window(100, 1101), 500, 1602),
        (Window(0, 1100), None, 3000),
        (Window(0, 2500), 500, 3000),
        (Window(0, 3000), 500, 3000),
    ],
)
def test_what_has_sound_is_encoded_and_so_much_silence(place, silence, frames):
    (request,), encoded = ended(encoding.encode(MEL, place, silence), [7])
    assert isinstance(request, Encode) and request.mel.shape == (2, frames)
    assert np.array_equal(request.mel[:, : place.size], MEL[:, place.seek : place.seek + place.size])
    assert not request.mel[:, place.size :].any()
    assert encoded.number == 7 and encoded.place == place
    if frames == 3000:
        assert encoded.rest is None
    else:
        assert np.array_equal(encoded.rest[:, :frames], request.mel) and not encoded.rest[:, frames:].any()


@pytest.mark.parametrize(
    ("changes", "thresholds", "doubtful"),
    [
        ({}, Fallback(), False),
        ({"compression_ratio": 2.5}, Fallback(), True),
        ({"compression_ratio": 2.5}, Fallback(compression_ratio_threshold=None), True),
        ({"avg_logprob": -1.1}, Fallback(), True),
        ({"avg_logprob": -0.9}, Fallback(logprob_threshold=-0.5), True),
        ({"no_speech_prob": 0.7, "avg_logprob": -1.2}, Fallback(), True),
        ({"tokens": [BEGIN, 5, BEGIN + 600]}, Fallback(), False),
        ({"tokens": [BEGIN, 5, BEGIN + 601]}, Fallback(), True),
        ({"tokens": []}, Fallback(), False),
    ],
)
def test_doubts(changes, thresholds, doubtful):
    result = replace(SOUND, **changes)
    assert encoding.is_doubtful(result, Window(0, 1100), thresholds, BEGIN) is doubtful


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([BEGIN, 5, 6, BEGIN + 1100], [BEGIN, 5, 6, BEGIN + 550]),
        ([5, 6, BEGIN + 601], [5, 6, BEGIN + 550]),
        ([BEGIN, 5, 6, BEGIN + 600], None),
        ([BEGIN, 5, BEGIN + 300, BEGIN + 300, 6, BEGIN + 1100], None),
        ([BEGIN + 700, 5, 6], None),
        ([5, BEGIN + 300, BEGIN + 1100], None),
        ([BEGIN, BEGIN + 1100], None),
        ([BEGIN + 700], None),
        ([BEGIN + 560, 5, BEGIN + 700], None),
        ([5, 6], None),
        ([], None),
    ],
)
def test_one_segment_ends_with_the_sound(tokens, expected):
    result = replace(SOUND, tokens=tokens)
    found = encoding.ending_in_time(result, Window(0, 1101), BEGIN)
    assert found == (result if expected is None else replace(result, tokens=expected))


def decode(monkeypatch, encoded, first):
    """The requests that decoding makes, and its end, where the first try gives ``first``."""
    tries = []

    def once(window, options, tokenizer, dims, **_):
        tries.append((window, options.temperature, options.beam_size))
        return first
        yield

    def ladder(window, options, fallback, tokenizer, dims, **_):
        tries.append((window, "ladder", options.beam_size))
        return SOUND
        yield

    monkeypatch.setattr(encoding, "decode_window", once)
    monkeypatch.setattr(encoding, "decode_with_fallback", ladder)
    options = DecodingOptions(beam_size=5)
    requests, (result, now) = ended(
        encoding.decode(encoded, options, Fallback(), Tokenizer(), None), [None, 4, None]
    )
    return requests, tries, result, now


def test_a_whole_window_goes_down_the_ladder(monkeypatch):
    encoded = encoding.Encoded(3, Window(0, 1100))
    requests, tries, result, now = decode(monkeypatch, encoded, None)
    assert (requests, tries, result, now) == ([], [(3, "ladder", 5)], SOUND, encoded)


def test_a_part_will_do_where_there_is_no_doubt(monkeypatch):
    encoded = encoding.Encoded(3, Window(0, 1100), np.zeros((2, 3000), np.float32))
    requests, tries, result, now = decode(monkeypatch, encoded, SOUND)
    assert (requests, tries) == ([], [(3, 0.0, 5)])
    assert result is SOUND and now is encoded


def test_a_late_end_alone_is_no_doubt(monkeypatch):
    encoded = encoding.Encoded(3, Window(0, 1100), np.zeros((2, 3000), np.float32))
    requests, _, result, _ = decode(monkeypatch, encoded, replace(SOUND, tokens=[BEGIN, 5, BEGIN + 1100]))
    assert requests == [] and result.tokens == [BEGIN, 5, BEGIN + 550]


def test_in_doubt_the_whole_window_is_encoded_and_nothing_kept_of_the_part(monkeypatch):
    whole = np.zeros((2, 3000), np.float32)
    encoded = encoding.Encoded(3, Window(0, 1100), whole)
    requests, tries, result, now = decode(monkeypatch, encoded, replace(SOUND, compression_ratio=3.0))
    release, again = requests
    assert isinstance(release, Release) and release.window == 3
    assert isinstance(again, Encode) and again.mel is whole
    assert tries == [(3, 0.0, 5), (4, "ladder", 5)]
    assert result is SOUND and now == encoding.Encoded(4, Window(0, 1100))
