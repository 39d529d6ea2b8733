"""Attention over packed keys and values; scores become weights, and weights results, in float32.

A head's keys and values lie in the panel layout of `tile`: scores are a product with the keys
(K = head size, columns = positions), the result a product with the values (K = positions,
columns = head size). The encoder packs both as it goes; the decoder's cross-attention finds them
packed in the cache. Integers have a scale for each position, of its key and of its value. Several
tiles of queries share each panel while it is in the first-level cache; a query's result does not
depend on the others.
"""

from std.collections import Array
from std.memory import bitcast
from std.memory.alloc import unsafe_alloc

from .pack import MOST, bfloat16_pair, most, pack_row, round_pairs
from .softmax import exponentials, finish_scores
from .team import Team, Work
from .tile import (
    F32,
    Floats,
    Ints,
    PANEL,
    ROWS,
    WIDTH,
    Vec,
    Words,
    ceildiv,
    floats,
    multiplied,
    parts,
    step,
    sweep,
    words,
)

comptime QUERIES = 4 * ROWS  # queries that go through a head's panels together, at most
# Positions that integer weights are summed over before the sum becomes float32: an int32 holds
# 256 products of two numbers up to MOST.
comptime CHUNK = 256


@always_inline
def multiplied_here[mode: StaticString]() -> StaticString:
    """In what keys and values stored as `mode` are multiplied: integers always in 16 bits."""
    return "int16" if mode == "int8" or mode == "int16" else multiplied[mode]()


@always_inline
def has_scales[mode: StaticString]() -> Bool:
    """Whether positions have scales."""
    return mode == "int8" or mode == "int16"


@always_inline
def packed_positions(positions: Int) -> Int:
    """Positions of a head in the packed layout: whole panels."""
    return ceildiv(positions, PANEL) * PANEL


