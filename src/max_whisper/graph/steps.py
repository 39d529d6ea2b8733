"""Several steps of the decoder in one call: the graph, and the table of weights that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from max.dtype import DType
from max.graph import TensorType
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.graph.decoder import self_cache_type, weights_type
from max_whisper.graph.encoder import cross_cache_type, team_type
from max_whisper.graph.layers import Layers
from max_whisper.graph.module import GraphModule
from max_whisper.graph.precision import Precision
from max_whisper.graph.vocabulary import text_tokens, vocabulary_places

STARTS = 8  # integers that say where a sequence stands, as in kernels/standing.mojo


def add_steps(graphs: GraphModule, dims: ModelDimensions, precision: Precision) -> None:
    """Sequences -> their next tokens, until one ends (of beams, a search) or ``steps`` are taken.

    Inputs: weights' places (n,) int64, starts (N, STARTS), sources (rows, n_text_ctx),
    forbidden (N, F), numbers (N, 2), sums (N,) and wanted (searches,) of beams, seeds (N, steps, 2),
    k candidates, team (2,), and both caches. Outputs: tokens (steps, N, k) int32, logprobs
    (steps, N, k), queries (n_text_layer, steps, N, state), and how many steps were taken (1,) int32.
    """
    device = graphs.device

    def ints(*shape: int | str) -> TensorType:
        return TensorType(DType.int32, shape, device)

    types = [
        weights_type(device),
        ints("sequences", STARTS),
        ints("rows", dims.n_text_ctx),
        ints("sequences", "forbidden"),
        TensorType(DType.float32, ("sequences", 2), device),
        TensorType(DType.float32, ("sequences",), device),
        ints("searches"),
        ints("sequences", "steps", 2),
        ints("k"),  # only its length counts: an output's size must come from an input's
        team_type(device),
        self_cache_type(dims, device),
        cross_cache_type(dims, device, precision),
    ]
    with graphs.graph("steps", types) as graph:
        *inputs, k, team = (value.tensor for value in graph.inputs[:10])
        cache, cross = (value.buffer for value in graph.inputs[10:])
        graph.output(*Layers(device, precision, team).steps(dims, cache, cross, inputs, k.shape[0]))


def weight_places(
    weights: Mapping[str, NDArray[Any]], dims: ModelDimensions, precision: Precision
) -> NDArray[np.int64]:
    """The vocabulary's places, then the other weights' addresses in the order in which they are met.

    The arrays must stay where they are for as long as the table is used.
    """
    places = vocabulary_places(weights, dims.n_vocab, text_tokens(dims), precision)
    return np.array([*places, *(weights[name].ctypes.data for name in _names(dims))], np.int64)


def _names(dims: ModelDimensions) -> Iterator[str]:
    yield "decoder.positional_embedding"
    for i in range(dims.n_text_layer):
        block = f"decoder.blocks.{i}"
        yield from _norm(f"{block}.attn_ln")
        yield from _packed(f"{block}.attn.qkv")
        yield from _packed(f"{block}.attn.out")
        yield from _norm(f"{block}.cross_attn_ln")
        yield from _packed(f"{block}.cross_attn.query")
        yield from _packed(f"{block}.cross_attn.out")
        yield from _norm(f"{block}.mlp_ln")
        yield from _packed(f"{block}.mlp.0")
        yield from _packed(f"{block}.mlp.2")
    yield from _norm("decoder.ln")


def _packed(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.epilogue"


def _norm(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"
