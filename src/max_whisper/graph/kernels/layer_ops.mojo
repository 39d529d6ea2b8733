"""The ops that the encoder is made of; the decoder has some of them too."""

from .attention import encoder_attention
from .cross import KeepTasks
from .epilogue import Layer
from .linear import linear
from .pointwise import add, layer_norm, pad_frames
from .tensors import f32, i32, reached, untracked

import extensibility
from extensibility import InputTensor, OutputTensor
from extensibility import _MutableInputTensor as MutableInputTensor
from max.gpu.host import DeviceContext


@extensibility.register("whisper_linear")
struct Linear:
    """result = activation(x @ W + bias)."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, activation: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        weight: InputTensor[dtype=i32, rank=3, ...],
        epilogue: InputTensor[dtype=f32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var K = Int(x.dim_size(1))
        linear[mode, activation, False](
            untracked(result.unsafe_ptr()),
            untracked(x.unsafe_ptr()),
            K,
            Layer(
                untracked(weight.unsafe_ptr()),
                untracked(epilogue.unsafe_ptr()),
                Int(result.dim_size(1)),
                K,
            ),
            untracked(x.unsafe_ptr()),
            Int(result.dim_size(0)),
            reached(team),
        )


@extensibility.register("whisper_linear_residual")
struct LinearResidual:
    """result = residual + x @ W + bias."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        weight: InputTensor[dtype=i32, rank=3, ...],
        epilogue: InputTensor[dtype=f32, rank=2, ...],
        residual: InputTensor[dtype=f32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var K = Int(x.dim_size(1))
        linear[mode, "none", True](
            untracked(result.unsafe_ptr()),
            untracked(x.unsafe_ptr()),
            K,
            Layer(
                untracked(weight.unsafe_ptr()),
                untracked(epilogue.unsafe_ptr()),
                Int(result.dim_size(1)),
                K,
            ),
            untracked(residual.unsafe_ptr()),
            Int(result.dim_size(0)),
            reached(team),
        )


@extensibility.register("whisper_conv")
struct Conv:
    """GELU of a convolution of width 3 over frames padded with a zero row at either end.

    A frame's window is contiguous in the padded input, so the convolution is a linear layer
    whose rows overlap. `border` rows of zeros are left around the output for the next one.
    """

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, stride: Int, border: Int
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        weight: InputTensor[dtype=i32, rank=3, ...],
        epilogue: InputTensor[dtype=f32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var channels = Int(x.dim_size(1))
        var frames = Int(result.dim_size(0)) - 2 * border
        var state = Int(result.dim_size(1))
        var start = untracked(result.unsafe_ptr())
        comptime if border > 0:
            for i in range(border * state):
                start[unsafe_offset=i] = 0
                start[unsafe_offset=(frames + border) * state + i] = 0
        linear[mode, "gelu", False](
            start.unsafe_offset(border * state),
            untracked(x.unsafe_ptr()),
            stride * channels,
            Layer(
                untracked(weight.unsafe_ptr()),
                untracked(epilogue.unsafe_ptr()),
                state,
                3 * channels,
            ),
            untracked(x.unsafe_ptr()),
            frames,
            reached(team),
        )


@extensibility.register("whisper_pad_frames")
struct PadFrames:
    """(channels, frames) -> (frames + 2, channels), zero at both ends."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        pad_frames(untracked(result.unsafe_ptr()), untracked(x.unsafe_ptr()), Int(x.dim_size(0)), Int(x.dim_size(1)))


@extensibility.register("whisper_add_positions")
struct AddPositions:
    """result = x + the first rows of a table."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        table: InputTensor[dtype=f32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        add(
            untracked(result.unsafe_ptr()),
            untracked(x.unsafe_ptr()),
            untracked(table.unsafe_ptr()),
            Int(x.dim_size(0)) * Int(x.dim_size(1)),
        )


@extensibility.register("whisper_layer_norm")
struct LayerNorm:
    """Layer norm over the last axis, eps 1e-5."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        weight: InputTensor[dtype=f32, rank=1, ...],
        bias: InputTensor[dtype=f32, rank=1, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        layer_norm(
            untracked(result.unsafe_ptr()),
            untracked(x.unsafe_ptr()),
            untracked(weight.unsafe_ptr()),
            untracked(bias.unsafe_ptr()),
            Int(x.dim_size(0)),
            Int(x.dim_size(1)),
            reached(team),
        )


@extensibility.register("whisper_encoder_attention")
struct EncoderAttention:
    """(positions, 3 * state) queries, keys, values -> (positions, state)."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, heads: Int
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        qkv: InputTensor[dtype=f32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        encoder_attention[mode](
            untracked(result.unsafe_ptr()),
            untracked(qkv.unsafe_ptr()),
            Int(qkv.dim_size(0)),
            heads,
            Int(result.dim_size(1)) // heads,
            reached(team),
        )


@extensibility.register("whisper_keep_cross")
struct KeepCross:
    """Packs a layer's cross-attention keys and values into the cache of a window."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, layer: Int, heads: Int
    ](
        cache: MutableInputTensor[dtype=i32, rank=4, ...],
        kv: InputTensor[dtype=f32, rank=2, ...],
        window: InputTensor[dtype=i32, rank=1, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var positions = Int(kv.dim_size(0))
        var state = Int(kv.dim_size(1)) // 2
        var D = state // heads
        var head_size = Int(cache.dim_size(3))
        var slot = Int(untracked(window.unsafe_ptr())[]) * Int(cache.dim_size(1)) + layer
        var target_ptr = untracked(cache.unsafe_ptr()).unsafe_offset(slot * heads * head_size)
        var tasks = KeepTasks[mode](target_ptr, head_size, untracked(kv.unsafe_ptr()), positions, heads, D)
        reached(team).do(tasks, heads)
