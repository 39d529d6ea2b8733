"""Attention of the decoder to audio, over keys and values that a cache keeps packed."""

from .attention import CHUNK, QUERIES, Scratch, attend, pack_queries, score
from .heads import Head, multiplied_here, packed_positions
from .softmax import NONE, highest_score
from .team import Team, Work
from .tile import F32, Floats, Ints, ROWS

# A head in the cache begins with how many positions its window has, in a cache line of its own.
comptime HEADER = 16


@always_inline
def kept_head[mode: StaticString](cache: Ints, D: Int) -> Head[mode]:
    """The head that the cache has there."""
    return Head[mode](cache.unsafe_offset(HEADER), Int(cache[]), D)


@fieldwise_init
struct KeepTasks[mode: StaticString](Work):
    """Packs a layer's cross-attention keys and values, a head a task."""

    var cache: Ints
    var size: Int  # words of a head
    var kv: Floats
    var positions: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var state = self.heads * self.D
        var place = self.cache.unsafe_offset(task * self.size)
        place[] = Int32(self.positions)
        kept_head[Self.mode](place, self.D).pack(
            self.kv.unsafe_offset(task * self.D),
            self.kv.unsafe_offset(state + task * self.D),
            2 * state,
            F32(self.D) ** -0.25,
        )


@fieldwise_init
struct CrossTasks[mode: StaticString](Work):
    """A head of all queries a task."""

    var result: Floats
    var queries: Floats
    var windows: Ints
    var cache: Ints
    var window_size: Int
    var size: Int
    var N: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var state = self.heads * self.D
        var scratch = Scratch(self.D)
        var n = 0
        while n < self.N:
            var window = self.windows[unsafe_offset=n]
            var rows = 1
            while rows < QUERIES and n + rows < self.N and self.windows[unsafe_offset=n + rows] == window:
                rows += 1
            attend[Self.mode](
                self.result.unsafe_offset(n * state + task * self.D),
                state,
                self.queries.unsafe_offset(n * state + task * self.D),
                state,
                rows,
                kept_head[Self.mode](
                    self.cache.unsafe_offset(Int(window) * self.window_size + task * self.size), self.D
                ),
                F32(self.D) ** -0.25,
                scratch,
            )
            n += rows
        scratch.free()


def cross_attention[
    mode: StaticString
](
    result: Floats,
    queries: Floats,
    windows: Ints,
    cache: Ints,
    window_size: Int,
    size: Int,
    N: Int,
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
        size: Words from one head to the next.
        N: Queries.
        heads: Heads.
        D: Head size.
        team: Who works.
    """
    team.do(CrossTasks[mode](result, queries, windows, cache, window_size, size, N, heads, D), heads)


@fieldwise_init
struct AlignmentTasks[mode: StaticString](Work):
    """Scores before the softmax, a (layer, head) pair a task: out (pairs, N, positions).

    Positions that the window does not have get NONE.
    """

    var result: Floats
    var queries: Floats  # (layers, N, heads * D)
    var cache: Ints  # a window's layers
    var size: Int  # words of a head
    var pairs: Ints
    var N: Int
    var positions: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var layer = Int(self.pairs[unsafe_offset=2 * task])
        var index = Int(self.pairs[unsafe_offset=2 * task + 1])
        var state = self.heads * self.D
        alignment[Self.mode](
            self.result.unsafe_offset(task * self.N * self.positions),
            self.queries.unsafe_offset(layer * self.N * state + index * self.D),
            state,
            kept_head[Self.mode](self.cache.unsafe_offset((layer * self.heads + index) * self.size), self.D),
            self.N,
            self.positions,
        )


def alignment[
    mode: StaticString
](result: Floats, queries: Floats, query_row: Int, head: Head[mode], N: Int, positions: Int):
    """Scores of one head before the softmax, out (N, positions).

    Args:
        result: (N, positions).
        queries: (N, D), rows `query_row` apart.
        query_row: Distance between queries.
        head: Keys and values.
        N: Queries.
        positions: Columns of the result.
    """
    var scratch = Scratch(head.D)
    for n in range(0, N, ROWS):
        var rows = min(ROWS, N - n)
        pack_queries[mode](scratch, queries.unsafe_offset(n * query_row), query_row, rows, head.D, F32(head.D) ** -0.25)
        for first in range(0, head.positions, CHUNK):
            score[mode](scratch, head, 0, rows, first, min(CHUNK, head.padded() - first))
            for r in range(rows):
                var row = scratch.scores.unsafe_offset(r * CHUNK)
                var target = result.unsafe_offset((n + r) * positions + first)
                var valid = min(CHUNK, head.positions - first)
                _ = highest_score[multiplied_here[mode]()](
                    row,
                    valid,
                    packed_positions(valid),
                    1,
                    scratch.zeros[unsafe_offset=r],
                    head.key_scales().unsafe_offset(first),
                    head.key_sums().unsafe_offset(first),
                )
                for p in range(valid):
                    target[unsafe_offset=p] = row[unsafe_offset=p] * scratch.scales[unsafe_offset=r]
        for r in range(n, n + rows):
            for p in range(head.positions, positions):
                result[unsafe_offset=r * positions + p] = NONE
    scratch.free()
