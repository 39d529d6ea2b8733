"""The decoder's self-attention: tokens are written to the cache, and attend to their row's past."""

from std.memory.alloc import unsafe_alloc

from .heads import packed_positions
from .softmax import NONE, raise_top, weigh
from .team import Team, Work
from .tile import F32, Floats, Ints, Vec, WIDTH


@fieldwise_init
struct PastTasks(Work):
    """A head a task, which writes before it reads."""

    var result: Floats
    var qkv: Floats
    var rows: Ints
    var positions: Ints
    var sources: Ints
    var cache: Floats
    var values: Int  # where the cache's values begin
    var context: Int
    var N: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var state = self.heads * self.D
        var scale = F32(self.D) ** -0.25
        var start = task * self.D
        for n in range(self.N):
            var row = Int(self.rows[unsafe_offset=n]) * self.context
            var cell = (row + Int(self.positions[unsafe_offset=n])) * state + start
            var token = self.qkv.unsafe_offset(n * 3 * state + start)
            for d in range(0, self.D, WIDTH):
                self.cache.unsafe_store(cell + d, token.unsafe_load[width=WIDTH](state + d) * Vec(scale))
                self.cache.unsafe_store(
                    self.values + cell + d, token.unsafe_load[width=WIDTH](2 * state + d)
                )
        var scores = unsafe_alloc[F32](packed_positions(self.context), alignment=64)
        for n in range(self.N):
            attend_past(
                self.result.unsafe_offset(n * state + start),
                self.qkv.unsafe_offset(n * 3 * state + start),
                self.cache.unsafe_offset(start),
                self.cache.unsafe_offset(self.values + start),
                self.sources.unsafe_offset(Int(self.rows[unsafe_offset=n]) * self.context),
                Int(self.positions[unsafe_offset=n]) + 1,
                self.context,
                state,
                self.D,
                scale,
                scores,
            )
        scores.unsafe_free()


def self_attention(
    result: Floats,
    qkv: Floats,
    rows: Ints,
    positions: Ints,
    sources: Ints,
    cache: Floats,
    cache_rows: Int,
    context: Int,
    N: Int,
    heads: Int,
    D: Int,
    team: Team,
):
    """Writes N tokens' keys and values to the cache; each token attends to its row's past.

    Args:
        result: (N, heads * D).
        qkv: (N, 3 * heads * D): queries, keys, values.
        rows: (N,) the cache row of each token.
        positions: (N,) the position of each token in its row.
        sources: (cache_rows, context): which cache row holds position p of row r.
        cache: The layer's keys (cache_rows, context, heads * D), then its values.
        cache_rows: Rows of the cache.
        context: Positions of a row.
        N: Tokens.
        heads: Heads.
        D: Head size.
        team: Who works.
    """
    var values = cache_rows * context * heads * D
    team.do(
        PastTasks(result, qkv, rows, positions, sources, cache, values, context, N, heads, D), heads
    )


@always_inline
def attend_past(
    result: Floats,
    query: Floats,
    keys: Floats,
    values: Floats,
    sources: Ints,
    past: Int,
    context: Int,
    state: Int,
    D: Int,
    scale: F32,
    scores: Floats,
):
    """One query of one head over the `past` positions that `sources` leads to."""
    for p in range(past):
        var cell = (Int(sources[unsafe_offset=p]) * context + p) * state
        var sum = Vec(0)
        for d in range(0, D, WIDTH):
            sum = keys.unsafe_load[width=WIDTH](cell + d).fma(
                query.unsafe_load[width=WIDTH](d) * Vec(scale), sum
            )
        scores[unsafe_offset=p] = sum.reduce_add()
    var top = NONE
    var padded = packed_positions(past)
    _ = raise_top[False](scores, past, padded, 1, scores, top)
    var total = weigh["float32", "float32"](scores, padded, 1, top, scores, 1)
    for d in range(0, D, WIDTH):
        var sum = Vec(0)
        for p in range(past):
            var cell = (Int(sources[unsafe_offset=p]) * context + p) * state
            sum = values.unsafe_load[width=WIDTH](cell + d).fma(Vec(scores[unsafe_offset=p]), sum)
        result.unsafe_store(d, sum * Vec(1 / total))
