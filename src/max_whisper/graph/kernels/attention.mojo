"""Attention over packed keys and values; scores become weights, and weights results, in float32.

The encoder packs a head's keys and values as it goes; the decoder's cross-attention finds them
packed in the cache. Positions are taken a chunk at a time, whose scores stay in the first-level
cache; several tiles of queries share each chunk. A query's result does not depend on the others.
"""

from std.memory.alloc import unsafe_alloc

from .heads import Head, has_scales, keys_in, largest_weight, multiplied_here, unkept, values_in
from .pack import larger, pack_row
from .softmax import LOG2_E, Lanes, NONE, exact, highest_score, power, weigh
from .team import Team, Work
from .tile import F32, Floats, Ints, PANEL, ROWS, WIDTH, Vec, ceildiv, fetch_row, floats, step, sweep, words

comptime QUERIES = 4 * ROWS  # queries that go through a head's chunks together, at most
# Positions of a chunk. An int32 holds the sum of as many products of weights and values, and no more.
comptime CHUNK = 512


@fieldwise_init
struct Scratch(ImplicitlyCopyable, Movable):
    """Room for up to QUERIES queries of a head.

    Fields:
        queries: (QUERIES, D) packed words.
        scores: (ROWS, CHUNK) of one tile and chunk.
        products: (ROWS, D) of one tile and chunk; also room for a query that is packed.
        sums: (QUERIES, D) results so far.
        scales: (QUERIES,) of packed queries.
        zeros: (QUERIES,) what stands for 0 in them.
        factors: (CHUNK,) what a chunk's weights are multiplied by, of integers.
        tops: (QUERIES,) the highest scores so far.
        totals: (QUERIES,) the sums of weights so far.
        chunk_tops: (ROWS,) of one tile and chunk.
        chunk_totals: (ROWS,) of one tile and chunk.
    """

    var queries: Ints
    var scores: Floats
    var products: Floats
    var sums: Floats
    var scales: Floats
    var zeros: Floats
    var factors: Floats
    var tops: Floats
    var totals: Floats
    var chunk_tops: Floats
    var chunk_totals: Floats

    def __init__(out self, D: Int):
        self.scores = unsafe_alloc[F32]((ROWS + 1) * CHUNK + ROWS * D + 2 * QUERIES * D + 4 * QUERIES + 2 * ROWS, alignment=64)
        self.products = self.scores.unsafe_offset(ROWS * CHUNK)
        self.queries = words(self.products.unsafe_offset(ROWS * D))
        self.sums = floats(self.queries).unsafe_offset(QUERIES * D)
        self.tops = self.sums.unsafe_offset(QUERIES * D)
        self.totals = self.tops.unsafe_offset(QUERIES)
        self.scales = self.totals.unsafe_offset(QUERIES)
        self.zeros = self.scales.unsafe_offset(QUERIES)
        self.chunk_tops = self.zeros.unsafe_offset(QUERIES)
        self.chunk_totals = self.chunk_tops.unsafe_offset(ROWS)
        self.factors = self.chunk_totals.unsafe_offset(ROWS)

    def free(self):
        self.scores.unsafe_free()


def pack_queries[
    mode: StaticString
](scratch: Scratch, queries: Floats, query_row: Int, rows: Int, D: Int, scale: F32):
    """Up to QUERIES queries, `query_row` apart and multiplied by `scale`, as words in whole tiles."""
    comptime kind = multiplied_here[keys_in[mode]()]()
    var length = D // step[kind]()
    for r in range(ceildiv(rows, ROWS) * ROWS):
        fetch_row(queries.unsafe_offset(r * query_row), query_row, D)
        for d in range(0, D, WIDTH):
            var x = queries.unsafe_load[width=WIDTH](min(r, rows - 1) * query_row + d)
            scratch.products.unsafe_store(d, x * Vec(scale))
        var packed = pack_row[keys_in[mode](), kind](scratch.queries.unsafe_offset(r * length), scratch.products, D)
        scratch.scales[unsafe_offset=r] = packed.step
        scratch.zeros[unsafe_offset=r] = packed.zero.cast[DType.float32]()


