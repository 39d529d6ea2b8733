"""When each token of a text begins: from the queries of cross-attention to a path through time.

The semantics are those of `max_whisper.transcribe.alignment`. Rows of attention are tokens and lie
`stride` apart, columns are positions of the audio; what is beyond the last of these is computed
with them and read by nobody.
"""

from std.collections import Array
from std.math import exp, sqrt
from std.memory.alloc import unsafe_alloc

from .attention import CHUNK, Scratch, pack_queries, score
from .cross import kept_head
from .heads import Head, keys_in, multiplied_here, packed_positions
from .pack import larger, smaller
from .softmax import NONE, highest_score
from .team import Team, Work
from .tile import F32, Floats, Ints, PANEL, Panel, ROWS, Vec, WIDTH, ceildiv

comptime MEDIAN = 7  # neighbours in time that a median is taken of
comptime HALF = MEDIAN // 2
# What a step of the path leaves behind it.
comptime BOTH = UInt8(0)  # a token and a position
comptime DOWN = UInt8(1)  # a token
comptime RIGHT = UInt8(2)  # a position


@fieldwise_init
struct HeadTasks[mode: StaticString](Work):
    """What is unusual in the attention of a (layer, head) pair, smoothed over time, a pair a task."""

    var result: Floats  # (pairs, N, stride)
    var queries: Floats  # (layers, N, heads * D)
    var cache: Ints  # a window's layers
    var size: Int  # words of a head
    var pairs: Ints
    var N: Int
    var frames: Int
    var stride: Int
    var heads: Int
    var D: Int

    def run(self, task: Int):
        var layer = Int(self.pairs[unsafe_offset=2 * task])
        var index = Int(self.pairs[unsafe_offset=2 * task + 1])
        var state = self.heads * self.D
        var x = self.result.unsafe_offset(task * self.N * self.stride)
        scores[Self.mode](
            x,
            self.stride,
            self.frames,
            self.queries.unsafe_offset(layer * self.N * state + index * self.D),
            state,
            self.N,
            kept_head[Self.mode](self.cache.unsafe_offset((layer * self.heads + index) * self.size), self.D),
        )
        for n in range(self.N):
            soften(x.unsafe_offset(n * self.stride), self.stride)
        standardise(x, self.N, self.stride)
        var room = unsafe_alloc[F32](self.stride + 2 * HALF + WIDTH)
        for n in range(self.N):
            smooth(x.unsafe_offset(n * self.stride), self.frames, room)
        room.unsafe_free()


def scores[
    mode: StaticString
](result: Floats, stride: Int, frames: Int, queries: Floats, query_row: Int, N: Int, head: Head[mode]):
    """A head's scores before the softmax, (N, stride): NONE for positions that do not count."""
    var scratch = Scratch(head.D)
    var valid = min(frames, head.positions)
    for n in range(0, N, ROWS):
        var rows = min(ROWS, N - n)
        pack_queries[mode](scratch, queries.unsafe_offset(n * query_row), query_row, rows, head.D, F32(head.D) ** -0.25)
        for first in range(0, valid, CHUNK):
            score[mode](scratch, head, 0, rows, first, min(CHUNK, head.padded() - first))
            for r in range(rows):
                var row = scratch.scores.unsafe_offset(r * CHUNK)
                var target = result.unsafe_offset((n + r) * stride + first)
                var count = min(CHUNK, valid - first)
                _ = highest_score[multiplied_here[keys_in[mode]()]()](
                    row,
                    count,
                    packed_positions(count),
                    1,
                    scratch.zeros[unsafe_offset=r],
                    head.key_scales().unsafe_offset(first),
                    head.key_sums().unsafe_offset(first),
                )
                # Both have room for whole panels.
                for p in range(0, count, PANEL):
                    target.unsafe_store(p, row.unsafe_load[width=PANEL](p) * Panel(scratch.scales[unsafe_offset=r]))
        for r in range(n, n + rows):
            for p in range(valid, stride):
                result[unsafe_offset=r * stride + p] = NONE
    scratch.free()


def soften(row: Floats, count: Int):
    """Softmax of a row, whole panels of it."""
    var top = Panel(NONE)
    for p in range(0, count, PANEL):
        top = larger[PANEL](top, row.unsafe_load[width=PANEL](p))
    var highest = Panel(top.reduce_max())
    var sum = Panel(0)
    for p in range(0, count, PANEL):
        var x = exp(row.unsafe_load[width=PANEL](p) - highest)
        sum += x
        row.unsafe_store(p, x)
    var inverse = Panel(1 / sum.reduce_add())
    for p in range(0, count, PANEL):
        row.unsafe_store(p, row.unsafe_load[width=PANEL](p) * inverse)


def standardise(x: Floats, N: Int, stride: Int):
    """Gives each column of (N, stride) a mean of 0 and a deviation of 1."""
    for p in range(0, stride, PANEL):
        var columns = x.unsafe_offset(p)
        var sum = Panel(0)
        for n in range(N):
            sum += columns.unsafe_load[width=PANEL](n * stride)
        var mean = sum / Panel(F32(N))
        var squares = Panel(0)
        for n in range(N):
            var difference = columns.unsafe_load[width=PANEL](n * stride) - mean
            squares = difference.fma(difference, squares)
        var inverse = 1 / sqrt(squares / Panel(F32(N)))
        for n in range(N):
            columns.unsafe_store(n * stride, (columns.unsafe_load[width=PANEL](n * stride) - mean) * inverse)


