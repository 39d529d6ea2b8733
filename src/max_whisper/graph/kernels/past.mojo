"""The decoder's self-attention: tokens are written to the cache, and attend to their row's past.

The cache holds keys (rows, heads, context, D), then values: what a head reads lies in one piece.
"""

from std.memory.alloc import unsafe_alloc

from .heads import packed_positions
from .softmax import highest_score, weigh
from .team import Team, Work
from .tile import F32, Floats, Ints, PANEL, Vec, WIDTH, fetch


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
        var head = task * self.D
        var row = state * self.context  # floats of a row of the cache
        var keys = self.cache.unsafe_offset(head * self.context)
        var values = keys.unsafe_offset(self.values)
        var scale = F32(self.D) ** -0.25
        for n in range(self.N):
            var cell = Int(self.rows[unsafe_offset=n]) * row + Int(self.positions[unsafe_offset=n]) * self.D
            var token = self.qkv.unsafe_offset(n * 3 * state + head)
            for d in range(0, self.D, WIDTH):
                keys.unsafe_store(cell + d, token.unsafe_load[width=WIDTH](state + d) * Vec(scale))
                values.unsafe_store(cell + d, token.unsafe_load[width=WIDTH](2 * state + d))
        var query = unsafe_alloc[F32](self.D + packed_positions(self.context), alignment=64)
        for n in range(self.N):
            for d in range(0, self.D, WIDTH):
                query.unsafe_store(d, self.qkv.unsafe_load[width=WIDTH](n * 3 * state + head + d) * Vec(scale))
            attend_past(
                self.result.unsafe_offset(n * state + head),
                query,
                keys,
                values,
                self.sources.unsafe_offset(Int(self.rows[unsafe_offset=n]) * self.context),
                row,
                Int(self.positions[unsafe_offset=n]) + 1,
                self.D,
                query.unsafe_offset(self.D),
            )
        query.unsafe_free()


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
        cache: The layer's keys (cache_rows, heads, context, D), then its values.
        cache_rows: Rows of the cache.
        context: Positions of a row.
        N: Tokens.
        heads: Heads.
        D: Head size, a multiple of PANEL.
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
    row: Int,
    past: Int,
    D: Int,
    scores: Floats,
):
    """One scaled query of one head over the `past` positions that `sources` leads to, `row` floats apart."""
    for p in range(past):
        var cell = Int(sources[unsafe_offset=p]) * row + p * D
        var key = keys.unsafe_offset(cell)
        for d in range(0, D, 16):
            fetch(values.unsafe_offset(cell + d))
            fetch(key.unsafe_offset(16 * D + d))
        var sum = Vec(0)
        for d in range(0, D, WIDTH):
            sum = key.unsafe_load[width=WIDTH](d).fma(query.unsafe_load[width=WIDTH](d), sum)
        scores[unsafe_offset=p] = sum.reduce_add()
    var padded = packed_positions(past)
    var top = highest_score["float32"](scores, past, padded, 1, 0, scores, scores)
    var total = weigh["float32", "float32"](scores, padded, 1, top, scores)
    # Neighbouring positions have sums of their own, which do not wait for one another.
    comptime Sums = SIMD[DType.float32, PANEL]
    for d in range(0, D, PANEL):
        var even = Sums(0)
        var odd = Sums(0)
        for p in range(0, past - 1, 2):
            var value = values.unsafe_offset(p * D + d)
            var one = value.unsafe_offset(Int(sources[unsafe_offset=p]) * row)
            var other = value.unsafe_offset(Int(sources[unsafe_offset=p + 1]) * row + D)
            even = one.unsafe_load[width=PANEL]().fma(Sums(scores[unsafe_offset=p]), even)
            odd = other.unsafe_load[width=PANEL]().fma(Sums(scores[unsafe_offset=p + 1]), odd)
        if past % 2 == 1:
            var last = values.unsafe_offset(Int(sources[unsafe_offset=past - 1]) * row + (past - 1) * D + d)
            even = last.unsafe_load[width=PANEL]().fma(Sums(scores[unsafe_offset=past - 1]), even)
        result.unsafe_store(d, (even + odd) * Sums(1 / total))