@fieldwise_init
struct Head[mode: StaticString](ImplicitlyCopyable, Movable):
    """One head's keys and values, packed.

    Fields:
        packed: Keys as panels (positions / 32, D / step, 32), then values as (D / 32, positions /
            step, 32), then, for integers, the keys' and the values' scales.
        positions: How many positions there are.
        D: Head size, a multiple of PANEL.
    """

    var packed: Ints
    var positions: Int
    var D: Int

    def padded(self) -> Int:
        return packed_positions(self.positions)

    def words(self) -> Int:
        """How many words all of it takes."""
        return 2 * self.padded() * self.D // step[Self.mode]() + (2 * self.padded() if has_scales[Self.mode]() else 0)

    def values(self) -> Ints:
        return self.packed.unsafe_offset(self.padded() * self.D // step[Self.mode]())

    def key_scales(self) -> Floats:
        return floats(self.values().unsafe_offset(self.padded() * self.D // step[Self.mode]()))

    def value_scales(self) -> Floats:
        return self.key_scales().unsafe_offset(self.padded())

    def pack(self, keys: Floats, values: Floats, row: Int, scale: F32):
        """Packs keys (positions, D), multiplied by `scale`, and values, both with rows `row` apart."""
        var scaled = unsafe_alloc[F32](2 * self.D, alignment=64)
        var column = words(scaled).unsafe_offset(self.D)
        for p in range(self.padded()):
            var inside = p < self.positions
            for d in range(0, self.D, WIDTH):
                scaled.unsafe_store(d, keys.unsafe_load[width=WIDTH](p * row + d) * Vec(scale) if inside else Vec(0))
            var key_scale = stored[Self.mode](column, scaled, self.D)
            comptime if has_scales[Self.mode]():
                self.key_scales()[unsafe_offset=p] = key_scale
            var target = self.packed.unsafe_offset((p // PANEL) * PANEL * self.D // step[Self.mode]() + p % PANEL)
            for k in range(self.D // step[Self.mode]()):
                target[unsafe_offset=k * PANEL] = column[unsafe_offset=k]
        scaled.unsafe_free()
        self._pack_values(values, row)

    def _pack_values(self, values: Floats, row: Int):
        comptime S = step[Self.mode]()
        var target = self.values()
        var inverse = Array[F32, S](fill=F32(1))
        for k in range(self.padded() // S):
            comptime if has_scales[Self.mode]():
                comptime for i in range(S):
                    var p = k * S + i
                    var top = most(values.unsafe_offset(p * row), self.D) if p < self.positions else F32(0)
                    self.value_scales()[unsafe_offset=p] = top / largest[Self.mode]()
                    inverse[i] = largest[Self.mode]() / top if top > 0 else F32(0)
            for d in range(0, self.D, WIDTH):
                var neighbours = Array[Vec, S](fill=Vec(0))
                comptime for i in range(S):
                    if k * S + i < self.positions:
                        neighbours[i] = values.unsafe_load[width=WIDTH]((k * S + i) * row + d) * Vec(inverse[i])
                var place = ((d // PANEL) * (self.padded() // S) + k) * PANEL + d % PANEL
                target.unsafe_store(place, joined_neighbours[Self.mode](neighbours))


@always_inline
def largest[mode: StaticString]() -> F32:
    """The largest integer that a key or value is stored as."""
    return 127 if mode == "int8" else F32(MOST)


@always_inline
def stored[mode: StaticString](target: Ints, x: Floats, D: Int) -> F32:
    """A key as the words that the cache keeps; returns its scale."""
    comptime if mode == "bfloat16":
        round_pairs(target, x, D)
        return 1
    comptime if mode == "int16":
        return pack_row["int16", "int16"](target, x, D)
    comptime if mode == "int8":
        var top = most(x, D)
        var inverse = 127 / top if top > 0 else F32(0)
        for k in range(D // 4):
            var word = Int32(0)
            for i in range(4):
                word |= (rounded(Vec(x[unsafe_offset=4 * k + i] * inverse))[0] & 255) << Int32(8 * i)
            target[unsafe_offset=k] = word
        return top / 127
    for k in range(D):
        floats(target)[unsafe_offset=k] = x[unsafe_offset=k]
    return 1


@always_inline
def rounded(x: Vec) -> Words:
    """The nearest integers, of magnitudes up to MOST."""
    return (x + Vec(F32(MOST) + 1.5)).cast[DType.int32]() - Words(MOST + 1)


@always_inline
def joined_neighbours[mode: StaticString](x: Array[Vec, step[mode]()]) -> Words:
    """Values of neighbouring positions, already scaled, in the words that keep them."""
    comptime if mode == "float32":
        return bitcast[DType.int32, WIDTH](x[0])
    comptime if mode == "bfloat16":
        return bfloat16_pair[WIDTH](x[0], x[1])
    comptime bits = 32 // step[mode]()
    var word = Words(0)
    comptime for i in range(step[mode]()):
        word |= (rounded(x[i]) & Words((1 << bits) - 1)) << Words(bits * i)
    return word


def score[
    mode: StaticString
](scores: Floats, q: Ints, queries: Floats, query_row: Int, rows: Int, head: Head[mode], scale: F32, scratch: Floats):
    """scores (whole tiles, padded) = scaled queries @ packed keys, as sums of `kind`; `q` is scratch.

    `scratch` has room for D floats; behind them the queries' own scales are left.
    """
    comptime kind = multiplied_here[mode]()
    comptime P = parts[mode, kind]()
    comptime S = step[mode]()
    var D = head.D
    var K = D // S
    for r in range(ceildiv(rows, ROWS) * ROWS):
        for d in range(0, D, WIDTH):
            scratch.unsafe_store(d, queries.unsafe_load[width=WIDTH](min(r, rows - 1) * query_row + d) * Vec(scale))
        scratch[unsafe_offset=D + r] = pack_row[mode, kind](q.unsafe_offset(r * K * P), scratch, D)
    comptime GROUP = 4  # panels that go through together
    for p in range(0, head.padded(), GROUP * PANEL):
        var panels = min(GROUP, (head.padded() - p) // PANEL)
        for r in range(0, rows, ROWS):
            sweep[mode, kind](
                min(ROWS, rows - r),
                q.unsafe_offset(r * K * P),
                K * P,
                head.packed.unsafe_offset(p * K),
                PANEL * K,
                panels,
                K,
                words(scores).unsafe_offset(r * head.padded() + p),
                head.padded(),
                True,
            )


def attend[
    mode: StaticString
](result: Floats, result_row: Int, queries: Floats, query_row: Int, rows: Int, head: Head[mode], scale: F32, scratch: Floats):
    """Attends from up to QUERIES queries of one head to its packed keys and values.

    Args:
        result: (rows, D), rows `result_row` apart.
        result_row: Distance between rows of the output.
        queries: (rows, D), rows `query_row` apart.
        query_row: Distance between queries.
        rows: How many queries, at most QUERIES.
        head: Keys and values.
        scale: What the queries are multiplied by.
        scratch: `scratch_floats(positions, D)` floats.
    """
    comptime kind = multiplied_here[mode]()
    comptime P = parts[mode, kind]()
    comptime S = step[mode]()
    comptime integer = has_scales[mode]()
    var D = head.D
    var padded = head.padded()
    var q = scratch.unsafe_offset(QUERIES * padded)
    var sums = q.unsafe_offset(QUERIES * D)
    var totals = sums.unsafe_offset(QUERIES * D)
    var chunk_sums = totals.unsafe_offset(QUERIES)
    var query_scales = chunk_sums.unsafe_offset(ROWS * D)  # behind room for one query
    score[mode](scratch, words(q), queries, query_row, rows, head, scale, query_scales)
    query_scales = query_scales.unsafe_offset(D)
    for r in range(rows):
        var row = scratch.unsafe_offset(r * padded)
        var top = finish_scores[integer](row, head.positions, query_scales[unsafe_offset=r], head.key_scales())
        totals[unsafe_offset=r] = exponentials[mode, kind](row, head.positions, padded, top, head.value_scales())
    comptime chunk = CHUNK // S
    for k in range(0, padded // S, chunk):
        var depth = min(chunk, padded // S - k)
        for r in range(0, rows, ROWS):
            var count = min(ROWS, rows - r)
            var weights = words(scratch).unsafe_offset(r * padded + k * P)
            var values = head.values().unsafe_offset(k * PANEL)
            var target = sums.unsafe_offset(r * D)
            comptime if integer:
                sweep[mode, kind](
                    count, weights, padded, values, padded // S * PANEL, D // PANEL, depth, words(chunk_sums), D, True
                )
                for i in range(0, count * D, WIDTH):
                    var sum = words(chunk_sums).unsafe_load[width=WIDTH](i).cast[DType.float32]()
                    target.unsafe_store(i, sum if k == 0 else sum + target.unsafe_load[width=WIDTH](i))
            else:
                sweep[mode, kind](
                    count, weights, padded, values, padded // S * PANEL, D // PANEL, depth, words(target), D, k == 0
                )
    for r in range(rows):
        for d in range(0, D, WIDTH):
            result.unsafe_store(
                r * result_row + d,
                sums.unsafe_load[width=WIDTH](r * D + d) * Vec(totals[unsafe_offset=r]),
            )


@always_inline
def scratch_floats(positions: Int, D: Int) -> Int:
    return QUERIES * (packed_positions(positions) + 2 * D + 2) + (ROWS + 1) * D


@fieldwise_init
struct HeadTasks[kind: StaticString](Work):
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
        var scratch = unsafe_alloc[F32](scratch_floats(self.positions, self.D), alignment=64)
        var size = Head[Self.kind](words(scratch), self.positions, self.D).words()
        var packed = unsafe_alloc[Int32](size, alignment=64)
        var head = Head[Self.kind](packed, self.positions, self.D)
        var index = task // self.shares
        var share = task % self.shares
        var q = self.qkv.unsafe_offset(index * self.D)
        head.pack(q.unsafe_offset(state), q.unsafe_offset(2 * state), 3 * state, scale)
        var groups = ceildiv(self.positions, QUERIES)
        for i in range(groups * share // self.shares, groups * (share + 1) // self.shares):
            var row = i * QUERIES
            attend[Self.kind](
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
        scratch.unsafe_free()


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
        HeadTasks[multiplied_here[mode]()](result, qkv, positions, heads, D, shares), heads * shares
    )


@fieldwise_init
struct CrossTasks[mode: StaticString](Work):
    """The decoder's attention to audio: a head a task."""

    var result: Floats
    var queries: Floats
    var windows: Ints
    var cache: Ints
    var window_size: Int
    var N: Int
    var positions: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var state = self.heads * self.D
        var head_size = Head[Self.mode](self.cache, self.positions, self.D).words()
        var scratch = unsafe_alloc[F32](scratch_floats(self.positions, self.D), alignment=64)
        var n = 0
        while n < self.N:
            var window = self.windows[unsafe_offset=n]
            var rows = 1
            while rows < QUERIES and n + rows < self.N and self.windows[unsafe_offset=n + rows] == window:
                rows += 1
            var place = Int(window) * self.window_size + task * head_size
            attend[Self.mode](
                self.result.unsafe_offset(n * state + task * self.D),
                state,
                self.queries.unsafe_offset(n * state + task * self.D),
                state,
                rows,
                Head[Self.mode](self.cache.unsafe_offset(place), self.positions, self.D),
                F32(self.D) ** -0.25,
                scratch,
            )
            n += rows
        scratch.unsafe_free()


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
    team: Team,
):
    """Each query attends to the window it listens to: out (N, heads * D).

    Args:
        result: (N, heads * D).
        queries: (N, heads * D).
        windows: (N,) the window of each query; neighbours of one window share its panels.
        cache: The layer's part of the first window: packed heads.
        window_size: Words from one window to the next.
        N: Queries.
        positions: Positions of a window.
        heads: Heads.
        D: Head size.
        team: Who works.
    """
    team.do(CrossTasks[mode](result, queries, windows, cache, window_size, N, positions, heads, D), heads)


@fieldwise_init
struct KeepTasks[mode: StaticString](Work):
    """Packs a layer's cross-attention keys and values, a head a task."""

    var cache: Ints
    var kv: Floats
    var positions: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var state = self.heads * self.D
        var size = Head[Self.mode](self.cache, self.positions, self.D).words()
        Head[Self.mode](self.cache.unsafe_offset(task * size), self.positions, self.D).pack(
            self.kv.unsafe_offset(task * self.D),
            self.kv.unsafe_offset(state + task * self.D),
            2 * state,
            F32(self.D) ** -0.25,
        )


@fieldwise_init
struct AlignmentTasks[mode: StaticString](Work):
    """Scores before the softmax, a (layer, head) pair a task: out (pairs, N, positions)."""

    var result: Floats
    var queries: Floats  # (layers, N, heads * D)
    var cache: Ints  # a window's layers
    var pairs: Ints
    var N: Int
    var positions: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var layer = Int(self.pairs[unsafe_offset=2 * task])
        var index = Int(self.pairs[unsafe_offset=2 * task + 1])
        var state = self.heads * self.D
        var size = Head[Self.mode](self.cache, self.positions, self.D).words()
        alignment[Self.mode](
            self.result.unsafe_offset(task * self.N * self.positions),
            self.queries.unsafe_offset(layer * self.N * state + index * self.D),
            state,
            self.cache.unsafe_offset((layer * self.heads + index) * size),
            self.N,
            self.positions,
            self.D,
        )


def alignment[
    mode: StaticString
](result: Floats, queries: Floats, query_row: Int, packed: Ints, N: Int, positions: Int, D: Int):
    """Scores of one head before the softmax, out (N, positions).

    Args:
        result: (N, positions).
        queries: (N, D), rows `query_row` apart.
        query_row: Distance between queries.
        packed: The head as the cache has it.
        N: Queries.
        positions: Positions.
        D: Head size.
    """
    var head = Head[mode](packed, positions, D)
    var padded = head.padded()
    var scratch = unsafe_alloc[F32](scratch_floats(positions, D), alignment=64)
    var q = scratch.unsafe_offset(QUERIES * padded)
    var query_scales = q.unsafe_offset(QUERIES * D)
    for n in range(0, N, QUERIES):
        var rows = min(QUERIES, N - n)
        score[mode](scratch, words(q), queries.unsafe_offset(n * query_row), query_row, rows, head, F32(D) ** -0.25, query_scales)
        for r in range(rows):
            var row = scratch.unsafe_offset(r * padded)
            _ = finish_scores[has_scales[mode]()](
                row, positions, query_scales[unsafe_offset=D + r], head.key_scales()
            )
            for p in range(positions):
                result[unsafe_offset=(n + r) * positions + p] = row[unsafe_offset=p]
    scratch.unsafe_free()
