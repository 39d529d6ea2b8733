from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from max_whisper.decoding.options import DecodingOptions
from max_whisper.decoding.requests import Acquire, Attend, Encode, Fork, Forward, Release
from max_whisper.decoding.runtime import Constraint
from max_whisper.decoding.window import decode_window
from max_whisper.transcribe.scheduler import Scheduler
from support.mock_runtime import MockRuntime
from support.tiny import DIMS, MULTILINGUAL, TinyModel, TinyTokenizer

MODEL = TinyModel(3, end=1.0)
OPTIONS = [
    DecodingOptions(language="en"),
    DecodingOptions(beam_size=3, patience=2.0),
    DecodingOptions(temperature=0.7, best_of=3, seed=4),
    DecodingOptions(language="fr", temperature=1.0, seed=5, prompt="so it goes"),
    DecodingOptions(beam_size=5, prompt=[1, 2, 3], suppress_tokens="5"),
    DecodingOptions(language="en", repetition_penalty=1.3, no_repeat_ngram_size=2),
    DecodingOptions(without_timestamps=True, sample_len=9),
]


def features(key):
    return np.full((DIMS.n_audio_ctx, DIMS.n_audio_state), key, np.float32)


def window(key, options):
    number = yield Attend(features(key))
    tokenizer = TinyTokenizer(options.language or "en")
    return (yield from decode_window(number, options, tokenizer, MULTILINGUAL))


def run(scheduler, *generators, rows=5):
    jobs = [scheduler.submit(generator, rows) for generator in generators]
    while scheduler.step():
        pass
    return jobs


def mock():
    return MockRuntime(DIMS, MODEL.logits, MODEL.features)


def same(one, other):
    return dataclasses.asdict(one) == dataclasses.asdict(other)


@pytest.mark.parametrize(("rows", "windows"), [(5, 1), (5, 3), (12, 4), (40, 14)])
def test_a_result_does_not_depend_on_who_shared_the_batch(rows, windows):
    work = [(key, options) for key in (7, 50) for options in OPTIONS]
    alone = [run(Scheduler(mock()), window(*each))[0].result() for each in work]
    order = random.Random(rows).sample(range(len(work)), len(work))
    runtime = mock()
    together = run(Scheduler(runtime, rows, windows), *(window(*work[i]) for i in order))
    for i, job in zip(order, together):
        assert same(job.result(), alone[i])
    if windows > 1:
        assert max(len(set(batch.windows.tolist())) for batch in runtime.passes) > 1


def test_a_pass_in_which_nothing_is_chosen_is_shared_with_its_like_alone():
    """A runtime may compute less for it, which would show where others choose in the same pass."""

    def work(k):
        number = yield Attend(features(7))
        rows = yield Acquire(1)
        found = yield Forward([1, 2], rows * 2, range(2), number, [1], [Constraint(watch=1)], k=k)
        return len(found.tokens[0])

    runtime = mock()
    jobs = run(Scheduler(runtime, 4, 4), *(work(k) for k in (0, 2, 0, 1)), rows=1)
    assert [job.result() for job in jobs] == [0, 2, 0, 1]
    assert [(batch.k, len(batch.outputs)) for batch in runtime.passes] == [(0, 2), (2, 2)]


@pytest.mark.parametrize("beams", [None, 3])
def test_who_ends_and_who_begins_keeps_nobody_waiting(beams):
    """A job has ended with the step that ends it, and one that begins takes steps at once."""
    options = DecodingOptions(language="en", beam_size=beams)
    runtime = mock()
    scheduler = Scheduler(runtime, 10, 2)
    jobs = [scheduler.submit(window(key, options), 5) for key in (7, 50)]
    while not any(job.done for job in jobs):
        scheduler.step()
        assert len(set(runtime.passes[-1].windows.tolist())) == 2
    if not all(job.done for job in jobs):
        scheduler.submit(window(9, options), 5)
        scheduler.step()
        assert len(set(runtime.passes[-1].windows.tolist())) == 2


def test_an_error_in_one_job_does_not_touch_the_others():
    def failing():
        yield Attend(features(9))
        (row,) = yield Acquire(1)
        yield Forward([1], [row], [0], 0, [0], [Constraint()])
        raise ValueError("mine")

    expected = run(Scheduler(mock()), window(7, OPTIONS[0]))[0].result()
    scheduler = Scheduler(mock(), 10, 2)
    bad, good = run(scheduler, failing(), window(7, OPTIONS[0]))
    assert same(good.result(), expected)
    with pytest.raises(ValueError, match="mine"):
        bad.result()
    assert scheduler._free_rows == list(range(10)) and scheduler._free_windows == [0, 1]


def test_a_pass_that_fails_fails_for_its_culprit_alone():
    class Picky(MockRuntime):
        def forward(self, batch):
            if 13 in batch.tokens:
                raise ArithmeticError("unlucky")
            return super().forward(batch)

    def unlucky():
        number = yield Attend(features(9))
        (row,) = yield Acquire(1)
        yield Forward([13], [row], [0], number, [0], [Constraint()])

    quiet = DecodingOptions(language="en", suppress_tokens="13")
    expected = run(Scheduler(mock()), window(7, quiet))[0].result()
    runtime = Picky(DIMS, MODEL.logits, MODEL.features)
    bad, good = run(Scheduler(runtime, 10, 2), unlucky(), window(7, quiet))
    assert same(good.result(), expected)
    assert isinstance(bad.error, ArithmeticError)