def smooth(row: Floats, frames: Int, room: Floats):
    """Replaces each of a row's values by the median of its neighbours, mirrored at both ends."""
    if frames <= HALF:
        return
    for p in range(0, frames, WIDTH):
        room.unsafe_store(HALF + p, row.unsafe_load[width=WIDTH](p))
    for i in range(HALF):
        room[unsafe_offset=HALF - 1 - i] = row[unsafe_offset=i + 1]
        room[unsafe_offset=HALF + frames + i] = row[unsafe_offset=frames - 2 - i]
    for p in range(0, frames, WIDTH):
        row.unsafe_store(p, median(room.unsafe_offset(p)))


@always_inline
def median(x: Floats) -> Vec:
    """The medians of x[i] to x[i + MEDIAN - 1].

    Whatever is least or greatest of more than half of the values is not the median of all: of so
    many, these two make place for one that waits, until three values are left.
    """
    comptime FIRST = HALF + 2
    var kept = Array[Vec, FIRST](fill=Vec(0))
    comptime for i in range(FIRST):
        kept[i] = x.unsafe_load[width=WIDTH](i)
    comptime for count in range(FIRST, 2, -1):
        comptime for i in range(1, count):
            var low = smaller(kept[0], kept[i])
            kept[i] = larger(kept[0], kept[i])
            kept[0] = low
        comptime for i in range(1, count - 1):
            var low = smaller(kept[i], kept[count - 1])
            kept[count - 1] = larger(kept[i], kept[count - 1])
            kept[i] = low
        comptime if count > 3:
            kept[0] = x.unsafe_load[width=WIDTH](MEDIAN + 3 - count)
    return kept[1]


@fieldwise_init
struct CostTasks(Work):
    """What it costs to hear a wanted token at each position, a token a task: minus the heads' mean."""

    var x: Floats  # (pairs, N, stride); the first pair's wanted rows become the costs
    var wanted: Ints
    var pairs: Int
    var N: Int
    var stride: Int

    def run(self, task: Int):
        var row = self.x.unsafe_offset(Int(self.wanted[unsafe_offset=task]) * self.stride)
        for p in range(0, self.stride, PANEL):
            var sum = row.unsafe_load[width=PANEL](p)
            for pair in range(1, self.pairs):
                sum += row.unsafe_load[width=PANEL](pair * self.N * self.stride + p)
            row.unsafe_store(p, -sum / Panel(F32(self.pairs)))


def cheapest_path(begins: Ints, costs: Floats, wanted: Ints, stride: Int, W: Int, frames: Int):
    """Where the cheapest way through the wanted rows of `costs` enters each of them."""
    var above = unsafe_alloc[F32](frames + 1)  # sums of the row before, behind one that no way leads to
    var steps = unsafe_alloc[UInt8](W * frames)
    for p in range(frames + 1):
        above[unsafe_offset=p] = F32.MAX
    above[] = 0
    for i in range(W):
        var row = costs.unsafe_offset(Int(wanted[unsafe_offset=i]) * stride)
        var both = above[]
        above[] = F32.MAX
        var right = F32.MAX
        for p in range(frames):
            var down = above[unsafe_offset=p + 1]
            # A step that is as cheap as another one is not taken, but for that to the right.
            var other = min(both, down) if both != down else F32.MAX
            var step = BOTH if both < down else DOWN
            steps[unsafe_offset=i * frames + p] = step if other < right else RIGHT
            right = row[unsafe_offset=p] + min(other, right)
            above[unsafe_offset=p + 1] = right
            both = down
    var i = W - 1
    var p = frames - 1
    while i >= 0 and p >= 0:
        begins[unsafe_offset=i] = Int32(p)
        var step = steps[unsafe_offset=i * frames + p]
        i -= Int(step != RIGHT)
        p -= Int(step != DOWN)
    steps.unsafe_free()
    above.unsafe_free()


def token_begins[
    mode: StaticString
](
    begins: Ints,
    queries: Floats,
    cache: Ints,
    size: Int,
    pairs: Ints,
    pair_count: Int,
    wanted: Ints,
    W: Int,
    N: Int,
    frames: Int,
    heads: Int,
    D: Int,
    team: Team,
):
    """The position at which each wanted token begins.

    Args:
        begins: (W,).
        queries: (layers, N, heads * D).
        cache: The window's layers: packed heads.
        size: Words from one head to the next.
        pairs: (pair_count, 2) layers and heads that follow the audio.
        pair_count: How many.
        wanted: (W,) consecutive tokens; the others only tell what is unusual in attention.
        W: How many.
        N: Tokens.
        frames: How many positions count.
        heads: Heads of a layer.
        D: Head size.
        team: Who works.
    """
    for i in range(W):
        begins[unsafe_offset=i] = 0
    if frames < 2 or W == 0:
        return  # nothing tells the tokens apart
    var stride = ceildiv(frames, PANEL) * PANEL
    var x = unsafe_alloc[F32](pair_count * N * stride, alignment=64)
    team.do(HeadTasks[mode](x, queries, cache, size, pairs, N, frames, stride, heads, D), pair_count)
    team.do(CostTasks(x, wanted, pair_count, N, stride), W)
    cheapest_path(begins, x, wanted, stride, W, frames)
    x.unsafe_free()
