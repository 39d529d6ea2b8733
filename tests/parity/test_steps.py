"""Several steps in one call give what as many passes of the decoder give, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from max_whisper.decoding.passes import run_by_passes
from max_whisper.decoding.rules import token_set
from max_whisper.decoding.runtime import Batch, Beams, Constraint, Plan, Run, Standing
from max_whisper.graph.runtime import load_runtime
from max_whisper.parity.engine import tokenizer_of

BEGIN, EOT = 50363, 50256  # <|0.00|> and the end of the text, English-only
PROMPT = (50257, 50362)  # <|startoftranscript|><|notimestamps|>
STAMPS = 1501  # <|0.00|> to <|30.00|>
ROWS = 13  # cache rows here
SUPPRESSED = token_set(tuple(range(1, 300, 7)))


@pytest.fixture(scope="module", params=["float32", "int8"])
def runtime(request, checkpoint, first_window):
    runtime = load_runtime(checkpoint("tiny.en"), precision=request.param)
    runtime.reserve(ROWS, 2)
    runtime.encode(first_window, 0)
    runtime.encode(np.ascontiguousarray(first_window[:, ::-1]), 1)
    return runtime


def run_of(runtime, standings, plans, steps, seeds=None, beams=None):
    """A run of one sequence for each standing, in rows of their own, all after the same prompt."""
    count = len(standings)
    rows = np.arange(count, dtype=np.int32)
    windows = rows % 2 if beams is None else rows // beams.size % 2
    sources = np.repeat(np.arange(ROWS, dtype=np.int32)[:, None], runtime.dims.n_text_ctx, axis=1)
    batch = Batch(
        tokens=np.array(PROMPT * count, np.int32),
        rows=np.repeat(rows, len(PROMPT)),
        positions=np.tile(np.arange(len(PROMPT), dtype=np.int32), count),
        windows=np.repeat(windows, len(PROMPT)),
        sources=sources,
        outputs=np.array([0], np.int32),
        constraints=[Constraint()],
    )
    runtime.forward(batch)
    positions = np.full(count, len(PROMPT), np.int32)
    drawn = np.zeros((count, steps), np.uint64) if seeds is None else seeds
    return Run(standings, rows, positions, windows, sources, plans, drawn, EOT, beams)


def same(runtime, run):
    """What both ways give, if it is the same."""
    ran, passed = runtime.run(run), run_by_passes(runtime.forward, run)
    for name in ("tokens", "logprobs", "queries"):
        one, other = getattr(ran, name), getattr(passed, name)
        assert one.shape == other.shape and one.dtype == other.dtype, name
        assert np.array_equal(one, other), name
    return ran


def test_timestamps_and_their_pairs(runtime):
    """From text, from a single timestamp and from a pair: each rule of timestamps is met."""
    standings = [
        Standing(843, 400, BEGIN),
        Standing(BEGIN + 100, 843, BEGIN + 100),
        Standing(BEGIN + 100, BEGIN + 100, BEGIN + 100),
        Standing(BEGIN, 1 << 30, BEGIN),
    ]
    plan = Plan(SUPPRESSED, BEGIN)
    ran = same(runtime, run_of(runtime, standings, [plan] * 4, 12))
    # After one timestamp follow the end or a timestamp; after two, text.
    assert ran.tokens[0, 1, 0] == EOT or ran.tokens[0, 1, 0] >= BEGIN + 100
    assert (ran.tokens[0, 2:] < BEGIN).all()


def test_it_stops_where_one_sequence_ends(runtime):
    plan = Plan(token_set(tuple(i for i in range(BEGIN) if i not in (EOT, 13))), BEGIN)
    standings = [Standing(BEGIN + 100, 843, BEGIN + 100), Standing(843, 400, -1)]
    ran = same(runtime, run_of(runtime, standings, [plan] * 2, 10))
    assert len(ran.tokens) < 10 and EOT in ran.tokens[-1] and EOT not in ran.tokens[:-1]


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
@pytest.mark.parametrize("begins", [100, 130, None])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_sequence_alone_that_has_ended_a_segment(runtime, begins, steps, temperature):
    """That the next one begins with the same timestamp is guessed: it does, or another one, or none."""
    forbidden = [i for i in range(EOT, BEGIN + STAMPS) if i != (BEGIN + begins if begins else EOT)]
    plan = Plan(token_set((*range(1, 300, 7), *forbidden)), BEGIN, temperature=temperature)
    seeds = np.random.default_rng(steps).integers(0, 1 << 63, size=(1, steps), dtype=np.uint64)
    ran = same(runtime, run_of(runtime, [Standing(BEGIN + 100, 843, BEGIN + 100)], [plan], steps, seeds))
    assert ran.tokens[0, 0, 0] == (BEGIN + begins if begins else EOT)
    assert len(ran.tokens) == (steps if begins else 1)
    assert (ran.tokens[1:] < BEGIN).all()


def test_segments_of_a_sequence_alone(runtime):
    """Text in which every fourth token or so ends or begins a segment."""
    few = token_set(tuple(i for i in range(BEGIN) if i not in (13, 11, 843)))
    tokens = same(runtime, run_of(runtime, [Standing(843, 400, BEGIN)], [Plan(few, BEGIN)], 32)).tokens
    assert (tokens >= BEGIN).sum() > 4


def test_draws_and_text_without_timestamps(runtime):
    seeds = np.random.default_rng(3).integers(0, 1 << 63, size=(3, 9), dtype=np.uint64)
    plans = [Plan(SUPPRESSED, temperature=0.8), Plan(), Plan(SUPPRESSED, BEGIN, temperature=1.0)]
    standings = [Standing(843, 400, -1), Standing(843, 400, -1), Standing(843, 400, BEGIN + 3)]
    run = run_of(runtime, standings, plans, 9, seeds)
    drawn = same(runtime, run).tokens
    other = same(runtime, run_of(runtime, standings, plans, 9, seeds + np.uint64(1))).tokens
    assert not np.array_equal(drawn[: len(other), 0], other[: len(drawn), 0])


def test_more_sequences_than_a_tile_has_rows(runtime):
    standings = [Standing(300 + i, 400, BEGIN) for i in range(ROWS)]
    same(runtime, run_of(runtime, standings, [Plan(SUPPRESSED, BEGIN)] * ROWS, 5))


def beams_of(searches, size, wanted):
    """Beams that are about as probable as each other, so that they take each other's places."""
    sums = -np.abs(np.random.default_rng(5).normal(size=searches * size)).astype(np.float32)
    return Beams(size, sums, np.array(wanted, np.int32))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_beams(runtime, size):
    """Two searches in windows of their own; the kernel's cache goes where the passes' goes."""
    standings = [Standing(300 + 11 * i, 400, BEGIN) for i in range(2 * size)]
    plans = [Plan(SUPPRESSED, BEGIN)] * (2 * size)
    run = run_of(runtime, standings, plans, 14, beams=beams_of(2, size, [99, 99]))
    ran = same(runtime, run)
    assert ran.tokens.shape == (14, 2 * size, size + 1)