def test_a_window_that_cannot_be_encoded_fails_its_job():
    def broken():
        yield Encode(np.zeros((1, 1), np.float32))

    class Strict(MockRuntime):
        def encode(self, mel, window):
            raise ValueError("no mel")

    scheduler = Scheduler(Strict(DIMS, MODEL.logits))
    (job,) = run(scheduler, broken())
    assert isinstance(job.error, ValueError)
    (job,) = run(scheduler, window(7, OPTIONS[0]))
    assert job.result().tokens


def test_a_cancelled_job_frees_what_it_held_and_closes_its_generator():
    closed = []

    def endless():
        number = yield Attend(features(9))
        rows = yield Acquire(3)
        try:
            for position in range(DIMS.n_text_ctx):
                yield Forward([1], rows[:1], [position], number, [0], [Constraint()])
        finally:
            closed.append(True)

    scheduler = Scheduler(mock())
    job = scheduler.submit(endless(), 3)
    scheduler.step()
    scheduler.step()
    scheduler.cancel(job)
    assert closed and not scheduler.step()
    assert len(scheduler._free_rows) == 3 and scheduler._free_windows == [0]
    (after,) = run(scheduler, window(7, OPTIONS[0]), rows=1)
    assert after.result().tokens


def test_more_room_is_made_when_the_windows_in_use_are_done_with():
    runtime = mock()
    scheduler = Scheduler(runtime)
    first = scheduler.submit(window(7, OPTIONS[0]), 1)
    scheduler.step()
    assert runtime.rows == 1
    second = scheduler.submit(window(7, OPTIONS[1]), 3)
    while scheduler.step():
        pass
    assert runtime.rows == 3
    assert same(first.result(), run(Scheduler(mock()), window(7, OPTIONS[0]))[0].result())
    assert same(second.result(), run(Scheduler(mock()), window(7, OPTIONS[1]))[0].result())


def test_nobody_overtakes_a_job_that_waits_for_many_rows():
    finished = []

    def greedy(name, rows, passes):
        number = yield Attend(features(9))
        for _ in range(passes):
            held = yield Acquire(rows)
            yield Forward([1], held[:1], [0], number, [0], [Constraint()])
            yield Release(held)
        finished.append(name)

    scheduler = Scheduler(mock(), 3, 3)
    for name, rows, passes in [("a", 2, 40), ("wide", 3, 1), ("b", 2, 40)]:
        scheduler.submit(greedy(name, rows, passes), rows)
    while scheduler.step():
        pass
    assert finished == ["a", "wide", "b"]


def test_a_job_that_asks_for_more_than_it_declared_is_told():
    def liar():
        yield Acquire(2)

    (job,) = run(Scheduler(mock(), 5), liar(), rows=1)
    with pytest.raises(RuntimeError, match="1 rows asks for 2"):
        job.result()


def test_jobs_that_wait_for_each_other_are_told():
    def hoarder():
        number = yield Attend(features(9))
        (row,) = yield Acquire(1)
        yield Forward([1], [row], [0], number, [0], [Constraint()])
        yield Acquire(1)

    jobs = run(Scheduler(mock(), 2, 2), hoarder(), hoarder(), rows=2)
    assert all(isinstance(job.error, RuntimeError) for job in jobs)


def test_events_come_in_order_and_are_not_requests():
    def talkative():
        yield "hello"
        number = yield Attend(features(9))
        yield {"window": number}
        return "bye"

    (job,) = run(Scheduler(mock()), talkative())
    assert list(job.events) == ["hello", {"window": 0}]
    assert job.result() == "bye"


def test_an_interrupt_ends_the_job_it_struck():
    def struck():
        yield Attend(features(9))
        raise KeyboardInterrupt

    scheduler = Scheduler(mock())
    job = scheduler.submit(struck())
    with pytest.raises(KeyboardInterrupt):
        while scheduler.step():
            pass
    assert job.done
    with pytest.raises(KeyboardInterrupt):
        job.result()
    assert not scheduler.step()


def test_forks_trade_places_without_a_copy():
    def fork():
        number = yield Attend(features(9))
        a, b = yield Acquire(2)
        free = Constraint()
        for position, tokens in enumerate([(1, 2), (3, 4)]):
            yield Forward(tokens, (a, b), (position, position), number, (0, 1), (free, free))
        yield Fork((a, b), (b, a), 2)
        found = yield Forward((5, 6), (a, b), (2, 2), number, (0, 1), (free, free))
        return found.logits()

    (job,) = run(Scheduler(mock()), fork(), rows=2)
    expected = [MODEL.logits(history, features(9)) for history in ([2, 4, 5], [1, 3, 6])]
    assert np.array_equal(job.result(), np.stack(expected))
