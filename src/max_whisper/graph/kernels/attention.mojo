"""Attention over packed keys and values, in float32 or bfloat16; scores and sums are float32.

A head's keys and values lie in the panel layout of `tile`: scores are a product with the keys
(K = head size, columns = positions), the result a product with the values (K = positions,
columns = head size). The encoder packs both as it goes; the decoder's cross-attention finds them
packed in the cache. A query's result does not depend on the queries that share its tile.
"""

from max.algorithm import sync_parallelize
from std.math import exp
from std.memory.alloc import unsafe_alloc

from .linear import pack_row
from .tile import (
    F32,
    Floats,
    Ints,
    PANEL,
    ROWS,
    WIDTH,
    Vec,
    bfloat16_pair,
    ceildiv,
    floats,
    rows_in_tile,
    step,
    tile_rows,
    words,
)


@always_inline
def packed_positions(positions: Int) -> Int:
    """Positions of a head in the packed layout: whole panels."""
    return ceildiv(positions, PANEL) * PANEL


@always_inline
def head_words[mode: StaticString](positions: Int, D: Int) -> Int:
    """Words of a head's packed keys and values."""
    return 2 * packed_positions(positions) * D // step[mode]()


def pack_head[
    mode: StaticString
](packed: Ints, keys: Floats, values: Floats, row: Int, positions: Int, D: Int, scale: F32):
    """Packs one head's keys (scaled) and values into `head_words` words.

    Args:
        packed: Keys as panels (positions / 32, D, 32), then values as (D / 32, positions, 32).
        keys: (positions, D), rows `row` apart.
        values: (positions, D), rows `row` apart.
        row: Distance between positions.
        positions: How many positions there are.
        D: Head size, a multiple of PANEL.
        scale: What the keys are multiplied by.
    """
    comptime S = step[mode]()
    var padded = packed_positions(positions)
    var scaled = unsafe_alloc[F32](D, alignment=64)
    var column = unsafe_alloc[Int32](D, alignment=64)
    for p in range(padded):
        var inside = p < positions
        for d in range(0, D, WIDTH):
            var key = keys.unsafe_load[width=WIDTH](p * row + d) * Vec(scale) if inside else Vec(0)
            scaled.unsafe_store(d, key)
        _ = pack_row[mode](column, scaled, D)
        var target = packed.unsafe_offset((p // PANEL) * PANEL * D // S + p % PANEL)
        for k in range(D // S):
            target[unsafe_offset=k * PANEL] = column[unsafe_offset=k]
    column.unsafe_free()
    scaled.unsafe_free()
    var target = packed.unsafe_offset(padded * D // S)
    for k in range(padded // S):
        for d in range(0, D, WIDTH):
            var place = ((d // PANEL) * (padded // S) + k) * PANEL + d % PANEL
            var low = value_at(values, k * S, d, row, positions)
            comptime if mode == "bfloat16":
                var high = value_at(values, k * S + 1, d, row, positions)
                target.unsafe_store(place, bfloat16_pair[WIDTH](low, high))
            else:
                floats(target).unsafe_store(place, low)


@always_inline
def value_at(values: Floats, p: Int, d: Int, row: Int, positions: Int) -> Vec:
    return values.unsafe_load[width=WIDTH](p * row + d) if p < positions else Vec(0)


def softmax_row[mode: StaticString](row: Floats, positions: Int) -> F32:
    """Turns scores into words of exp(score - maximum), zero beyond `positions`; returns their sum."""
    var padded = packed_positions(positions)
    var highest = Vec(F32.MIN)
    for p in range(0, positions - positions % WIDTH, WIDTH):
        highest = max(highest, row.unsafe_load[width=WIDTH](p))
    var top = highest.reduce_max()
    for p in range(positions - positions % WIDTH, positions):
        top = max(top, row[unsafe_offset=p])
    for p in range(positions, padded):
        row[unsafe_offset=p] = top - 200  # exp of it is nothing in float32
    var total = Vec(0)
    for p in range(0, padded, WIDTH):
        var x = exp(row.unsafe_load[width=WIDTH](p) - Vec(top))
        row.unsafe_store(p, x)
        total += x
    comptime if mode == "bfloat16":
        _ = pack_row[mode](words(row), row, padded)  # from the front: never ahead of what is read
    return total.reduce_add()


@always_inline
def score[
    mode: StaticString
](scores: Ints, q: Floats, queries: Floats, query_row: Int, rows: Int, packed: Ints, padded: Int, D: Int, scale: F32):
    """scores (rows_in_tile(rows), padded) = scaled queries @ packed keys; `q` is scratch."""
    for r in range(rows_in_tile(rows)):
        var target = q.unsafe_offset(r * D)
        for d in range(0, D, WIDTH):
            target.unsafe_store(
                d, queries.unsafe_load[width=WIDTH](min(r, rows - 1) * query_row + d) * Vec(scale)
            )
        _ = pack_row[mode](words(target), target, D)
    comptime S = step[mode]()
    for p in range(0, padded, PANEL):
        tile_rows[mode, 1](
            rows, words(q), D, 1, packed.unsafe_offset(p * D // S), 0, D // S, scores.unsafe_offset(p), padded
        )


def attend[
    mode: StaticString
](
    result: Floats,
    result_row: Int,
    queries: Floats,
    query_row: Int,
    rows: Int,
    packed: Ints,
    positions: Int,
    D: Int,
    scale: F32,
    scratch: Floats,
):
    """Attends from up to ROWS queries of one head to its packed keys and values.

    Args:
        result: (rows, D), rows `result_row` apart.
        result_row: Distance between rows of the output.
        queries: (rows, D), rows `query_row` apart.
        query_row: Distance between queries.
        rows: How many queries, at most ROWS.
        packed: As `pack_head` leaves it.
        positions: How many positions are attended to.
        D: Head size.
        scale: What the queries are multiplied by.
        scratch: `scratch_floats(positions, D)` floats.
    """
    comptime S = step[mode]()
    var padded = packed_positions(positions)
    var q = scratch.unsafe_offset(ROWS * padded)
    var sums = q.unsafe_offset(ROWS * D)
    var totals = sums.unsafe_offset(ROWS * D)
    score[mode](words(scratch), q, queries, query_row, rows, packed, padded, D, scale)
    for r in range(rows):
        totals[unsafe_offset=r] = 1 / softmax_row[mode](scratch.unsafe_offset(r * padded), positions)
    for d in range(0, D, PANEL):
        tile_rows[mode, 1](
            rows,
            words(scratch),
            padded,
            1,
            packed.unsafe_offset((D + d) * padded // S),
            0,
            padded // S,
            words(sums).unsafe_offset(d),
            D,
        )
    for r in range(rows):
        for d in range(0, D, WIDTH):
            result.unsafe_store(
                r * result_row + d,
                sums.unsafe_load[width=WIDTH](r * D + d) * Vec(totals[unsafe_offset=r]),
            )


@always_inline
def scratch_floats(positions: Int, D: Int) -> Int:
    return ROWS * packed_positions(positions) + 2 * ROWS * D + ROWS


def encoder_attention[
    mode: StaticString
](
    result: Floats,
    qkv: Floats,
    positions: Int,
    heads: Int,
    D: Int,
    threads: Int,
) raises:
    """Every position attends to every position: out (positions, heads * D).

    Args:
        result: (positions, heads * D).
        qkv: (positions, 3 * heads * D): queries, keys, values.
        positions: Positions.
        heads: Heads.
        D: Head size.
        threads: Workers; each takes a part of the queries of a head.
    """
    var state = heads * D
    var scale = F32(D) ** -0.25
    # A head is packed by each worker that shares it, so share a head among as few as possible.
    var parts = 1 if heads % threads == 0 else ceildiv(threads, heads)
    if heads % threads != 0 and heads < 4 * threads:
        parts = threads
    var tiles = ceildiv(positions, ROWS)

    def worker(t: Int) raises {imm}:
        var packed = unsafe_alloc[Int32](head_words[mode](positions, D), alignment=64)
        var scratch = unsafe_alloc[F32](scratch_floats(positions, D), alignment=64)
        for task in range(t, heads * parts, threads):
            var head = task // parts
            var part = task % parts
            var q = qkv.unsafe_offset(head * D)
            pack_head[mode](
                packed, q.unsafe_offset(state), q.unsafe_offset(2 * state), 3 * state, positions, D, scale
            )
            for i in range(tiles * part // parts, tiles * (part + 1) // parts):
                var row = i * ROWS
                attend[mode](
                    result.unsafe_offset(row * state + head * D),
                    state,
                    q.unsafe_offset(row * 3 * state),
                    3 * state,
                    min(ROWS, positions - row),
                    packed,
                    positions,
                    D,
                    scale,
                    scratch,
                )
        scratch.unsafe_free()
        packed.unsafe_free()

    sync_parallelize(worker, threads)


def cross_attention[
    mode: StaticString
](
    result: Floats,
    queries: Floats,
    windows: Ints,
    cache: Ints,
    window_size: Int,
    N: Int,
    positions: Int,
    heads: Int,
    D: Int,
    threads: Int,
) raises:
    """Each query attends to the window it listens to: out (N, heads * D).

    Args:
        result: (N, heads * D).
        queries: (N, heads * D).
        windows: (N,) the window of each query; neighbours of one window share a tile.
        cache: The layer's part of the first window: heads as `pack_head` leaves them.
        window_size: Words from one window to the next.
        N: Queries.
        positions: Positions of a window.
        heads: Heads.
        D: Head size.
        threads: Workers.
    """
    var state = heads * D
    var head_size = head_words[mode](positions, D)
    var scale = F32(D) ** -0.25

    def worker(t: Int) raises {imm}:
        var scratch = unsafe_alloc[F32](scratch_floats(positions, D), alignment=64)
        for head in range(t, heads, threads):
            var n = 0
            while n < N:
                var rows = 1
                while rows < ROWS and n + rows < N and (
                    windows[unsafe_offset=n + rows] == windows[unsafe_offset=n]
                ):
                    rows += 1
                attend[mode](
                    result.unsafe_offset(n * state + head * D),
                    state,
                    queries.unsafe_offset(n * state + head * D),
                    state,
                    rows,
                    cache.unsafe_offset(Int(windows[unsafe_offset=n]) * window_size + head * head_size),
                    positions,
                    D,
                    scale,
                    scratch,
                )
                n += rows
        scratch.unsafe_free()

    sync_parallelize(worker, min(threads, heads))


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
    threads: Int,
) raises:
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
        threads: Workers; a head is one worker's, so that it writes before it reads.
    """
    var state = heads * D
    var scale = F32(D) ** -0.25
    var values = cache_rows * context * state
    var work = 0
    for n in range(N):
        work += Int(positions[unsafe_offset=n]) + 1
    # Below this a parallel region costs more than it saves.
    var workers = min(threads, heads) if work * state > 100_000 else 1

    def worker(t: Int) raises {imm}:
        var scores = unsafe_alloc[F32](packed_positions(context), alignment=64)
        for head in range(t, heads, workers):
            for n in range(N):
                var cell = (
                    Int(rows[unsafe_offset=n]) * context + Int(positions[unsafe_offset=n])
                ) * state + head * D
                for d in range(0, D, WIDTH):
                    var key = qkv.unsafe_load[width=WIDTH](n * 3 * state + state + head * D + d)
                    cache.unsafe_store(cell + d, key * Vec(scale))
                    cache.unsafe_store(
                        values + cell + d,
                        qkv.unsafe_load[width=WIDTH](n * 3 * state + 2 * state + head * D + d),
                    )
            for n in range(N):
                attend_past(
                    result.unsafe_offset(n * state + head * D),
                    qkv.unsafe_offset(n * 3 * state + head * D),
                    cache.unsafe_offset(head * D),
                    cache.unsafe_offset(values + head * D),
                    sources.unsafe_offset(Int(rows[unsafe_offset=n]) * context),
                    Int(positions[unsafe_offset=n]) + 1,
                    context,
                    state,
                    D,
                    scale,
                    scores,
                )
        scores.unsafe_free()

    sync_parallelize(worker, workers)


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
    var total = softmax_row["float32"](scores, past)
    for d in range(0, D, WIDTH):
        var sum = Vec(0)
        for p in range(past):
            var cell = (Int(sources[unsafe_offset=p]) * context + p) * state
            sum = values.unsafe_load[width=WIDTH](cell + d).fma(Vec(scores[unsafe_offset=p]), sum)
        result.unsafe_store(d, sum * Vec(1 / total))


def alignment[
    mode: StaticString
](
    result: Floats,
    queries: Floats,
    query_row: Int,
    packed: Ints,
    N: Int,
    positions: Int,
    D: Int,
) raises:
    """Scores of one head before the softmax, out (N, positions).

    Args:
        result: (N, positions).
        queries: (N, D), rows `query_row` apart.
        query_row: Distance between queries.
        packed: The head's keys as `pack_head` leaves them.
        N: Queries.
        positions: Positions.
        D: Head size.
    """
    var scale = F32(D) ** -0.25
    var padded = packed_positions(positions)
    var scratch = unsafe_alloc[F32](ROWS * (padded + D), alignment=64)
    var q = scratch.unsafe_offset(ROWS * padded)
    for n in range(0, N, ROWS):
        var rows = min(ROWS, N - n)
        score[mode](words(scratch), q, queries.unsafe_offset(n * query_row), query_row, rows, packed, padded, D, scale)
        for r in range(rows):
            for p in range(positions):
                result[unsafe_offset=(n + r) * positions + p] = scratch[unsafe_offset=r * padded + p]
    scratch.unsafe_free()
