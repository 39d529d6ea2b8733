"""The simulated clock, and what is counted on it."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.live import Run, latencies, simulate
from benchmarks.local_agreement import LocalAgreement

from max_whisper.transcribe.live import Agreed
from max_whisper.transcribe.segments import Word


def word(text, start, end):
    return Word(f" {text}", start, end, 0.9)


class Slow:
    """Takes 0.35 s for each piece, and tells how much it was given."""

    def __init__(self, clock):
        self.clock, self.sizes = clock, []

    def feed(self, samples):
        self.clock.now += 0.35
        self.sizes.append(len(samples) / 16000)
        return [Agreed((word(str(len(self.sizes)), 0, 0.1),))]

    def finish(self):
        self.clock.now += 1
        return [Agreed((word("end", 0.9, 1.0),))]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_what_comes_in_while_computing_is_fed_next():
    clock = Clock()
    slow = Slow(clock)
    run = simulate(slow, np.zeros(16000), clock)
    assert slow.sizes == pytest.approx([0.1, 0.35, 0.35, 0.2])
    assert run.told == pytest.approx([0.45, 0.8, 1.15, 1.5, 2.5])
    assert run.computed == pytest.approx(4 * 0.35 + 1)


def test_latency_is_from_a_words_end_offline_and_of_words_that_both_have():
    run = Run([word("Ask", 0, 1), word("nut", 1, 2), word("what.", 2, 3)], [1.5, 2.5, 4.0], 0.0)
    offline = [word("ask", 0, 0.9), word("not", 1, 2), word("what", 2, 3.1)]
    assert latencies(run, offline) == pytest.approx([0.6, 0.9])


class Script:
    """A model that gives one scripted transcript after the other."""

    def __init__(self, *transcripts):
        self.transcripts, self.asked = list(transcripts), []

    def transcribe(self, samples, **options):
        self.asked.append((len(samples) / 16000, options["initial_prompt"]))
        segments = [
            {"end": segment[-1].end, "words": [w.as_dict() for w in segment]}
            for segment in self.transcripts.pop(0)
        ]
        return {"segments": segments}


def test_the_plain_method_agrees_on_common_beginnings_and_cuts_at_agreed_segments():
    a, b, c = word("a", 0, 1), word("b", 1, 2), word("c", 2.2, 3)
    model = Script([[a]], [[a, b]], [[a, b], [c]], [[word("c", 0.2, 1), word("d", 1, 2)]])
    plain = LocalAgreement(model, min_chunk_size=1, buffer_trimming_sec=2.5)
    second = np.zeros(16000, np.float32)
    found = [[event.text for event in plain.feed(second)] for _ in range(3)]
    assert found == [[], [" a"], [" b"]]
    assert [event.text for event in plain.feed(second)] == [" c"]
    assert [size for size, _ in model.asked] == [1, 2, 3, 2]
    assert [event.text for event in plain.finish()] == [" d"]
