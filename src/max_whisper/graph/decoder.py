"""Whisper's decoder: one graph for prompt and step, for any number of rows.

The N tokens of a pass are a flat list, each with its cache row, its position and its window
(:class:`max_whisper.decoding.runtime.Batch`); L of them go on to the output head.
"""

from __future__ import annotations

from typing import TypeVar

from max.dtype import DType
from max.graph import BufferType, BufferValue, DeviceRef, TensorType, TensorValue

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.graph.encoder import cross_cache_type, team_type
from max_whisper.graph.layers import Layers
from max_whisper.graph.module import GraphModule
from max_whisper.graph.precision import Precision
from max_whisper.graph.stages import Stages

Rows = TypeVar("Rows", int, str)

LIMITS = 9  # integers a constraint is told in, as in kernels/candidates.mojo


def add_decoder(graphs: GraphModule, dims: ModelDimensions, precision: Precision, stages: Stages) -> None:
    """Tokens and caches -> candidates, logits, and each layer's cross-attention queries.

    Outputs: tokens (L, k) int32, logprobs (L, k), watched (L,), logits (L or 0, n_vocab), then one
    (N, state) of queries for each layer, and every stage that is kept.
    """
    device = graphs.device
    with graphs.graph("decoder", _inputs(dims, device, precision)) as graph:
        tokens, rows, positions, windows, sources, outputs = (value.tensor for value in graph.inputs[:6])
        constraint = [value.tensor for value in graph.inputs[6:10]]
        k, kept, vocabulary, weights, team = (value.tensor for value in graph.inputs[10:15])
        cache, cross = (value.buffer for value in graph.inputs[15:])
        layers = Layers(device, precision, team)
        x = layers.embed(tokens, positions, weights, dims.n_text_state)
        x = stages.keep("decoder.embedding", x)
        queries = []
        for i in range(dims.n_text_layer):
            block = _Block(layers, dims, i, stages)
            x = block.attend_past(x, cache, rows, positions, sources)
            x, query = block.attend_audio(x, cross, windows)
            x = block.mlp(x)
            queries.append(query)
        x = stages.keep("ln", layers.layer_norm(layers.gather_rows(x, outputs), "decoder.ln"))
        kept_logits = kept.shape[0], vocabulary.shape[0]
        chosen = layers.choose(x, weights, constraint, k.shape[0], kept_logits)
        graph.output(*chosen, *queries, *stages.values())


class _Block:
    def __init__(self, layers: Layers, dims: ModelDimensions, index: int, stages: Stages) -> None:
        self.layers = layers
        self.dims = dims
        self.index = index
        self.name = f"decoder.blocks.{index}"
        self.stages = stages

    def attend_past(
        self,
        x: TensorValue,
        cache: BufferValue,
        rows: TensorValue,
        positions: TensorValue,
        sources: TensorValue,
    ) -> TensorValue:
        width = self.dims.n_text_state
        normed = self._keep("attn_ln", self.layers.layer_norm(x, f"{self.name}.attn_ln"))
        qkv = self._keep("qkv", self.layers.linear(normed, f"{self.name}.attn.qkv", 3 * width))
        heads = self.layers.self_attention(
            cache, qkv, rows, positions, sources, layer=self.index, heads=self.dims.n_text_head
        )
        self._keep("attention", heads)
        return self._keep("attended", self.layers.linear(heads, f"{self.name}.attn.out", width, residual=x))

    def attend_audio(
        self, x: TensorValue, cross: BufferValue, windows: TensorValue
    ) -> tuple[TensorValue, TensorValue]:
        dims = self.dims
        normed = self._keep("cross_attn_ln", self.layers.layer_norm(x, f"{self.name}.cross_attn_ln"))
        query = self.layers.linear(normed, f"{self.name}.cross_attn.query", dims.n_text_state)
        self._keep("cross_query", query)
        heads = self.layers.cross_attention(
            cross,
            query,
            windows,
            layer=self.index,
            heads=dims.n_text_head,
        )
        self._keep("cross_attention", heads)
        out = self.layers.linear(heads, f"{self.name}.cross_attn.out", dims.n_text_state, residual=x)
        return self._keep("cross_attended", out), query

    def mlp(self, x: TensorValue) -> TensorValue:
        width = self.dims.n_text_state
        normed = self._keep("mlp_ln", self.layers.layer_norm(x, f"{self.name}.mlp_ln"))
        hidden = self.layers.linear(normed, f"{self.name}.mlp.0", 4 * width, activation="gelu")
        self._keep("mlp_hidden", hidden)
        x = self.layers.linear(hidden, f"{self.name}.mlp.2", width, residual=x)
        return self.stages.keep(self.name, x)

    def _keep(self, stage: str, value: TensorValue) -> TensorValue:
        return self.stages.keep(f"{self.name}.{stage}", value)


def add_alignment(graphs: GraphModule, dims: ModelDimensions, precision: Precision) -> None:
    """The position at which each wanted token begins, from the attention of chosen heads: (W,) int32.

    Inputs: queries (n_text_layer, N, n_text_state), heads (count, 2) as (layer, head), place (2,) as
    window and how many of its positions count, wanted (W,) consecutive tokens, cache, team (2,).
    """
    device = graphs.device

    def ints(*shape: int | str) -> TensorType:
        return TensorType(DType.int32, shape, device)

    types = [
        TensorType(DType.float32, (dims.n_text_layer, "tokens", dims.n_text_state), device),
        ints("heads", 2),
        ints(2),
        ints("wanted"),
        cross_cache_type(dims, device, precision),
        team_type(device),
    ]
    with graphs.graph("alignment", types) as graph:
        queries, heads, place, wanted = (value.tensor for value in graph.inputs[:4])
        layers = Layers(device, precision, graph.inputs[5].tensor)
        cache = graph.inputs[4].buffer
        graph.output(layers.alignment(cache, queries, heads, place, wanted, head_count=dims.n_text_head))


def _inputs(dims: ModelDimensions, device: DeviceRef, precision: Precision) -> list[TensorType | BufferType]:
    def ints(*shape: int | str) -> TensorType:
        return TensorType(DType.int32, shape, device)

    return [
        ints("tokens"),
        ints("tokens"),
        ints("tokens"),
        ints("tokens"),
        ints("rows", dims.n_text_ctx),
        ints("outputs"),
        ints("outputs", LIMITS),
        ints("outputs", "forbidden"),
        ints("outputs", "repeated"),
        TensorType(DType.float32, ("outputs", 2), device),
        # Only their lengths count: an output's size must come from an input's.
        ints("k"),
        ints("kept"),
        TensorType(DType.int8, ("vocabulary",), device),
        weights_type(device),
        team_type(device),
        self_cache_type(dims, device),
        cross_cache_type(dims, device, precision),
    ]


def weights_type(device: DeviceRef) -> TensorType:
    """Where the decoder's weights lie: see :func:`max_whisper.graph.steps.weight_places`."""
    return TensorType(DType.int64, ("weights",), device)


def self_cache_type(dims: ModelDimensions, device: DeviceRef) -> BufferType:
    """The cache of self-attention."""
    return BufferType(DType.float32, self_cache_shape(dims, "rows"), device)


def self_cache_shape(dims: ModelDimensions, rows: Rows) -> tuple[int, int, Rows, int, int, int]:
    """(layers, keys and values, rows, heads, n_text_ctx, head size)."""
    heads = dims.n_text_head
    return dims.n_text_layer, 2, rows, heads, dims.n_text_ctx, dims.n_text_state // heads
