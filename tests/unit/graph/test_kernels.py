"""The kernels against float64 numpy, at odd sizes, on each path that this processor can run."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from max.driver import CPU, Buffer
from max.engine import InferenceSession, read

from max_whisper.decoding.candidates import candidates
from max_whisper.decoding.rules import token_set
from max_whisper.decoding.runtime import Constraint
from max_whisper.errors import DeviceError
from max_whisper.graph.artifacts import COMMON, load_modules
from max_whisper.graph.constraints import ConstraintArrays
from max_whisper.graph.layers import packed_positions
from max_whisper.graph.packing import pack_silero
from max_whisper.graph.precision import (
    BOUNDED_WEIGHTS,
    FLOAT16_WEIGHTS,
    PRECISIONS,
    quantise,
    quantise_bounded,
    to_bfloat16,
)
from max_whisper.graph.processor import features, runnable_families
from max_whisper.graph.team import team_of
from max_whisper.graph.vocabulary import pack_vocabulary, vocabulary_arrays
from max_whisper.transcribe.alignment import token_begins
from max_whisper.transcribe.silero import Silero, State
from unit.graph.emulated import emulated

HEADS, HEAD_SIZE = 2, 64
ATTENTIONS = ("float32", "bfloat16", "int8")
PAIRS = [(0, 0), (1, 1), (1, 0)]  # layers and heads whose attention is followed
MODES = ("float32", "float16", "bfloat16", "int8", "bounded")
VOCABULARY, TEXT, STATE = 4200, 2976, 120
PACKINGS = {**PRECISIONS, "float16": FLOAT16_WEIGHTS, "bounded": BOUNDED_WEIGHTS}
INTEGERS = {"int8": quantise, "bounded": quantise_bounded}
# (rows, inner dimension, columns): a step, few rows, many rows in either division, odd ends.
SIZES = [(1, 64, 96), (2, 100, 33), (5, 68, 65), (7, 240, 31), (13, 512, 97), (37, 1028, 64), (250, 72, 70)]
TEAM = 2  # among the inputs
#: Processors to be emulated: see emulated.py.
ARM = os.environ.get("KERNELS_ON_ARM", "").split()


def runnable_targets():
    families = [family.name for family in runnable_families()]
    return ["host", *(name for name in ("x86-64-v3", "alderlake") if name in families)]


@pytest.fixture(scope="module", params=runnable_targets() + ARM)
def target(request):
    return request.param


@pytest.fixture(scope="module")
def kernels(target, compiled_kernels):
    return compiled_kernels[target]


@pytest.fixture
def has(target):
    """What instructions the kernels find there, as Linux names them."""
    known = {"host": features(), "x86-64-v3": {"avx2"}, "alderlake": {"avx_vnni"}, "cortex-a72": {"asimd"}}
    return known.get(target, {"asimd", "asimddp"})


@pytest.fixture
def bytes_meet_int8(has):
    """Whether int8 weights are multiplied by bytes, as the processor can, or by 12-bit integers."""
    return not {"avx512_vnni", "avx_vnni", "asimddp"}.isdisjoint(has)


@pytest.fixture(scope="module")
def compiled_kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    running = {
        target: subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kernel_graph.py")), target, str(folder / target)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for target in runnable_targets()
    }
    for target, process in running.items():
        _, messages = process.communicate()
        assert (folder / target).is_file(), f"{target}: {messages[-2000:]}"
    return {target: OnMax((folder / target).read_bytes()) for target in running} | {
        target: emulated(target, tmp_path_factory.mktemp(target)) for target in ARM
    }


class OnMax:
    """The kernels in a graph of MAX, given as what was compiled."""

    def __init__(self, compiled):
        self.model = InferenceSession(devices=[CPU()]).init(read(io.BytesIO(compiled)))

    def __call__(self, inputs):
        """The outputs of some inputs, of which lists are numbers and addresses of arrays."""
        arrays = [places(each) if isinstance(each, list) else each for each in inputs]
        arrays[TEAM] = team(arrays[TEAM][1])
        results = self.model.execute(*(Buffer.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        return [result.to_numpy().copy() for result in results]


def places(parts):
    return np.array([part if isinstance(part, int) else part.ctypes.data for part in parts], np.int64)


def team(threads):
    """The kernels' team as the array that graphs take."""
    (common,) = load_modules([COMMON])
    models = InferenceSession(devices=[CPU()]).init_all(common)
    return team_of(threads, models["team"]).to_numpy()


