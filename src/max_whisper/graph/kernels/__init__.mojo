"""The custom ops that Whisper's graphs are made of. Each hands its tensors on as pointers."""

from .candidates import candidates
from .attention import encoder_attention
from .cross import AlignmentTasks, KeepTasks, cross_attention
from .linear import Layer, linear
from .past import self_attention
from .pointwise import add, embed, layer_norm, pad_frames
from .steps import Caches, Decoder, steps
from .team import Team, start_team

import extensibility
from extensibility import InputTensor, OutputTensor
from extensibility import _MutableInputTensor as MutableInputTensor
from max.gpu.host import DeviceContext


def untracked[T: AnyType](pointer: Pointer[T, _]) -> Pointer[T, MutUntrackedOrigin]:
    """The kernels take parts of one tensor as separate arguments, which origins would forbid."""
    return pointer.unsafe_mut_cast[True]().unsafe_origin_cast[MutUntrackedOrigin]()


def reached(team: InputTensor[dtype=DType.int64, rank=1, ...]) -> Team:
    """The team that the caller of the graph gives it: an address, and how many threads."""
    var values = team.unsafe_ptr()
    return Team(Int(values[unsafe_offset=0]), max(1, Int(values[unsafe_offset=1])))


comptime f32 = DType.float32
comptime i32 = DType.int32


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