@always_inline
def score[mode: StaticString](scratch: Scratch, head: Head[mode], r: Int, rows: Int, first: Int, count: Int):
    """The scores of a tile of packed queries from the r-th on, and `count` positions from `first` on."""
    comptime words_in = keys_in[mode]()
    comptime kind = multiplied_here[words_in]()
    var K = head.D // step[words_in]()
    var length = head.D // step[kind]()
    sweep[words_in, kind](
        rows,
        scratch.queries.unsafe_offset(r * length),
        length,
        head.packed.unsafe_offset(first * K),
        PANEL * K,
        count // PANEL,
        K,
        words(scratch.scores),
        CHUNK,
        True,
    )


def attend[
    mode: StaticString
](result: Floats, result_row: Int, queries: Floats, query_row: Int, rows: Int, head: Head[mode], scale: F32, scratch: Scratch):
    """Attends from up to QUERIES queries of one head to its packed keys and values.

    Args:
        result: (rows, D), rows `result_row` apart.
        result_row: Distance between rows of the output.
        queries: (rows, D), rows `query_row` apart.
        query_row: Distance between queries.
        rows: How many queries, at most QUERIES.
        head: Keys and values.
        scale: What the queries are multiplied by.
        scratch: Room.
    """
    var D = head.D
    pack_queries[mode](scratch, queries, query_row, rows, D, scale)
    for i in range(0, rows * D, WIDTH):
        scratch.sums.unsafe_store(i, Vec(0))
    for r in range(rows):
        comptime if not exact[multiplied_here[values_in[mode]()]()]():
            scratch.scales[unsafe_offset=r] *= LOG2_E
        scratch.tops[unsafe_offset=r] = NONE
        scratch.totals[unsafe_offset=r] = 0
    for first in range(0, head.padded(), CHUNK):
        var count = min(CHUNK, head.padded() - first)
        var factor = F32(1)
        comptime if has_scales[mode]():
            factor = set_factors(scratch.factors, head.value_scales().unsafe_offset(first), count, largest_weight[values_in[mode]()]())
        for r in range(0, rows, ROWS):
            attend_chunk[mode](scratch, head, r, min(ROWS, rows - r), first, count, factor)
    for r in range(rows):
        var inverse = Vec(1 / scratch.totals[unsafe_offset=r])
        for d in range(0, D, WIDTH):
            result.unsafe_store(r * result_row + d, scratch.sums.unsafe_load[width=WIDTH](r * D + d) * inverse)


