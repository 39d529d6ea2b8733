from __future__ import annotations

import numpy as np
import pytest

from max_whisper.decoding.runtime import Constraint, TokenSet
from max_whisper.errors import OptionError
from max_whisper.graph import processor
from max_whisper.graph.constraints import ConstraintArrays
from max_whisper.graph.packing import AT_ONCE, Packer
from max_whisper.graph.precision import (
    BOUND,
    BOUNDED_WEIGHTS,
    FLOAT16_WEIGHTS,
    PANEL,
    PRECISIONS,
    choose_precision,
    find_precision,
    fits_float16,
    quantise,
    quantise_bounded,
    suited,
    to_bfloat16,
)
from max_whisper.graph.processor import FAMILIES


def unpacked(words, dtype, out, depth):
    """Panels (P, words, 32) back to (out, depth)."""
    rows = np.ascontiguousarray(words.transpose(0, 2, 1)).reshape(-1, words.shape[1])
    return rows.view(dtype)[:out, :depth]


@pytest.mark.parametrize(
    "precision", [*PRECISIONS.values(), FLOAT16_WEIGHTS, BOUNDED_WEIGHTS], ids=lambda each: each.name
)
def test_a_large_layer_is_packed_in_parts_as_it_is_at_once(precision):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8205, 97)).astype(np.float16)
    bias = rng.normal(size=len(weight)).astype(np.float16)
    assert weight.size > 3 * AT_ONCE
    packer = Packer({"layer.weight": weight, "layer.bias": bias}, precision)
    packer.linear("layer")
    words, epilogue = precision.pack(weight, bias)
    assert np.array_equal(packer.packed["layer.weight"], words)
    assert np.array_equal(packer.packed["layer.epilogue"].view(np.int32), epilogue.view(np.int32))