@extensibility.register("whisper_cross_attention")
struct CrossAttention:
    """Each query attends to its window in the cache (windows, layers, heads, floats of a head)."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, layer: Int, heads: Int
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        cache: MutableInputTensor[dtype=i32, rank=4, ...],
        queries: InputTensor[dtype=f32, rank=2, ...],
        windows: InputTensor[dtype=i32, rank=1, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var layer_size = heads * Int(cache.dim_size(3))
        cross_attention[mode](
            untracked(result.unsafe_ptr()),
            untracked(queries.unsafe_ptr()),
            untracked(windows.unsafe_ptr()),
            untracked(cache.unsafe_ptr()).unsafe_offset(layer * layer_size),
            Int(cache.dim_size(1)) * layer_size,
            Int(cache.dim_size(3)),
            Int(result.dim_size(0)),
            heads,
            Int(result.dim_size(1)) // heads,
            reached(team),
        )


@extensibility.register("whisper_self_attention")
struct SelfAttention:
    """Writes N tokens to the cache (layers, 2, rows, context, state) and attends to their past."""

    @staticmethod
    def execute[
        target: StaticString, layer: Int, heads: Int
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        cache: MutableInputTensor[dtype=f32, rank=5, ...],
        qkv: InputTensor[dtype=f32, rank=2, ...],
        rows: InputTensor[dtype=i32, rank=1, ...],
        positions: InputTensor[dtype=i32, rank=1, ...],
        sources: InputTensor[dtype=i32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var state = Int(result.dim_size(1))
        var cache_rows = Int(cache.dim_size(2))
        var context = Int(cache.dim_size(3))
        self_attention(
            untracked(result.unsafe_ptr()),
            untracked(qkv.unsafe_ptr()),
            untracked(rows.unsafe_ptr()),
            untracked(positions.unsafe_ptr()),
            untracked(sources.unsafe_ptr()),
            untracked(cache.unsafe_ptr()).unsafe_offset(layer * 2 * cache_rows * context * state),
            cache_rows,
            context,
            Int(result.dim_size(0)),
            heads,
            state // heads,
            reached(team),
        )


@extensibility.register("whisper_embed")
struct Embed:
    """Token embedding (packed as the output head is) plus position embedding."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        tokens: InputTensor[dtype=i32, rank=1, ...],
        positions: InputTensor[dtype=i32, rank=1, ...],
        table: InputTensor[dtype=i32, rank=3, ...],
        epilogue: InputTensor[dtype=f32, rank=2, ...],
        positional: InputTensor[dtype=f32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        embed[mode](
            untracked(result.unsafe_ptr()),
            untracked(tokens.unsafe_ptr()),
            untracked(positions.unsafe_ptr()),
            untracked(table.unsafe_ptr()),
            untracked(epilogue.unsafe_ptr()),
            untracked(positional.unsafe_ptr()),
            Int(result.dim_size(0)),
            Int(result.dim_size(1)),
            Int(epilogue.dim_size(1)),
        )


@extensibility.register("whisper_gather_rows")
struct GatherRows:
    """result[i] = x[indices[i]]."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        indices: InputTensor[dtype=i32, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var K = Int(x.dim_size(1))
        var target_ptr = untracked(result.unsafe_ptr())
        var source = untracked(x.unsafe_ptr())
        for i in range(Int(result.dim_size(0))):
            var row = Int(untracked(indices.unsafe_ptr())[unsafe_offset=i])
            for k in range(K):
                target_ptr[unsafe_offset=i * K + k] = source[unsafe_offset=row * K + k]


@extensibility.register("whisper_candidates")
struct Candidates:
    """The best tokens of each row under its constraint; see candidates.mojo."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        tokens: OutputTensor[dtype=i32, rank=2, ...],
        logprobs: OutputTensor[dtype=f32, rank=2, ...],
        watched: OutputTensor[dtype=f32, rank=1, ...],
        logits: InputTensor[dtype=f32, rank=2, ...],
        limits: InputTensor[dtype=i32, rank=2, ...],
        forbidden: InputTensor[dtype=i32, rank=2, ...],
        repeated: InputTensor[dtype=i32, rank=2, ...],
        numbers: InputTensor[dtype=f32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        candidates(
            untracked(tokens.unsafe_ptr()),
            untracked(logprobs.unsafe_ptr()),
            untracked(watched.unsafe_ptr()),
            untracked(logits.unsafe_ptr()),
            untracked(limits.unsafe_ptr()),
            untracked(forbidden.unsafe_ptr()),
            untracked(repeated.unsafe_ptr()),
            untracked(numbers.unsafe_ptr()),
            Int(logits.dim_size(0)),
            Int(logits.dim_size(1)),
            Int(tokens.dim_size(1)),
            Int(forbidden.dim_size(1)),
            Int(repeated.dim_size(1)),
            reached(team),
        )


@extensibility.register("whisper_steps")
struct Steps:
    """Several steps of the whole decoder; see steps.mojo."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, attention: StaticString, heads: Int, vocabulary: Int
    ](
        tokens: OutputTensor[dtype=i32, rank=2, ...],
        logprobs: OutputTensor[dtype=f32, rank=2, ...],
        queries: OutputTensor[dtype=f32, rank=4, ...],
        taken: OutputTensor[dtype=i32, rank=1, ...],
        cache: MutableInputTensor[dtype=f32, rank=5, ...],
        cross: MutableInputTensor[dtype=i32, rank=4, ...],
        weights: InputTensor[dtype=DType.int64, rank=1, ...],
        starts: InputTensor[dtype=i32, rank=2, ...],
        sources: InputTensor[dtype=i32, rank=2, ...],
        forbidden: InputTensor[dtype=i32, rank=2, ...],
        numbers: InputTensor[dtype=f32, rank=2, ...],
        seeds: InputTensor[dtype=i32, rank=3, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var context = Int(cache.dim_size(3))
        untracked(taken.unsafe_ptr())[] = Int32(
            steps[mode, attention](
                untracked(tokens.unsafe_ptr()),
                untracked(logprobs.unsafe_ptr()),
                untracked(queries.unsafe_ptr()),
                Decoder(
                    untracked(weights.unsafe_ptr()),
                    Int(cache.dim_size(0)),
                    Int(cache.dim_size(4)),
                    heads,
                    context,
                    vocabulary,
                ),
                Caches(
                    untracked(cache.unsafe_ptr()),
                    Int(cache.dim_size(2)),
                    untracked(sources.unsafe_ptr()),
                    untracked(cross.unsafe_ptr()),
                    Int(cross.dim_size(3)),
                ),
                untracked(starts.unsafe_ptr()),
                Int(starts.dim_size(0)),
                untracked(forbidden.unsafe_ptr()),
                Int(forbidden.dim_size(1)),
                untracked(numbers.unsafe_ptr()),
                untracked(seeds.unsafe_ptr()),
                Int(tokens.dim_size(0)),
                reached(team),
            )
        )


@extensibility.register("whisper_alignment")
struct Alignment:
    """Cross-attention scores before the softmax: (heads, N, positions).

    `heads` lists (layer, head) pairs; queries are (layers, N, state).
    """

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, positions: Int, head_count: Int
    ](
        result: OutputTensor[dtype=f32, rank=3, ...],
        cache: MutableInputTensor[dtype=i32, rank=4, ...],
        queries: InputTensor[dtype=f32, rank=3, ...],
        heads: InputTensor[dtype=i32, rank=2, ...],
        window: InputTensor[dtype=i32, rank=1, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var layers = Int(cache.dim_size(1)) * head_count * Int(cache.dim_size(3))
        var tasks = AlignmentTasks[mode](
            untracked(result.unsafe_ptr()),
            untracked(queries.unsafe_ptr()),
            untracked(cache.unsafe_ptr()).unsafe_offset(Int(untracked(window.unsafe_ptr())[]) * layers),
            Int(cache.dim_size(3)),
            untracked(heads.unsafe_ptr()),
            Int(queries.dim_size(1)),
            positions,
            head_count,
            Int(queries.dim_size(2)) // head_count,
        )
        reached(team).do(tasks, Int(heads.dim_size(0)))


@extensibility.register("whisper_team")
struct StartTeam:
    """Starts a team of so many threads, which lives as long as the process; gives its address."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        address: OutputTensor[dtype=DType.int64, rank=1, ...],
        threads: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        untracked(address.unsafe_ptr())[] = Int64(start_team(Int(threads.unsafe_ptr()[])))