@always_inline
def attend_chunk[
    mode: StaticString
](scratch: Scratch, head: Head[mode], r: Int, rows: Int, first: Int, count: Int, factor: F32):
    """Adds what a tile of queries from the r-th on finds in `count` positions from `first` on.

    `factor` is what the products of integers stand for.
    """
    comptime words_in = values_in[mode]()
    comptime kind = multiplied_here[words_in]()
    comptime S = step[words_in]()
    var D = head.D
    score[mode](scratch, head, r, rows, first, count)
    # The highest scores of all rows before the weights of any: rows do not wait for one another.
    for i in range(rows):
        scratch.chunk_tops[unsafe_offset=i] = highest_score[multiplied_here[keys_in[mode]()]()](
            scratch.scores.unsafe_offset(i * CHUNK),
            min(head.positions - first, count),
            count,
            scratch.scales[unsafe_offset=r + i],
            scratch.zeros[unsafe_offset=r + i],
            head.key_scales().unsafe_offset(first),
            head.key_sums().unsafe_offset(first),
        )
    for i in range(rows):
        scratch.chunk_totals[unsafe_offset=i] = weigh[words_in, kind](
            scratch.scores.unsafe_offset(i * CHUNK),
            count,
            scratch.scales[unsafe_offset=r + i],
            scratch.chunk_tops[unsafe_offset=i],
            scratch.factors,
        )
    sweep[words_in, kind](
        rows,
        words(scratch.scores),
        CHUNK,
        head.values().unsafe_offset(first // S * PANEL),
        head.padded() // S * PANEL,
        D // PANEL,
        count // S,
        words(scratch.products),
        D,
        True,
    )
    for i in range(rows):
        add_chunk[mode](scratch, r + i, i, D, factor)


@always_inline
def add_chunk[mode: StaticString](scratch: Scratch, query: Int, row: Int, D: Int, factor: F32):
    """Adds a tile's row of a chunk, its total and its products, to what the query has summed so far."""
    comptime kind = multiplied_here[values_in[mode]()]()
    var before = scratch.tops[unsafe_offset=query]
    var found = scratch.chunk_tops[unsafe_offset=row]
    var top = max(before, found)
    var kept = power[kind](Lanes(before - top))[0] if before < top else F32(1)
    var added = power[kind](Lanes(found - top))[0] if found < top else F32(1)
    scratch.tops[unsafe_offset=query] = top
    scratch.totals[unsafe_offset=query] = (
        scratch.totals[unsafe_offset=query] * kept + scratch.chunk_totals[unsafe_offset=row] * added
    )
    for d in range(0, D, WIDTH):
        var x = scratch.products.unsafe_load[width=WIDTH](row * D + d)
        comptime if has_scales[mode]():
            x = words(scratch.products).unsafe_load[width=WIDTH](row * D + d).cast[DType.float32]()
        var sum = scratch.sums.unsafe_load[width=WIDTH](query * D + d) * Vec(kept)
        scratch.sums.unsafe_store(query * D + d, x.fma(Vec(added * factor), sum))


@always_inline
def set_factors(factors: Floats, scales: Floats, count: Int, most: F32) -> F32:
    """What makes weights of `count` positions, a multiple of PANEL, integers up to `most`.

    Args:
        factors: Written: each position's.
        scales: Those of the values.
        count: How many.
        most: The largest integer.

    Returns:
        What the products of such weights and the values stand for.
    """
    var highest = Vec(0)
    for i in range(0, count, WIDTH):
        highest = larger(highest, scales.unsafe_load[width=WIDTH](i))
    var factor = highest.reduce_max() / most
    var inverse = Vec(1 / factor if factor > 0 else F32(0))
    for i in range(0, count, WIDTH):
        factors.unsafe_store(i, scales.unsafe_load[width=WIDTH](i) * inverse)
    return factor


@fieldwise_init
struct HeadTasks[mode: StaticString](Work):
    """The encoder's attention: a share of a head's queries a task."""

    var result: Floats
    var qkv: Floats
    var positions: Int
    var heads: Int
    var D: Int
    var shares: Int

    def run(self, task: Int):
        var state = self.heads * self.D
        var scale = F32(self.D) ** -0.25
        var scratch = Scratch(self.D)
        var size = Head[Self.mode](scratch.queries, self.positions, self.D).words()
        var packed = unsafe_alloc[Int32](size, alignment=64)
        var head = Head[Self.mode](packed, self.positions, self.D)
        var index = task // self.shares
        var share = task % self.shares
        var q = self.qkv.unsafe_offset(index * self.D)
        head.pack(q.unsafe_offset(state), q.unsafe_offset(2 * state), 3 * state, scale)
        var groups = ceildiv(self.positions, QUERIES)
        for i in range(groups * share // self.shares, groups * (share + 1) // self.shares):
            var row = i * QUERIES
            attend[Self.mode](
                self.result.unsafe_offset(row * state + index * self.D),
                state,
                q.unsafe_offset(row * 3 * state),
                3 * state,
                min(QUERIES, self.positions - row),
                head,
                scale,
                scratch,
            )
        packed.unsafe_free()
        scratch.free()


def encoder_attention[
    mode: StaticString
](result: Floats, qkv: Floats, positions: Int, heads: Int, D: Int, team: Team):
    """Every position attends to every position: out (positions, heads * D).

    Args:
        result: (positions, heads * D).
        qkv: (positions, 3 * heads * D): queries, keys, values.
        positions: Positions.
        heads: Heads.
        D: Head size.
        team: Who works.
    """
    # A head is packed by each task that shares it, so share it among as few as keep all busy.
    var shares = ceildiv(4 * team.threads, heads)
    team.do(
        HeadTasks[unkept[mode]()](result, qkv, positions, heads, D, shares), heads * shares
    )