class Case:
    """Random inputs of one size; every layer has the same weights in its own precision."""

    def __init__(self, rows, depth, columns, positions=45, threads=2, seed=0):
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(rows, depth)).astype(np.float32)
        self.x[0, 0] = 20  # an outlier, such as Whisper's residual stream has
        weight = (rng.normal(size=(columns, depth)) / np.sqrt(depth)).astype(np.float16)
        self.weight = weight.astype(np.float32)
        self.bias = rng.normal(size=columns).astype(np.float32)
        self.residual = rng.normal(size=(rows, columns)).astype(np.float32)
        state = HEADS * HEAD_SIZE
        self.qkv = rng.normal(size=(positions, 3 * state)).astype(np.float32)
        self.threads = threads
        self.keeps = True  # all logits
        self.k = 3  # candidates
        self.kv = rng.normal(size=(positions, 2 * state)).astype(np.float32)
        self.tokens(np.linspace(0, positions, 5).astype(int)[:-1], positions)
        self.samples = rng.normal(size=700).astype(np.float32)
        self.silero = silero(rng)
        self.talk(rng, rows)

    def talk(self, rng, rows):
        """A vocabulary, and hidden states that each mean a token of it, some channels larger than others."""
        self.embedding = rng.normal(size=(VOCABULARY, STATE)).astype(np.float16)
        self.embedding[:, 5] *= 25
        self.embedding[:, 40] *= 0.1
        meant = rng.integers(0, VOCABULARY, rows)
        self.hidden = (self.embedding[meant] + rng.normal(size=(rows, STATE))).astype(np.float32)
        self.hidden[:, 5] = 0.5
        self.hidden[:, 40] = 60
        self.norm = np.ones(STATE, np.float32), np.where(np.arange(STATE) == 40, 60, 0).astype(np.float32)
        self.positional = rng.normal(size=(VOCABULARY, STATE)).astype(np.float32)
        text = Constraint(suppressed=token_set(range(0, VOCABULARY, 7)), watch=9, watch_stop=TEXT)
        stamped = Constraint(timestamp_begin=TEXT + 100, weigh_timestamps=True, watch=VOCABULARY - 1)
        penalised = Constraint(repeated=(1, 4000), repetition_penalty=1.3, temperature=0.7, seed=3)
        self.constraints = [(text, stamped, penalised)[i % 3] for i in range(rows)]
        self.said = rng.integers(0, VOCABULARY, rows).astype(np.int32)

    def vocabulary(self, mode):
        """What tells of a vocabulary, and where its positions lie."""
        packing = PACKINGS[mode]
        arrays = pack_vocabulary(self.embedding, self.norm, TEXT, packing, 1024)
        return [VOCABULARY, TEXT, *(arrays[name] for name in vocabulary_arrays(packing)), self.positional]

    def tokens(self, begins, positions, seed=0):
        """Tokens that attend to the positions from where they begin to the next one's begin."""
        rng = np.random.default_rng(seed)
        state = HEADS * HEAD_SIZE
        self.positions, self.wanted = positions, slice(1, -1)
        self.queries = rng.normal(size=(2, len(begins) + 2, state)).astype(np.float32)
        for token, (start, end) in enumerate(pairwise([*begins, len(self.kv)]), start=1):
            self.queries[:, token] += self.kv[start:end, :state].sum(axis=0)

    def begins(self):
        """Where the wanted tokens begin, by the definition."""
        keys = self.kv.astype(np.float64)
        parts = [(layer, slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)) for layer, head in PAIRS]
        scores = [self.queries[layer][:, part] @ keys[:, part].T / HEAD_SIZE**0.5 for layer, part in parts]
        return token_begins(np.array(scores, np.float32), self.positions, self.wanted)

    def run(self, kernels, rows=slice(None)):
        return kernels(self.inputs(rows))

    def inputs(self, rows):
        """What the kernels take, in the order of `kernel_graph.py`."""
        arrays = [self.x[rows], self.residual[rows], [0, self.threads]]
        for mode in MODES:
            arrays += PACKINGS[mode].pack(self.weight, self.bias)
        positions, width = self.qkv.shape
        arrays += [self.qkv, np.zeros((positions, width // 3), np.float32)]
        for mode in ATTENTIONS:
            words = PRECISIONS[mode].attention_words(packed_positions(positions), HEAD_SIZE)
            arrays.append(np.zeros((1, 2, HEADS, words), np.int32))
        tokens = np.arange(self.queries.shape[1])[self.wanted]
        numbers = [PAIRS, [0, self.positions], tokens, [0]]
        arrays += [self.kv, self.queries, *(np.array(values, np.int32) for values in numbers)]
        windows = np.zeros(-(-len(self.samples) // 512), np.int32)
        arrays += [self.samples, pack_silero(self.silero), windows]
        arrays += [self.vocabulary(mode) for mode in MODES]
        said, constraints = self.said[rows], np.array(self.constraints, object)[rows]
        arrays += [self.hidden[rows], *ConstraintArrays().fill(constraints)]
        return [*arrays, np.zeros(self.k, np.int32), np.zeros(len(said) if self.keeps else 0, np.int32), said]

    def linear(self, mode, in_bytes):
        """What the mode computes, with the mode's own rounding of inputs and no other."""
        x, weight = self.x.astype(np.float64), self.weight.astype(np.float64)
        if mode == "bfloat16":
            x, weight = widened(self.x), widened(self.weight)
        if mode in INTEGERS:
            integers, scale = INTEGERS[mode](self.weight)
            weight = integers * scale[:, None].astype(np.float64)
            x = (bytes_of if in_bytes else integers_of)(self.x.astype(np.float64))
        return x @ weight.T + self.bias


def bytes_of(x):
    """Rounded to 254 steps from each row's lowest value (or 0) to its highest."""
    low = np.minimum(x.min(axis=1, keepdims=True), 0)
    steps = (np.maximum(x.max(axis=1, keepdims=True), 0) - low) / 254
    zero = np.floor(0.5 - low / steps)
    return (np.floor(x / steps + zero + 0.5) - zero) * steps


def integers_of(x, most=2047):
    """Rounded to integers up to `most` times a step for each row."""
    steps = np.abs(x).max(axis=1, keepdims=True) / most
    return np.floor(x / steps + 0.5) * steps


def widened(values):
    return (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def joins(has):
    """Whether products of bytes are added up in int16."""
    return "avx2" in has and not has & {"avx512f", "avx_vnni"}


def same(one, other):
    """Bit for bit, but for what is no number."""
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def gelu(x):
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def bounded(x):
    """Rounded to bounded int8 with a step for each row."""
    integers, steps = quantise_bounded(x.astype(np.float32))
    return integers * steps[:, None].astype(np.float64)


def attention(qkv, query_as=lambda x: x, key_as=lambda x: x, value_as=lambda x: x):
    outputs = []
    for head in range(HEADS):
        query, key, value = (
            part[:, head * HEAD_SIZE : (head + 1) * HEAD_SIZE]
            for part in np.split(qkv.astype(np.float64), 3, axis=1)
        )
        scores = query_as(query) @ key_as(key).T / np.sqrt(HEAD_SIZE)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        outputs.append(weights / weights.sum(axis=1, keepdims=True) @ value_as(value))
    return np.concatenate(outputs, axis=1)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_linear_layers(kernels, has, bytes_meet_int8, size):
    case = Case(*size)
    results = iter(case.run(kernels))
    for mode in MODES:
        expected = case.linear(mode, bytes_meet_int8 or (mode == "bounded" and joins(has)))
        # Integers: a value on the edge between two steps may fall to either side, in one of the row's
        # many terms; the other modes differ from float64 by their sums' rounding alone.
        tolerance = 5e-3 if mode in INTEGERS else 2e-5
        assert np.abs(next(results) - expected).max() < tolerance, mode
        # Where what follows GELU is rounded to eight bits, it is a polynomial.
        of_gelu = tolerance + (2e-4 if mode in {"bfloat16", *INTEGERS} else 0)
        assert np.abs(next(results) - gelu(expected)).max() < of_gelu, mode
        assert np.abs(next(results) - expected - case.residual).max() < tolerance, mode


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("positions", [1, 31, 45, 100, 1100])
def test_attention(kernels, has, bytes_meet_int8, positions, threads):
    case = Case(1, 64, 32, positions=positions, threads=threads)
    expected = attention(case.qkv)
    exact, half, integers = case.run(kernels)[3 * len(MODES) :][:3]
    assert np.abs(exact - expected).max() < 1e-5
    assert np.abs(half - expected).max() < 3e-2
    # What is left beside the rounding of queries, keys and values is that of the weights.
    if bytes_meet_int8:
        # On ARM, whose bytes are signed, weights have 127 steps in place of 255.
        tolerance = 6e-3 if "asimddp" in has else 3e-3
        bytes_with_sign = partial(integers_of, most=127)
        expected = attention(case.qkv, bytes_of, bytes_with_sign, bytes_with_sign)
    elif joins(has):
        expected, tolerance = attention(case.qkv, bytes_of, bounded, partial(integers_of, most=255)), 4e-4
    else:
        expected, tolerance = (
            attention(case.qkv, integers_of, integers_of, partial(integers_of, most=255)),
            4e-4,
        )
    errors = integers - expected
    assert np.sqrt(np.mean(errors**2)) < (tolerance if positions > 1 else 1e-5)
    assert np.abs(errors).max() < 15 * tolerance


def test_many_small_weights_count_beside_a_large_one(kernels):
    """Weights that integers would round to nothing are most of what is attended to here."""
    case = Case(1, 64, 32, positions=1000)
    query, key, value = np.split(case.qkv, 3, axis=1)
    query[:] = 1
    key[:] = 0
    # A score of 7 among zeros: each of them weighs 1 / 1097. Keys are not what is rounded here.
    key[0, ::HEAD_SIZE] = 7 * np.sqrt(HEAD_SIZE)
    value[:] = 1
    value[0] = -1
    integers = case.run(kernels)[3 * len(MODES) + 2]
    assert np.abs(integers - attention(case.qkv)).max() < 3e-2  # without them it would be 0.4


def test_a_row_does_not_depend_on_its_neighbours(kernels):
    """Bit for bit, in every precision, whatever tile or division the number of rows leads to."""
    case = Case(40, 516, 97)
    together = case.run(kernels)
    for rows in (slice(0, 1), slice(3, 5), slice(10, 15), slice(20, 32), slice(7, 40)):
        apart = case.run(kernels, rows)
        by_row = slice(3 * len(MODES)), slice(-5 * len(MODES), None)
        for outputs in by_row:
            for whole, part in zip(together[outputs], apart[outputs]):
                assert same(whole[rows], part)


@pytest.mark.parametrize("rows", [1, 2, 7, 61])
@pytest.mark.parametrize("mode", MODES)
def test_tokens_are_chosen_among_all_logits(kernels, mode, rows):
    """int8 looks at most of the text in four bits, which shows in sums of probabilities alone."""
    case = Case(rows, 64, 32)
    tokens, logprobs, watched, logits, embedded = case.run(kernels)[-5 * len(MODES) :][
        5 * MODES.index(mode) :
    ][:5]
    weight = case.embedding.astype(np.float64)
    exact = case.hidden @ weight.T
    # The largest products are of a channel that has 60: int8 rounds them to a 254th.
    tolerance = {"float32": 1e-3, "float16": 1e-3, "bfloat16": 1.5, "int8": 3, "bounded": 3}[mode]
    assert np.abs(logits - exact).max() < tolerance and np.abs(logits - exact).std() < tolerance / 4
    rounding = {"float32": 0, "float16": 0, "bfloat16": 2**-8, "int8": 2**-6, "bounded": 2**-6}[mode]
    vectors = weight[case.said] + case.positional[case.said]
    assert (np.abs(embedded - vectors) <= 1e-5 + rounding * np.abs(weight).max(axis=0).clip(2)).all()
    expected = candidates(logits, case.constraints, 3)
    within = 0.1 if mode in INTEGERS else 1e-4
    best = np.array([constraint.temperature == 0 for constraint in case.constraints])
    assert np.array_equal(tokens[best], expected.tokens[best])
    np.testing.assert_allclose(logprobs[best], expected.logprobs[best], atol=within)
    # Of a draw the kernel gives one.
    assert np.array_equal(tokens[~best, 0], expected.tokens[~best, 0])
    likely = expected.watched > 1e-3
    np.testing.assert_allclose(watched[likely], expected.watched[likely], rtol=10 * within)
    case.keeps = False
    unkept = case.run(kernels)[-5 * len(MODES) :][5 * MODES.index(mode) :][:4]
    assert np.array_equal(unkept[0], tokens) and np.array_equal(unkept[1], logprobs) and not unkept[3].size


@pytest.mark.parametrize("mode", INTEGERS)
def test_sums_of_the_largest_four_bits_hold(kernels, mode):
    """Where bytes are multiplied their products may add up in 16 bits: as many of them as can be had."""
    case = Case(1, 64, 32)
    large = slice(16, 32)  # behind those that are kept apart, the words that are added up together
    case.embedding[:] = 0
    case.embedding[:, :16] = 1
    case.embedding[::2, large] = 1
    case.norm = np.where(np.arange(STATE) < 16, 1000, 1).astype(np.float32), np.zeros(STATE, np.float32)
    case.hidden = np.zeros((1, STATE), np.float32)
    case.hidden[:, 16:] = 1 / 16  # so that every other logit is 1, and all others 0
    case.constraints, case.k = [Constraint(watch=0, watch_stop=TEXT)], 0
    watched = case.run(kernels)[-5 * len(MODES) :][5 * MODES.index(mode) + 2]
    assert watched[0] * TEXT == pytest.approx(2 * np.e / (np.e + 1), rel=0.05)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_watched_is_the_same_where_nothing_is_chosen(kernels, mode):
    """Tokens behind it are not computed then, wherever the last one that counts may be.

    In int8 those that have less than 1/3000 of its probability stay as four bits have them.
    """
    case = Case(7, 64, 32)
    case.keeps = False
    logits = case.hidden @ case.embedding.astype(np.float32).T
    for stops in ([TEXT] * 7, [100, 2049, 7, 2048, 1, TEXT, 33], [TEXT + 40, VOCABULARY, 9, 9, 9, 9, 9]):
        likely = [int(row[:stop].argmax()) for row, stop in zip(logits, stops)]
        case.constraints = [Constraint(watch=watch, watch_stop=stop) for watch, stop in zip(likely, stops)]
        case.constraints[2] = Constraint()
        watched = []
        for case.k in (3, 0):
            watched.append(case.run(kernels)[-5 * len(MODES) :][5 * MODES.index(mode) + 2])
        assert mode in INTEGERS or same(*watched)
        np.testing.assert_allclose(*watched, rtol=2e-3)
        assert np.isnan(watched[1][2]) and (np.delete(watched[1], 2) > 1 / VOCABULARY).all()


def test_threads_do_not_change_results(kernels):
    for rows in (1, 5, 250):
        first, *others = (Case(rows, 132, 97, threads=threads).run(kernels) for threads in (1, 2, 5))
        for other in others:
            assert all(same(one, two) for one, two in zip(first, other))


@pytest.mark.parametrize("positions", [1, 2, 3, 4, 15, 45, 100, 700])
@pytest.mark.parametrize("beyond", [0, 9])
def test_tokens_begin_where_the_definition_has_them(kernels, positions, beyond):
    case = Case(1, 64, 32, positions=positions + beyond)
    case.tokens(np.linspace(0, positions, max(2, positions // 12)).astype(int)[:-1], positions)
    expected = case.begins()
    exact, half, integers = case.run(kernels)[3 * len(MODES) + 3 :][:3]
    assert exact.tolist() == expected.tolist()
    for found in (half, integers):
        assert np.median(np.abs(found - expected)) <= 1


def silero(rng):
    """A model of the form of Silero VAD's, which says anything."""

    def drawn(*shape):
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    angles = 2 * np.pi * np.arange(129)[:, None] * np.arange(256) / 256
    waves = np.concatenate([np.cos(angles), np.sin(angles)]) * np.hanning(257)[:-1]
    weights = {"stft.forward_basis_buffer": waves.astype(np.float32)[:, None]}
    for i, (out, into) in enumerate([(128, 129), (64, 128), (64, 64), (128, 64)]):
        weights[f"encoder.{i}.reparam_conv.weight"] = drawn(out, into, 3)
        weights[f"encoder.{i}.reparam_conv.bias"] = drawn(out)
    for name in ("ih", "hh"):
        weights[f"decoder.rnn.weight_{name}"] = drawn(512, 128) * 2
        weights[f"decoder.rnn.bias_{name}"] = drawn(512)
    return {**weights, "decoder.decoder.2.weight": drawn(1, 128, 1), "decoder.decoder.2.bias": drawn(1)}


def test_another_spectrum_is_refused():
    model = silero(np.random.default_rng(0))
    for place in (3, 131):  # a cosine and a sine
        other = model["stft.forward_basis_buffer"].copy()
        other[place] *= -1
        with pytest.raises(DeviceError, match="pip install"):
            pack_silero({**model, "stft.forward_basis_buffer": other})


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 512, 513, 512 * 24, 512 * 193 + 5])
def test_speech_is_as_probable_as_in_numpy(kernels, count, threads):
    case = Case(1, 64, 32, threads=threads)
    case.samples = np.random.default_rng(count).normal(size=count).astype(np.float32)
    expected = Silero(case.silero).probabilities(case.samples, State())
    found = case.run(kernels)[3 * len(MODES) + 6]
    assert found.shape == (len(expected),) and (count < 600 or np.ptp(expected) > 0.01)
    assert np.abs(found - expected).max() < 1e-5
