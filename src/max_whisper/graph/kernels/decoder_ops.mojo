"""The ops that the decoder alone has, and the one that starts a team of threads."""

from .beams import Beams
from .begins import token_begins
from .candidates import Choices, Rows
from .cross import cross_attention
from .head import head_candidates
from .past import self_attention
from .pointwise import embed
from .steps import Caches, Choice, Decoder, steps
from .team import start_team
from .tensors import f32, i32, reached, untracked
from .tile import Floats, quantised
from .vocabulary import PlainVocabulary, QuickVocabulary, Vocabulary

import extensibility
from extensibility import InputTensor, OutputTensor
from extensibility import _MutableInputTensor as MutableInputTensor
from max.gpu.host import DeviceContext


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
    """Writes N tokens to the cache (layers, 2, rows, heads, context, D) and attends to their past."""

    @staticmethod
    def execute[
        target: StaticString, layer: Int, heads: Int
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        cache: MutableInputTensor[dtype=f32, rank=6, ...],
        qkv: InputTensor[dtype=f32, rank=2, ...],
        rows: InputTensor[dtype=i32, rank=1, ...],
        positions: InputTensor[dtype=i32, rank=1, ...],
        sources: InputTensor[dtype=i32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var state = Int(result.dim_size(1))
        var cache_rows = Int(cache.dim_size(2))
        var context = Int(cache.dim_size(4))
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
    """Token embedding plus position embedding; `weights` as for `Steps`."""

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString
    ](
        result: OutputTensor[dtype=f32, rank=2, ...],
        tokens: InputTensor[dtype=i32, rank=1, ...],
        positions: InputTensor[dtype=i32, rank=1, ...],
        weights: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        @parameter
        def embed_in[V: Vocabulary]():
            var places = untracked(weights.unsafe_ptr())
            var K = Int(result.dim_size(1))
            embed(
                untracked(result.unsafe_ptr()),
                untracked(tokens.unsafe_ptr()),
                untracked(positions.unsafe_ptr()),
                V.at(places, K),
                Floats(unsafe_from_address=Int(places[unsafe_offset=V.PLACES])),
                Int(result.dim_size(0)),
                K,
            )

        comptime if quantised[mode]():
            embed_in[QuickVocabulary]()
        else:
            embed_in[PlainVocabulary[mode]]()


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


@extensibility.register("whisper_choose")
struct Choose:
    """The best tokens of each row under its constraint, see candidates.mojo; `weights` as for `Steps`.

    `logits` has a row for each of x, or none: then they are not kept.
    """

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString
    ](
        tokens: OutputTensor[dtype=i32, rank=2, ...],
        logprobs: OutputTensor[dtype=f32, rank=2, ...],
        watched: OutputTensor[dtype=f32, rank=1, ...],
        logits: OutputTensor[dtype=f32, rank=2, ...],
        x: InputTensor[dtype=f32, rank=2, ...],
        weights: InputTensor[dtype=DType.int64, rank=1, ...],
        limits: InputTensor[dtype=i32, rank=2, ...],
        forbidden: InputTensor[dtype=i32, rank=2, ...],
        repeated: InputTensor[dtype=i32, rank=2, ...],
        numbers: InputTensor[dtype=f32, rank=2, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var L = Int(x.dim_size(0))
        var K = Int(x.dim_size(1))
        var rows = Rows(
            L,
            untracked(limits.unsafe_ptr()),
            untracked(forbidden.unsafe_ptr()),
            untracked(repeated.unsafe_ptr()),
            untracked(numbers.unsafe_ptr()),
            Int(logits.dim_size(1)),
            Int(tokens.dim_size(1)),
            Int(forbidden.dim_size(1)),
            Int(repeated.dim_size(1)),
        )

        @parameter
        def choose_in[V: Vocabulary]():
            head_candidates(
                Choices(
                    untracked(tokens.unsafe_ptr()), untracked(logprobs.unsafe_ptr()), untracked(watched.unsafe_ptr())
                ),
                untracked(x.unsafe_ptr()),
                V.at(untracked(weights.unsafe_ptr()), K),
                rows,
                L,
                K,
                untracked(logits.unsafe_ptr()),
                Int(logits.dim_size(0)) > 0,
                reached(team),
            )

        comptime if quantised[mode]():
            choose_in[QuickVocabulary]()
        else:
            choose_in[PlainVocabulary[mode]]()
        rows.free()


@extensibility.register("whisper_steps")
struct Steps:
    """Several steps of the whole decoder; see steps.mojo."""

    @staticmethod
    def execute[
        target: StaticString,
        mode: StaticString,
        attention: StaticString,
        heads: Int,
    ](
        tokens: OutputTensor[dtype=i32, rank=3, ...],
        logprobs: OutputTensor[dtype=f32, rank=3, ...],
        queries: OutputTensor[dtype=f32, rank=4, ...],
        taken: OutputTensor[dtype=i32, rank=1, ...],
        cache: MutableInputTensor[dtype=f32, rank=6, ...],
        cross: MutableInputTensor[dtype=i32, rank=4, ...],
        weights: InputTensor[dtype=DType.int64, rank=1, ...],
        starts: InputTensor[dtype=i32, rank=2, ...],
        sources: InputTensor[dtype=i32, rank=2, ...],
        forbidden: InputTensor[dtype=i32, rank=2, ...],
        numbers: InputTensor[dtype=f32, rank=2, ...],
        sums: InputTensor[dtype=f32, rank=1, ...],
        wanted: InputTensor[dtype=i32, rank=1, ...],
        seeds: InputTensor[dtype=i32, rank=3, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var N = Int(starts.dim_size(0))
        var k = Int(tokens.dim_size(2))
        var context = Int(cache.dim_size(4))
        var together = Beams(
            k - 1,
            N,
            untracked(sums.unsafe_ptr()),
            untracked(wanted.unsafe_ptr()),
            untracked(sources.unsafe_ptr()),
            Int(sources.dim_size(0)),
            context,
        )
        var state = heads * Int(cache.dim_size(5))

        @parameter
        def steps_in[V: Vocabulary]() -> Int:
            var places = untracked(weights.unsafe_ptr())
            return steps[V, mode, attention](
                untracked(tokens.unsafe_ptr()),
                untracked(logprobs.unsafe_ptr()),
                untracked(queries.unsafe_ptr()),
                Decoder(
                    V.at(places, state),
                    places.unsafe_offset(V.PLACES),
                    Int(cache.dim_size(0)),
                    state,
                    heads,
                    context,
                ),
                Caches(
                    untracked(cache.unsafe_ptr()),
                    Int(cache.dim_size(2)),
                    together.sources,
                    untracked(cross.unsafe_ptr()),
                    Int(cross.dim_size(3)),
                ),
                untracked(starts.unsafe_ptr()),
                N,
                Choice(
                    k,
                    untracked(forbidden.unsafe_ptr()),
                    Int(forbidden.dim_size(1)),
                    untracked(numbers.unsafe_ptr()),
                    untracked(seeds.unsafe_ptr()),
                ),
                together,
                Int(tokens.dim_size(0)),
                reached(team),
            )

        var count: Int
        comptime if quantised[mode]():
            count = steps_in[QuickVocabulary]()
        else:
            count = steps_in[PlainVocabulary[mode]]()
        untracked(taken.unsafe_ptr())[] = Int32(count)
        together.free()


@extensibility.register("whisper_alignment")
struct Alignment:
    """The position at which each wanted token begins; see begins.mojo.

    `heads` lists (layer, head) pairs; queries are (layers, N, state); `place` is the window and how
    many of its positions count.
    """

    @staticmethod
    def execute[
        target: StaticString, mode: StaticString, head_count: Int
    ](
        begins: OutputTensor[dtype=i32, rank=1, ...],
        cache: MutableInputTensor[dtype=i32, rank=4, ...],
        queries: InputTensor[dtype=f32, rank=3, ...],
        heads: InputTensor[dtype=i32, rank=2, ...],
        place: InputTensor[dtype=i32, rank=1, ...],
        wanted: InputTensor[dtype=i32, rank=1, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var window = Int(untracked(place.unsafe_ptr())[])
        var layers = Int(cache.dim_size(1)) * head_count * Int(cache.dim_size(3))
        token_begins[mode](
            untracked(begins.unsafe_ptr()),
            untracked(queries.unsafe_ptr()),
            untracked(cache.unsafe_ptr()).unsafe_offset(window * layers),
            Int(cache.dim_size(3)),
            untracked(heads.unsafe_ptr()),
            Int(heads.dim_size(0)),
            untracked(wanted.unsafe_ptr()),
            Int(wanted.dim_size(0)),
            Int(queries.dim_size(1)),
            Int(untracked(place.unsafe_ptr())[unsafe_offset=1]),
            head_count,
            Int(queries.dim_size(2)) // head_count,
            reached(team),
        )


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
