"""The kernels by themselves, as a share of what this processor can do.

    python -m benchmarks.kernels --models tiny base large-v3

Linear layers and attention of the encoder, at the shapes of Whisper's models and 1500 positions, and
the output head of a decoder's step, whose weights are read from memory. Inputs are random, times are the
best of many calls. Writes NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from max.driver import CPU, Buffer
from max.dtype import DType
from max.engine import InferenceSession, Model
from max.graph import DeviceRef, Graph, TensorType, ops
from numpy.typing import NDArray

from benchmarks.environments import BenchmarkError
from benchmarks.peak import better, build_peak, measure_peak, told
from benchmarks.run import RESULTS, processor
from benchmarks.tables import table
from max_whisper.decoding.runtime import NO_CONSTRAINT
from max_whisper.graph.artifacts import COMMON, load_modules
from max_whisper.graph.constraints import ConstraintArrays
from max_whisper.graph.decoder import LIMITS, weights_type
from max_whisper.graph.encoder import team_type
from max_whisper.graph.layers import Layers
from max_whisper.graph.module import KERNELS
from max_whisper.graph.precision import FLOAT16_WEIGHTS, PANEL, PRECISIONS, Precision, suited
from max_whisper.graph.team import team_of
from max_whisper.graph.vocabulary import pack_vocabulary, vocabulary_places

#: State and heads of each size; the head size is 64 throughout.
SIZES = {"tiny": (384, 6), "base": (512, 8), "small": (768, 12), "medium": (1024, 16), "large-v3": (1280, 20)}
#: Published weights are float16, and that is how the float32 tier keeps them.
TIERS = {**{name: suited(tier) for name, tier in PRECISIONS.items()}, "float32": FLOAT16_WEIGHTS}
#: What is asked of linear layers and of reading, as shares of the peak.
WANTED = {"float32": 0.70, "bfloat16": 0.65, "int8": 0.70, "memory": 0.70}
POSITIONS = 1500
VOCABULARY, TEXT = 51865, 50240
SWEPT = 1 << 28  # bytes of weights that are read in turn: more than the caches keep
PATIENCE = 0.3  # seconds of calls in a round

CPU_REF = DeviceRef.CPU()

#: Makes calls of a kernel.
Calls = Callable[[], list[Callable[[], Any]]]


@dataclass(frozen=True)
class Shape:
    """A product to be measured.

    Attributes:
        name: What it is in the model.
        rows: Rows of the input.
        depth: Its columns.
        width: Columns of the output.
        op: The kernel.
        activation: Of ``linear``.
        heads: Of attention.
    """

    name: str
    rows: int
    depth: int
    width: int
    op: str = "linear"
    activation: str = "none"
    heads: int = 0

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        if self.op == "encoder_attention":
            return 2 * 2 * self.rows**2 * self.width
        return 2 * self.rows * self.depth * self.width

    @property
    def kind(self) -> tuple[str, str, int]:
        """What needs a graph of its own."""
        return self.op, self.activation, self.heads


def encoder_shapes(state: int, heads: int) -> list[Shape]:
    """The products of one block of the encoder."""
    return [
        Shape("query, key, value", POSITIONS, state, 3 * state),
        Shape("attention", POSITIONS, 3 * state, state, "encoder_attention", heads=heads),
        Shape("attention's output", POSITIONS, state, state, "linear_residual"),
        Shape("MLP up, GELU", POSITIONS, state, 4 * state, activation="gelu"),
        Shape("MLP down", POSITIONS, 4 * state, state, "linear_residual"),
    ]


@dataclass
class Measured:
    """A kernel's best time.

    Attributes:
        model: The model whose shape it is.
        precision: The tier.
        what: The shape's name.
        shape: Rows, depth, width.
        amount: Operations, or bytes of weights.
        limit: Which rate bounds it.
        seconds: The best so far.
    """

    model: str
    precision: str
    what: str
    shape: tuple[int, int, int]
    amount: int
    limit: str
    seconds: float = float("inf")

    def share(self, limits: dict[str, float]) -> float:
        """The rate reached over the limit's."""
        return self.amount / self.seconds / limits[self.limit]


def graph_of(shape: Shape, precision: Precision) -> Graph:
    """One op of any size. Inputs: x, for linear layers weight and epilogue, a (rows, width) array, team.

    The array gives the output its shape, and is the residual where there is one.
    """
    rows_width = TensorType(DType.float32, ("rows", "width"), CPU_REF)
    types = [TensorType(DType.float32, ("rows", "depth"), CPU_REF)]
    if shape.op != "encoder_attention":
        types.append(TensorType(DType.int32, ("panels", "words", PANEL), CPU_REF))
        types.append(TensorType(DType.float32, ("lines", "columns"), CPU_REF))
    types += [rows_width, team_type(CPU_REF)]
    parameters: dict[str, Any] = {
        "mode": precision.attention if shape.op == "encoder_attention" else precision.linear
    }
    with Graph("kernel", input_types=types, custom_extensions=[KERNELS]) as graph:
        *given, like, team = (value.tensor for value in graph.inputs)
        if shape.op == "linear_residual":
            given.append(like)
        elif shape.op == "linear":
            parameters["activation"] = shape.activation
        else:
            parameters = {"mode": precision.attention, "heads": shape.heads}
        graph.output(*ops.custom(f"whisper_{shape.op}", CPU_REF, [*given, team], [rows_width], parameters))
    return graph


