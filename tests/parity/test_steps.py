"""Several steps in one call give what as many passes of the decoder give, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from max_whisper.decoding.passes import run_by_passes
from max_whisper.decoding.rules import token_set
from max_whisper.decoding.runtime import Batch, Constraint, Plan, Run, Standing
from max_whisper.graph.runtime import load_runtime
from max_whisper.parity.engine import tokenizer_of

BEGIN, EOT = 50363, 50256  # <|0.00|> and the end of the text, English-only
PROMPT = (50257, 50362)  # <|startoftranscript|><|notimestamps|>
ROWS = 13  # cache rows here
SUPPRESSED = token_set(tuple(range(1, 300, 7)))


@pytest.fixture(scope="module", params=["float32", "int8"])
def runtime(request, checkpoint, first_window):
    runtime = load_runtime(checkpoint("tiny.en"), precision=request.param)
    runtime.reserve(ROWS, 2)
    runtime.encode(first_window, 0)
    runtime.encode(np.ascontiguousarray(first_window[:, ::-1]), 1)
    return runtime


def run_of(runtime, standings, plans, steps, seeds=None):
    """A run of one sequence for each standing, in rows of their own, all after the same prompt."""
    count = len(standings)
    rows = np.arange(count, dtype=np.int32)
    windows = rows % 2
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
    return Run(standings, rows, positions, windows, sources, plans, drawn, EOT)


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
    assert ran.tokens[0, 1] == EOT or ran.tokens[0, 1] >= BEGIN + 100
    assert ran.tokens[0, 2] < BEGIN and ran.tokens[0, 3] < BEGIN


def test_it_stops_where_one_sequence_ends(runtime):
    plan = Plan(token_set(tuple(i for i in range(BEGIN) if i not in (EOT, 13))), BEGIN)
    standings = [Standing(BEGIN + 100, 843, BEGIN + 100), Standing(843, 400, -1)]
    ran = same(runtime, run_of(runtime, standings, [plan] * 2, 10))
    assert len(ran.tokens) < 10 and EOT in ran.tokens[-1] and EOT not in ran.tokens[:-1]


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


def test_the_ids_here_are_the_models(checkpoint):
    tokenizer = tokenizer_of(checkpoint("tiny.en"), None, "transcribe")
    assert (tokenizer.timestamp_begin, tokenizer.eot) == (BEGIN, EOT)
    assert tokenizer.sot_sequence_including_notimestamps == PROMPT
