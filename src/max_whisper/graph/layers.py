"""The layers of Whisper as MAX ops, one function each; kernels are in ``kernels/``.

All activations are float32 and two-dimensional: (positions, channels). Weights are graph
weights under canonical names, in the layout of :mod:`max_whisper.graph.packing`.
"""

from __future__ import annotations

from collections.abc import Sequence

from max.dtype import DType
from max.graph import BufferValue, DeviceRef, Dim, TensorType, TensorValue, Weight, ops

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.graph.precision import PANEL, Precision, panels


def packed_positions(positions: int) -> int:
    """Positions of a head in the packed cross-attention cache: whole panels."""
    return panels(positions) * PANEL


class Layers:
    """Builds layers on one device inside the current graph.

    Args:
        device: Where the layers are computed.
        precision: How linear layers and attention multiply.
        team: The graph's (2,) int64 input that says which threads work: see :mod:`.team`.
    """

    def __init__(self, device: DeviceRef, precision: Precision, team: TensorValue) -> None:
        self.device = device
        self.precision = precision
        self.team = team

    def weight(self, name: str, *shape: int) -> Weight:
        """A float32 weight, given to ``session.init`` by its name."""
        return Weight(name, DType.float32, shape, self.device)

    def packed(self, name: str, width: int, depth: int) -> tuple[Weight, Weight]:
        """A packed linear layer's panels and epilogue."""
        words = (panels(width), self.precision.words(depth), PANEL)
        epilogue = (self.precision.epilogue_rows, panels(width) * PANEL)
        return (
            Weight(f"{name}.weight", DType.int32, words, self.device),
            self.weight(f"{name}.epilogue", *epilogue),
        )

    def linear(
        self,
        x: TensorValue,
        name: str,
        width: int,
        *,
        activation: str = "none",
        residual: TensorValue | None = None,
    ) -> TensorValue:
        """``activation(x @ W + b)``, or ``residual + x @ W + b``: (M, K) -> (M, width)."""
        rows, depth = x.shape
        weight, epilogue = self.packed(name, width, int(depth))
        out = self._type(rows, width)
        if residual is not None:
            return self._op(
                "linear_residual",
                [x, weight, epilogue, residual, self.team],
                out,
                mode=self.precision.linear,
            )
        return self._op(
            "linear",
            [x, weight, epilogue, self.team],
            out,
            mode=self.precision.linear,
            activation=activation,
        )

    def conv(
        self, x: TensorValue, name: str, width: int, frames: Dim | int, *, stride: int, border: int
    ) -> TensorValue:
        """GELU of a convolution of width 3 over padded frames: -> (frames + 2 * border, width)."""
        depth = 3 * int(x.shape[1])
        weight, epilogue = self.packed(name, width, depth)
        out = self._type(frames + 2 * border, width)
        return self._op(
            "conv",
            [x, weight, epilogue, self.team],
            out,
            mode=self.precision.linear,
            stride=stride,
            border=border,
        )

    def pad_frames(self, mel: TensorValue) -> TensorValue:
        """(channels, frames) -> (frames + 2, channels), zero at both ends."""
        channels, frames = mel.shape
        return self._op("pad_frames", [mel], self._type(frames + 2, channels))

    def add_positions(self, x: TensorValue, name: str, rows: int) -> TensorValue:
        """``x + table[: len(x)]`` of a table with so many rows."""
        table = self.weight(name, rows, int(x.shape[1]))
        return self._op("add_positions", [x, table], self._type(*x.shape))

    def layer_norm(self, x: TensorValue, name: str) -> TensorValue:
        """Layer norm over the channels, eps 1e-5."""
        width = int(x.shape[1])
        weight = self.weight(f"{name}.weight", width)
        bias = self.weight(f"{name}.bias", width)
        return self._op("layer_norm", [x, weight, bias, self.team], self._type(x.shape[0], width))

    def encoder_attention(self, qkv: TensorValue, heads: int) -> TensorValue:
        """Every position attends to every position: (M, 3 * state) -> (M, state)."""
        out = self._type(qkv.shape[0], int(qkv.shape[1]) // 3)
        return self._op(
            "encoder_attention", [qkv, self.team], out, mode=self.precision.attention, heads=heads
        )

    def keep_cross(
        self, cache: BufferValue, kv: TensorValue, window: TensorValue, layer: int, heads: int
    ) -> None:
        """Keeps a layer's cross-attention keys and values (M, 2 * state) in the cache."""
        ops.inplace_custom(
            "whisper_keep_cross",
            self.device,
            [cache, kv, window, self.team],
            parameters={"mode": self.precision.attention, "layer": layer, "heads": heads},
        )

    def cross_attention(
        self,
        cache: BufferValue,
        queries: TensorValue,
        windows: TensorValue,
        *,
        layer: int,
        heads: int,
    ) -> TensorValue:
        """Each query attends to its window in the cache, all of it: (N, state) -> (N, state)."""
        out = self._type(*queries.shape)
        return self._inplace(
            "cross_attention",
            [cache, queries, windows, self.team],
            out,
            mode=self.precision.attention,
            layer=layer,
            heads=heads,
        )

    def self_attention(
        self,
        cache: BufferValue,
        qkv: TensorValue,
        rows: TensorValue,
        positions: TensorValue,
        sources: TensorValue,
        *,
        layer: int,
        heads: int,
    ) -> TensorValue:
        """Keeps N tokens' keys and values and attends to their past: (N, 3 * state) -> (N, state)."""
        out = self._type(qkv.shape[0], int(qkv.shape[1]) // 3)
        return self._inplace(
            "self_attention",
            [cache, qkv, rows, positions, sources, self.team],
            out,
            layer=layer,
            heads=heads,
        )

    def embed(
        self, tokens: TensorValue, positions: TensorValue, weights: TensorValue, width: int
    ) -> TensorValue:
        """Token plus position embedding: (N,) -> (N, width); ``weights`` are the decoder's places."""
        out = self._type(tokens.shape[0], width)
        return self._op("embed", [tokens, positions, weights], out, mode=self.precision.linear)

    def gather_rows(self, x: TensorValue, indices: TensorValue) -> TensorValue:
        """``x[indices]``."""
        return self._op("gather_rows", [x, indices], self._type(indices.shape[0], int(x.shape[1])))

    def choose(
        self,
        x: TensorValue,
        weights: TensorValue,
        constraint: Sequence[TensorValue],
        k: Dim,
        kept: tuple[Dim, Dim],
    ) -> list[TensorValue]:
        """Tokens (L, k) int32, logprobs (L, k), watched (L,) and logits (L or 0, n_vocab) of x (L, state)."""
        outputs = x.shape[0]
        results = ops.custom(
            "whisper_choose",
            self.device,
            [x, weights, *constraint, self.team],
            [
                TensorType(DType.int32, (outputs, k), self.device),
                self._type(outputs, k),
                TensorType(DType.float32, (outputs,), self.device),
                self._type(*kept),
            ],
            parameters={"mode": self.precision.linear},
        )
        return [result.tensor for result in results]

    def steps(
        self,
        dims: ModelDimensions,
        cache: BufferValue,
        cross: BufferValue,
        inputs: Sequence[TensorValue],
        k: Dim,
    ) -> list[TensorValue]:
        """Several steps of the whole decoder: see :mod:`max_whisper.graph.steps`."""
        sequences, count = inputs[1].shape[0], inputs[-1].shape[1]
        shape = (dims.n_text_layer, count, sequences, dims.n_text_state)
        results = ops.inplace_custom(
            "whisper_steps",
            self.device,
            [cache, cross, *inputs, self.team],
            [
                TensorType(DType.int32, (count, sequences, k), self.device),
                TensorType(DType.float32, (count, sequences, k), self.device),
                TensorType(DType.float32, shape, self.device),
                TensorType(DType.int32, (1,), self.device),
            ],
            parameters={
                "mode": self.precision.linear,
                "attention": self.precision.attention,
                "heads": dims.n_text_head,
            },
        )
        return [result.tensor for result in results]

    def alignment(
        self,
        cache: BufferValue,
        queries: TensorValue,
        heads: TensorValue,
        place: TensorValue,
        wanted: TensorValue,
        *,
        head_count: int,
    ) -> TensorValue:
        """The position at which each wanted token begins, int32: (W,) -> (W,)."""
        inputs = [cache, queries, heads, place, wanted, self.team]
        mode = self.precision.attention
        return self._inplace("alignment", inputs, wanted.type, mode=mode, head_count=head_count)

    def _type(self, rows: Dim | int, columns: Dim | int) -> TensorType:
        return TensorType(DType.float32, (rows, columns), self.device)

    def _op(
        self, name: str, inputs: list[TensorValue], out: TensorType, **parameters: int | str
    ) -> TensorValue:
        return ops.custom(f"whisper_{name}", self.device, inputs, [out], parameters=parameters)[0].tensor

    def _inplace(
        self,
        name: str,
        inputs: list[BufferValue | TensorValue],
        out: TensorType,
        **parameters: int | str,
    ) -> TensorValue:
        results = ops.inplace_custom(f"whisper_{name}", self.device, inputs, [out], parameters=parameters)
        return results[0].tensor
