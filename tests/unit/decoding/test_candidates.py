from __future__ import annotations

import math

import numpy as np
import pytest

from max_whisper.decoding.candidates import candidates, constrain, gumbel_noise
from max_whisper.decoding.runtime import Constraint, TokenSet

LOGITS = np.array([[1.0, 3.0, 2.0, 3.0, -1.0, 0.5]], np.float32)


def probabilities(logits):
    e = np.exp(np.asarray(logits, np.float64))
    return e / e.sum()


def test_best_first_and_the_lowest_id_among_equals():
    found = candidates(LOGITS, [Constraint()], 4)
    assert found.tokens.tolist() == [[1, 3, 2, 0]]
    expected = np.log(probabilities(LOGITS[0]))[[1, 3, 2, 0]]
    assert found.logprobs[0] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found.watched[0])


def test_forbidden_tokens_leave_the_softmax():
    constraint = Constraint(suppressed=TokenSet((1,)), banned=(3,), first=1)
    found = candidates(LOGITS, [constraint], 2)
    assert found.tokens.tolist() == [[2, 5]]
    assert found.logprobs[0, 0] == pytest.approx(np.log(probabilities([2.0, -1.0, 0.5])[0]), abs=1e-6)


def test_watching_looks_past_the_constraint():
    constraint = Constraint(suppressed=TokenSet((1,)), first=2, watch=1, repeated=(1,), repetition_penalty=9)
    found = candidates(LOGITS, [constraint], 1)
    assert found.watched[0] == pytest.approx(probabilities(LOGITS[0])[1], abs=1e-6)


def test_watching_may_be_all_that_is_wanted_and_among_some_tokens_only():
    found = candidates(LOGITS[:1], [Constraint(watch=1, watch_stop=3)], 0)
    assert found.watched[0] == pytest.approx(probabilities(LOGITS[0, :3])[1], abs=1e-6)
    assert found.tokens.shape == found.logprobs.shape == (1, 0)


def test_repetition_divides_what_is_positive_and_multiplies_what_is_negative_once():
    out = constrain(LOGITS[0], Constraint(repeated=(1, 4, 1), repetition_penalty=2.0))
    assert out.tolist() == [1.0, 1.5, 2.0, 3.0, -2.0, 0.5]


@pytest.mark.parametrize(
    ("first", "stop", "left"), [(0, 99, [3, 4, 5]), (4, 99, [4, 5]), (4, 5, [4]), (0, 3, [])]
)
def test_timestamps_keep_to_their_bounds(first, stop, left):
    constraint = Constraint(timestamp_begin=3, timestamp_first=first, timestamp_stop=stop)
    out = constrain(LOGITS[0], constraint)
    assert np.flatnonzero(np.isfinite(out)).tolist() == [0, 1, 2, *left]


def test_timestamps_win_where_they_outweigh_every_text_token():
    text, stamps = [2.0, 1.0], [1.5, 1.5]
    constraint = Constraint(timestamp_begin=2, weigh_timestamps=True)
    assert np.isneginf(constrain(np.array(text + stamps, np.float32), constraint)[:2]).all()
    weaker = constrain(np.array([*text, 1.0, 1.0], np.float32), constraint)
    assert np.isfinite(weaker).all()
    none = Constraint(timestamp_begin=2, timestamp_stop=2, weigh_timestamps=True)
    assert np.isfinite(constrain(np.array(text + stamps, np.float32), none)[:2]).all()


def test_draws_follow_the_softmax_at_their_temperature():
    temperature = 0.7
    constraints = [
        Constraint(temperature=temperature, seed=seed * 0x9E3779B97F4A7C15) for seed in range(4000)
    ]
    found = candidates(np.repeat(LOGITS, 4000, axis=0), constraints, 1)
    frequency = np.bincount(found.tokens[:, 0], minlength=6) / 4000
    assert frequency == pytest.approx(probabilities(LOGITS[0] / temperature), abs=0.03)


def test_the_log_probability_of_a_draw_is_that_at_temperature_one():
    found = candidates(LOGITS, [Constraint(temperature=1.5, seed=7)], 1)
    expected = np.log(probabilities(LOGITS[0]))[found.tokens[0, 0]]
    assert found.logprobs[0, 0] == pytest.approx(expected, abs=1e-6)


def test_a_forbidden_token_is_never_drawn():
    constraints = [Constraint(temperature=5.0, seed=seed, banned=(1, 3)) for seed in range(500)]
    found = candidates(np.repeat(LOGITS, 500, axis=0), constraints, 1)
    assert not set(found.tokens[:, 0].tolist()) & {1, 3}


def test_noise_is_finite_and_depends_on_both_halves_of_the_seed():
    noise = gumbel_noise(0x0123456789ABCDEF, 1_000_000)
    assert np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.std() == pytest.approx(np.pi / np.sqrt(6), abs=0.01)
    for other in (0x0123456789ABCDEE, 0x1123456789ABCDEF):
        assert abs(np.corrcoef(noise[:10000], gumbel_noise(other, 10000))[0, 1]) < 0.05


def lowbias32(x):
    x = ((x ^ x >> 16) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ x >> 16


@pytest.mark.parametrize("seed", [0, 42, 42 + (7 << 32), 2**64 - 1])
def test_noise_is_the_formula_that_kernels_compute(seed):
    def noise(token):
        bits = lowbias32(lowbias32(token ^ seed & 0xFFFFFFFF) ^ seed >> 32)
        return -math.log(-math.log(((bits >> 9) + 0.5) / 2**23))

    assert gumbel_noise(seed, 500) == pytest.approx([noise(token) for token in range(500)], abs=1e-5)