@pytest.mark.parametrize("shape", [(32, 64), (33, 64), (7, 10), (100, 3)])
@pytest.mark.parametrize("name", list(PRECISIONS))
def test_packing_keeps_every_weight_in_its_place(name, shape):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=shape).astype(np.float16)
    bias = rng.normal(size=shape[0]).astype(np.float16)
    precision = PRECISIONS[name]
    words, epilogue = precision.pack(weight, bias)
    assert words.shape == (-(-shape[0] // PANEL), precision.words(shape[1]), PANEL)
    assert epilogue.shape == (precision.epilogue_rows, len(words) * PANEL)
    assert np.array_equal(epilogue[0, : shape[0]], bias.astype(np.float32))
    assert not epilogue[0, shape[0] :].any()
    if name == "float32":
        assert np.array_equal(unpacked(words, np.float32, *shape), weight.astype(np.float32))
    elif name == "bfloat16":
        assert np.array_equal(unpacked(words, np.uint16, *shape), to_bfloat16(weight.astype(np.float32)))
    else:
        integers, scale = quantise(weight.astype(np.float32))
        assert np.array_equal(unpacked(words, np.int8, *shape), integers)
        assert np.array_equal(epilogue[1, : shape[0]], scale)
        assert np.array_equal(epilogue[2, : shape[0]].view(np.int32), integers.sum(1, dtype=np.int32))


@pytest.mark.parametrize("shape", [(32, 64), (33, 64), (7, 11), (100, 3)])
def test_float16_weights_keep_rows_of_halves(shape):
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    words, _ = FLOAT16_WEIGHTS.pack(weight, np.zeros(shape[0], np.float16))
    assert words.shape == (-(-shape[0] // PANEL), FLOAT16_WEIGHTS.words(shape[1]), PANEL)
    rows = words.view(np.float16).reshape(len(words), -1, PANEL).transpose(0, 2, 1)
    assert np.array_equal(rows.reshape(-1, rows.shape[2])[: shape[0], : shape[1]], weight)
    assert find_precision(FLOAT16_WEIGHTS.name) is FLOAT16_WEIGHTS


@pytest.mark.parametrize("shape", [(32, 64), (33, 384), (7, 11), (100, 3), (64, 1500)])
@pytest.mark.parametrize("heavy", [False, True])
def test_no_choice_of_four_bounded_weights_exceeds_what_an_int16_holds_of_them(shape, heavy):
    rng = np.random.default_rng(0)
    weight = (rng.standard_t(2, size=shape) if heavy else rng.uniform(0.9, 1, size=shape)).astype(np.float32)
    weight[1] = 0
    integers, scale = quantise_bounded(weight)
    padded = np.pad(integers.astype(int), ((0, 0), (0, -shape[1] % 8)))
    for start in (0, 2):  # the halves of a word
        fours = np.stack([padded[:, start + i :: 8] for i in (0, 1, 4, 5)])
        for sign in (1, -1):
            assert np.maximum(sign * fours, 0).sum(axis=0).max() <= BOUND
    assert np.abs(integers * scale[:, None] - weight).max() <= scale.max() / 2 * 1.001
    assert (scale >= quantise(weight)[1]).all()
    assert find_precision(BOUNDED_WEIGHTS.name) is BOUNDED_WEIGHTS


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_int8_is_bounded_where_products_of_bytes_are_added_up_in_int16_and_nowhere_else(family, monkeypatch):
    bounded = family.name == "x86-64-v3"
    monkeypatch.setattr(processor, "features", lambda: family.needs)
    for of in (family.name, None):  # None: this processor, which is one of the family now
        assert suited(PRECISIONS["int8"], of) is (BOUNDED_WEIGHTS if bounded else PRECISIONS["int8"])
        for other in (PRECISIONS["float32"], PRECISIONS["bfloat16"], FLOAT16_WEIGHTS):
            assert suited(other, of) is other


def test_processors_of_no_family_have_plain_int8(monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"asimd"}))
    assert suited(PRECISIONS["int8"]) is PRECISIONS["int8"]


def test_only_weights_that_float16_holds_exactly_fit_it():
    weight = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float16).astype(np.float32)
    assert fits_float16(weight) and fits_float16(weight.astype(np.float16))
    for other in (np.float32(1 + 2**-12), np.float32(1e6), np.float32(1e-9)):
        changed = weight.copy()
        changed[2, 3] = other
        assert not fits_float16(changed)


def test_quantising_is_within_half_a_step_and_keeps_zero_rows():
    weight = np.random.default_rng(0).normal(size=(9, 50)).astype(np.float32)
    weight[4] = 0
    integers, scale = quantise(weight)
    assert np.abs(integers * scale[:, None] - weight).max() <= scale.max() * 0.5001
    assert np.abs(integers).max(axis=1).tolist() == [127] * 4 + [0] + [127] * 4


def test_bfloat16_rounds_to_the_nearest_and_to_even():
    values = np.array([1.0, 1.00390625, 1.01171875, -2.5, 3.14159274], np.float32)
    widened = (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    assert widened.tolist() == [1.0, 1.0, 1.015625, -2.5, 3.140625]


def test_an_unknown_precision_is_refused():
    with pytest.raises(OptionError, match=r"float16.*int8"):
        choose_precision("float16")


def test_constraints_become_rows_of_one_width():
    shared = TokenSet((5, 6, 7))
    limits, forbidden, repeated, numbers = ConstraintArrays().fill(
        [
            Constraint(suppressed=shared, first=3, watch=9, seed=(7 << 32) | 0xFFFFFFFF, temperature=0.5),
            Constraint(watch_stop=8, suppressed=shared, banned=(1,), repeated=(2, 3), repetition_penalty=1.5),
        ]
    )
    assert forbidden.tolist() == [[5, 6, 7, -1], [5, 6, 7, 1]]
    assert repeated.tolist() == [[-1, -1], [2, 3]]
    assert limits[0].tolist() == [3, 1 << 30, 0, 1 << 30, 0, 9, -1, 7, 1 << 30]
    assert limits[1, [5, 8]].tolist() == [-1, 8]
    assert numbers.tolist() == [[0.5, 1.0], [0.0, 1.5]]


def test_a_constraint_without_sets_still_has_a_column():
    _, forbidden, repeated, _ = ConstraintArrays().fill([Constraint()])
    assert forbidden.tolist() == [[-1]] and repeated.tolist() == [[-1]]