def test_beams_that_begin_as_equals(runtime):
    """Of equal continuations the first beam's first is taken, and its row kept."""
    beams = Beams(3, np.zeros(6, np.float32), np.array([9, 9], np.int32))
    same(runtime, run_of(runtime, [Standing(843, 400, -1)] * 6, [Plan(SUPPRESSED)] * 6, 8, beams=beams))


def test_it_stops_where_a_search_is_done(runtime):
    plan = Plan(token_set(tuple(i for i in range(BEGIN) if i not in (EOT, 13, 11, 843))), BEGIN)
    standings = [Standing(843, 400, BEGIN)] * 4 + [Standing(13, 11, BEGIN + 4)] * 4
    beams = beams_of(2, 4, [3, 50])
    ran = same(runtime, run_of(runtime, standings, [plan] * 8, 16, beams=beams))
    ends = (ran.tokens == EOT).reshape(len(ran.tokens), 2, -1).any(axis=2)
    assert 1 < len(ran.tokens) < 16 and ends[:, 0].any()


def test_the_ids_here_are_the_models(checkpoint):
    tokenizer = tokenizer_of(checkpoint("tiny.en"), None, "transcribe")
    assert (tokenizer.timestamp_begin, tokenizer.eot) == (BEGIN, EOT)
    assert tokenizer.sot_sequence_including_notimestamps == PROMPT
