"""The candidates' kernel against its specification in numpy, on a real model's logits."""

from __future__ import annotations

import random

import numpy as np
import pytest

from max_whisper.decoding.candidates import candidates
from max_whisper.decoding.requests import Acquire, Encode, Forward
from max_whisper.decoding.rules import token_set
from max_whisper.decoding.runtime import Constraint

EOT, BEGIN, VOCABULARY = 50256, 50363, 51864
SOT = 50257
# (seed, token) whose hash ends the range of uniform numbers.
EXTREMES = [(6042425302372645816, 45251), (6931730139273810106, 4564)]


def random_constraint(rng):
    """A constraint such as decoding asks for, or harder."""
    begin = BEGIN + rng.randrange(1500)
    return Constraint(
        suppressed=token_set(tuple(sorted(rng.sample(range(EOT), rng.choice([0, 1, 90]))))),
        first=rng.choice([0, 0, EOT, BEGIN]),
        timestamp_begin=BEGIN,
        timestamp_first=rng.choice([0, begin]),
        timestamp_stop=rng.choice([1 << 30, BEGIN + 1500]),
        weigh_timestamps=rng.random() < 0.5,
        banned=tuple(rng.sample(range(VOCABULARY), rng.choice([0, 0, 1, 30]))),
        repeated=tuple(rng.choices(range(VOCABULARY), k=rng.choice([0, 40]))),
        repetition_penalty=rng.choice([1.0, 1.3, 0.7]),
        watch=(watch := rng.choice([-1, SOT, 13])),
        watch_stop=rng.choice([1 << 30, VOCABULARY, BEGIN, watch + 1]),
    )


@pytest.fixture(scope="module")
def asked(model, first_window):
    """Asks a real model for the successors of a token; returns candidates and logits."""

    def ask(constraints, k):
        def work():
            window = yield Encode(first_window)
            rows = yield Acquire(1)
            tokens = [SOT, BEGIN, 843, 523]
            found = yield Forward(
                tokens,
                rows * 4,
                range(4),
                window,
                [i % 4 for i in range(len(constraints))],
                constraints,
                k,
                logits=True,
            )
            return found, found.logits()

        return model("tiny.en")._engine.run(work())

    return ask


@pytest.mark.parametrize("k", [0, 1, 6])
def test_candidates_are_those_of_the_specification(asked, k):
    constraints = [random_constraint(random.Random(seed)) for seed in range(120)]
    found, logits = asked(constraints, k)
    expected = candidates(logits, constraints, k + 1)
    # Neighbours that differ in their last bits alone may trade places.
    with np.errstate(invalid="ignore"):
        apart = -np.diff(expected.logprobs, axis=1, prepend=np.inf) > 1e-5
    clear = apart[:, :-1] & apart[:, 1:]
    reachable = np.isfinite(expected.logprobs[:, :k])
    assert ((found.tokens == expected.tokens[:, :k]) | ~clear | ~reachable).all()
    assert k == 0 or clear.mean() > 0.9
    assert np.array_equal(reachable, np.isfinite(found.logprobs))
    assert np.allclose(found.logprobs[reachable], expected.logprobs[:, :k][reachable], atol=1e-4)
    assert np.allclose(found.watched, expected.watched, atol=1e-6, equal_nan=True)


def test_draws_are_those_of_the_specification(asked):
    constraints = [Constraint(temperature=0.2 + seed % 9 / 5, seed=seed << 40 | seed) for seed in range(200)]
    found, logits = asked(constraints, 1)
    expected = candidates(logits, constraints, 1)
    assert (found.tokens == expected.tokens).all()
    assert np.allclose(found.logprobs, expected.logprobs, atol=1e-4)


@pytest.mark.parametrize(("seed", "token"), EXTREMES)
def test_the_luckiest_token_is_not_drawn_by_infinite_noise(asked, seed, token):
    """The hash of this token and seed is so high that its 24 upper bits and a half round to 1."""
    unlikely = Constraint(temperature=0.3, seed=seed)
    found, logits = asked([unlikely], 1)
    assert found.tokens[0, 0] == candidates(logits, [unlikely], 1).tokens[0, 0] != token