def head_graph(state: int, precision: Precision) -> Graph:
    """The output head of one row. Inputs: places, x, a constraint's arrays, a vocabulary's length, team."""

    def ints(*shape: int | str) -> TensorType:
        return TensorType(DType.int32, shape, CPU_REF)

    types = [
        weights_type(CPU_REF),
        TensorType(DType.float32, (1, state), CPU_REF),
        ints(1, LIMITS),
        ints(1, "forbidden"),
        ints(1, "repeated"),
        TensorType(DType.float32, (1, 2), CPU_REF),
        ints("k"),
        ints("kept"),
        TensorType(DType.int8, ("vocabulary",), CPU_REF),
        team_type(CPU_REF),
    ]
    with Graph("head", input_types=types, custom_extensions=[KERNELS]) as graph:
        places, x, *constraint, k, kept, vocabulary, team = (value.tensor for value in graph.inputs)
        layers = Layers(CPU_REF, precision, team)
        logits = kept.shape[0], vocabulary.shape[0]
        graph.output(*layers.choose(x, places, constraint, k.shape[0], logits))
    return graph


class Kernels:
    """Compiles kernels and calls them.

    Args:
        threads: How many threads work.
    """

    def __init__(self, threads: int) -> None:
        self._session = InferenceSession(devices=[CPU()])
        self._models: dict[tuple[str, str, str, int], Model] = {}
        (common,) = load_modules([COMMON])
        self._team = team_of(threads, self._session.init_all(common)["team"])
        self._random = np.random.default_rng(0)

    def calls(self, shape: Shape, tier: str) -> Calls:
        """Makes calls of a kernel when they are wanted."""
        precision = TIERS[tier]
        key = (tier, *shape.kind)
        if key not in self._models:
            self._models[key] = self._session.load(graph_of(shape, precision))
        model = self._models[key]
        x = _buffer(self._normal(shape.rows, shape.depth))
        like = _buffer(self._normal(shape.rows, shape.width))
        given = []
        if shape.op != "encoder_attention":
            weight = self._normal(shape.width, shape.depth) / np.float32(shape.depth**0.5)
            given = list(precision.pack(weight, np.zeros(shape.width, np.float32)))
        return lambda: [partial(model.execute, x, *map(_buffer, given), like, self._team)]

    def head(self, state: int, tier: str) -> tuple[int, Calls]:
        """Bytes of weights that a step's output head reads, and calls, each with weights of its own."""
        precision = TIERS[tier]
        key = (tier, "head", "", state)
        if key not in self._models:
            self._models[key] = self._session.load(head_graph(state, precision))
        norm = np.ones(state, np.float32), np.zeros(state, np.float32)
        embedding = self._normal(VOCABULARY, state)
        packed = pack_vocabulary(embedding, norm, TEXT, precision, 1024)
        count = sum(array.nbytes for name, array in packed.items() if name.endswith(".weight"))
        hidden = _buffer(self._normal(1, state))

        lengths = np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(VOCABULARY, np.int8)
        constraint = ConstraintArrays().fill([NO_CONSTRAINT])
        given = [_buffer(array.copy()) for array in (*constraint, *lengths)]

        def call(places: Buffer, arrays: dict[str, NDArray[Any]]) -> None:
            # The arrays stay where the places say for as long as they are here.
            self._models[key].execute(places, hidden, *given, self._team)

        def calls() -> list[Callable[[], Any]]:
            copies = [
                {name: array.copy() for name, array in packed.items()} for _ in range(-(-SWEPT // count))
            ]
            places = (vocabulary_places(arrays, VOCABULARY, TEXT, precision) for arrays in copies)
            return [
                partial(call, _buffer(np.array(each, np.int64)), arrays)
                for each, arrays in zip(places, copies)
            ]

        return count, calls

    def _normal(self, *shape: int) -> NDArray[np.float32]:
        return self._random.standard_normal(shape, np.float32)


def _buffer(array: NDArray[Any]) -> Buffer:
    return Buffer.from_numpy(array)


def fastest(calls: Sequence[Callable[[], Any]], patience: float = PATIENCE) -> float:
    """The least seconds of a call; of several calls, of one turn over all of them, a call."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < patience:
        start = time.perf_counter()
        for call in calls:
            call()
        times.append(time.perf_counter() - start)
    return min(times) / len(calls)


def measurements(
    kernels: Kernels, models: Sequence[str], precisions: Sequence[str]
) -> Iterator[tuple[Measured, Calls]]:
    """What is measured, and what makes the calls that are timed for it."""
    for model in models:
        state, heads = SIZES[model]
        for tier in precisions:
            for shape in encoder_shapes(state, heads):
                size = (shape.rows, shape.depth, shape.width)
                found = Measured(model, tier, shape.name, size, shape.operations, tier)
                yield found, kernels.calls(shape, tier)
            count, calls = kernels.head(state, tier)
            size = (1, state, VOCABULARY)
            yield Measured(model, tier, "output head, one row", size, count, "memory"), calls


def report(measured: Sequence[Measured], limits: dict[str, float], about: Sequence[str]) -> str:
    """The results as Markdown."""
    parts = ["# Kernels", *about, f"Peak: {told(limits)}."]
    for model in dict.fromkeys(each.model for each in measured):
        rows = [
            [
                each.what,
                " x ".join(map(str, each.shape)),
                each.precision,
                f"{1000 * each.seconds:.2f}",
                f"{each.amount / each.seconds / 1e9:.0f} {'GB/s' if each.limit == 'memory' else 'G/s'}",
                each.limit,
                f"{100 * each.share(limits):.0f} %",
            ]
            for each in measured
            if each.model == model
        ]
        head = ["product", "rows x depth x width", "precision", "ms", "rate", "limit", "of peak"]
        parts += [f"## {model}", table(head, rows)]
    for precision in dict.fromkeys(each.precision for each in measured):
        parts.append(_furthest(precision, [each for each in measured if each.precision == precision], limits))
    return "\n\n".join(parts) + "\n"


def _furthest(precision: str, measured: Sequence[Measured], limits: dict[str, float]) -> str:
    """What is furthest from its limit, and which products miss what is wanted of them."""
    worst = min(measured, key=lambda each: each.share(limits))
    below = [
        f"{each.model} {each.what} ({100 * each.share(limits):.0f} %)"
        for each in measured
        if each.what != "attention" and each.share(limits) < WANTED[each.limit]
    ]
    share = f"{100 * worst.share(limits):.0f} %"
    text = f"{precision}: furthest from its limit is {worst.what} of {worst.model}, at {share}."
    wanted = f"{100 * WANTED[precision]:.0f} % of the peak (reading: {100 * WANTED['memory']:.0f} %)"
    return f"{text} Below {wanted}: {', '.join(below) or 'no linear layer'}."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--models", nargs="+", default=list(SIZES), choices=list(SIZES))
    add("--precisions", nargs="+", default=list(PRECISIONS), choices=list(PRECISIONS))
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=10, help="turns over all products; the best counts")
    add("--output", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default=f"{datetime.now(timezone.utc):%Y-%m-%d}-kernels", help="name of the results")
    options = parser.parse_args(arguments)
    if min(options.threads, options.rounds) < 1:
        parser.error("--threads and --rounds must be at least 1")
    try:
        for number, (measured, limits) in enumerate(measure(options), start=1):
            text = write(measured, limits, number, options)
            print(f"[{datetime.now():%H:%M:%S}] round {number}/{options.rounds}", flush=True)
    except BenchmarkError as error:
        print(f"benchmarks.kernels: {error}")
        return 1
    print(f"\n{text}")
    return 0


def measure(options: argparse.Namespace) -> Iterator[tuple[list[Measured], dict[str, float]]]:
    """Best times and the peak so far, after every round."""
    kernels = Kernels(options.threads)
    work = list(measurements(kernels, options.models, options.precisions))
    limits: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        program = build_peak(Path(folder))
        for _ in range(options.rounds):
            limits = better(limits, measure_peak(program, options.threads, times=2))
            for found, calls in work:
                found.seconds = min(found.seconds, fastest(calls()))
            yield [found for found, _ in work], limits


def write(
    measured: Sequence[Measured], limits: dict[str, float], rounds: int, options: argparse.Namespace
) -> str:
    """Writes what is known after some rounds, so that a run can be stopped; returns the Markdown."""
    cores, today = len(os.sched_getaffinity(0)), datetime.now(timezone.utc).strftime("%Y-%m-%d")
    machine = f"{processor()}, {cores} cores, {options.threads} threads"
    about = f"{machine}; {today}; best of {rounds} rounds. Method: docs/benchmarks.md."
    text = report(measured, limits, [about])
    rows = [{**asdict(each), "share": each.share(limits)} for each in measured]
    results = {"about": about, "limits": limits, "kernels": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    base = options.output / options.name
    base.with_name(f"{base.name}.json").write_text(json.dumps(results, indent=1) + "\n")
    base.with_name(f"{base.name}.md").write_text(text)
    return text


if __name__ == "__main__":
    sys.exit(main())
