"""The kernels against float64 numpy, at odd sizes, on each path that this processor can run."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from max.driver import CPU, Buffer
from max.engine import InferenceSession, read

from max_whisper.graph.artifacts import load_graphs
from max_whisper.graph.precision import FLOAT16_WEIGHTS, PRECISIONS, quantise, to_bfloat16
from max_whisper.graph.processor import features
from max_whisper.graph.team import TEAM, team_of

HEADS, HEAD_SIZE = 2, 64
MODES = ("float32", "float16", "bfloat16", "int8")
PACKINGS = {**PRECISIONS, "float16": FLOAT16_WEIGHTS}
# (rows, inner dimension, columns): a step, few rows, many rows in either division, odd ends.
SIZES = [(1, 64, 96), (2, 100, 33), (5, 68, 65), (7, 240, 31), (13, 512, 97), (37, 1028, 64), (250, 72, 70)]


def runnable_targets():
    return ["host", *(["x86-64-v3"] if {"avx2", "fma"} <= features() else [])]


@pytest.fixture(scope="module", params=runnable_targets())
def target(request):
    return request.param


@pytest.fixture(scope="module")
def kernels(target, compiled_kernels):
    session = InferenceSession(devices=[CPU()])
    return session.init(read(io.BytesIO(compiled_kernels[target])))


@pytest.fixture
def bytes_meet_int8(target):
    """Whether int8 weights are multiplied by bytes, as this processor can, or by 12-bit integers."""
    return target == "host" and "avx512_vnni" in features()


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
    return {target: (folder / target).read_bytes() for target in running}


def team(threads):
    """The kernels' team as the array that graphs take."""
    (graph,) = load_graphs([TEAM])
    return team_of(threads, graph, InferenceSession(devices=[CPU()])).to_numpy()


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

    def run(self, kernels, rows=slice(None)):
        arrays = [self.x[rows], self.residual[rows], team(self.threads)]
        for mode in MODES:
            arrays += PACKINGS[mode].pack(self.weight, self.bias)
        positions, width = self.qkv.shape
        arrays += [self.qkv, np.zeros((positions, width // 3), np.float32)]
        results = kernels.execute(*(Buffer.from_numpy(np.ascontiguousarray(array)) for array in arrays))
        return [result.to_numpy().copy() for result in results]

    def linear(self, mode, in_bytes):
        """What the mode computes, with the mode's own rounding of inputs and no other."""
        x, weight = self.x.astype(np.float64), self.weight.astype(np.float64)
        if mode == "bfloat16":
            x, weight = widened(self.x), widened(self.weight)
        if mode == "int8":
            integers, scale = quantise(self.weight)
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


def gelu(x):
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def attention(qkv, rounded=lambda x: x, rounded_query=None):
    outputs = []
    for head in range(HEADS):
        query, key, value = (
            part[:, head * HEAD_SIZE : (head + 1) * HEAD_SIZE]
            for part in np.split(qkv.astype(np.float64), 3, axis=1)
        )
        scores = (rounded_query or rounded)(query) @ rounded(key).T / np.sqrt(HEAD_SIZE)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        outputs.append(weights / weights.sum(axis=1, keepdims=True) @ rounded(value))
    return np.concatenate(outputs, axis=1)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_linear_layers(kernels, bytes_meet_int8, size):
    case = Case(*size)
    results = iter(case.run(kernels))
    for mode in MODES:
        expected = case.linear(mode, bytes_meet_int8)
        # int8: a value on the edge between two steps may fall to either side, in one of the row's
        # many terms; the other modes differ from float64 by their sums' rounding alone.
        tolerance = 5e-3 if mode == "int8" else 2e-5
        assert np.abs(next(results) - expected).max() < tolerance, mode
        assert np.abs(next(results) - gelu(expected)).max() < tolerance, mode
        assert np.abs(next(results) - expected - case.residual).max() < tolerance, mode


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("positions", [1, 31, 45, 100, 1100])
def test_attention(kernels, bytes_meet_int8, positions, threads):
    case = Case(1, 64, 32, positions=positions, threads=threads)
    expected = attention(case.qkv)
    *_, exact, half, integers = case.run(kernels)
    assert np.abs(exact - expected).max() < 1e-5
    assert np.abs(half - expected).max() < 3e-2
    # What is left beside the rounding of queries, keys and values is that of the weights.
    if bytes_meet_int8:
        expected, tolerance = attention(case.qkv, lambda x: integers_of(x, 127), bytes_of), 3e-3
    else:
        expected, tolerance = attention(case.qkv, integers_of), 4e-4
    errors = integers - expected
    assert np.sqrt(np.mean(errors**2)) < (tolerance if positions > 1 else 1e-5)
    assert np.abs(errors).max() < 15 * tolerance


def test_many_small_weights_count_beside_a_large_one(kernels):
    """Weights that integers would round to nothing are most of what is attended to here."""
    case = Case(1, 64, 32, positions=1000)
    query, key, value = np.split(case.qkv, 3, axis=1)
    query[:] = 1
    key[:] = 0
    key[0] = 7 / np.sqrt(HEAD_SIZE)  # a score of 7 among zeros: each of them weighs 1 / 1097
    value[:] = 1
    value[0] = -1
    *_, integers = case.run(kernels)
    assert np.abs(integers - attention(case.qkv)).max() < 3e-2  # without them it would be 0.4


def test_a_row_does_not_depend_on_its_neighbours(kernels):
    """Bit for bit, in every precision, whatever tile or division the number of rows leads to."""
    case = Case(40, 516, 97)
    together = case.run(kernels)
    for rows in (slice(0, 1), slice(3, 5), slice(10, 15), slice(20, 32), slice(7, 40)):
        apart = case.run(kernels, rows)
        for whole, part in zip(together[: 3 * len(MODES)], apart):
            assert np.array_equal(whole[rows], part)


def test_threads_do_not_change_results(kernels):
    for rows in (1, 5, 250):
        first, *others = (Case(rows, 132, 97, threads=threads).run(kernels) for threads in (1, 2, 5))
        for other in others:
            assert all(np.array_equal(one, two) for one, two in zip(first, other))
