"""Linear layers, C = epilogue(A @ W + bias), in each precision; A and C are float32.

The rows of A become words of the precision first. Few rows (a decoding step) read the weights
once and are bound by memory: the panels are divided into tasks. Many rows (the encoder) are
blocked: a block of A lies in the second-level cache while each panel, widened once if the
processor wants it wider, passes through the first.
"""

from std.collections import Array
from std.math import erf
from std.memory.alloc import unsafe_alloc

from .pack import Scale, larger, pack_row, row_words, smaller
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
    quantised,
    rows_in_tile,
    step,
    sweep,
    tile,
    tile_rows,
    widen_panel,
    words,
)

comptime BLOCK_ROWS = 96  # rows of A packed at once, at most
comptime BLOCK_WORDS = 128 * 1024
comptime K_BLOCK = 128  # words of a row that a tile takes at once: they stay in the first-level cache
comptime GROUP = 4  # panels of few rows that are finished together
comptime Scales = Pointer[Scale, MutUntrackedOrigin]
comptime GAP = 16  # words between packed rows, so that they fall into different cache sets


@fieldwise_init
struct Layer(ImplicitlyCopyable, Movable):
    """A packed linear layer.

    Fields:
        weight: Panels (ceil(N / 32), words, 32).
        epilogue: Rows of ceil(N / 32) * 32: bias; of integers also each column's scale and, as
            int32, its sum.
        N: Columns.
        K: Inner dimension.
    """

    var weight: Ints
    var epilogue: Floats
    var N: Int
    var K: Int


@fieldwise_init
struct Packed(ImplicitlyCopyable, Movable):
    """Rows as words.

    Fields:
        words: As many rows as whole tiles take.
        row_length: Words between them.
        scales: What their integers stand for.
    """

    var words: Ints
    var row_length: Int
    var scales: Scales

    def row(self, row: Int) -> Self:
        """The rows from that one on."""
        return Self(self.words.unsafe_offset(row * self.row_length), self.row_length, self.scales.unsafe_offset(row))


@always_inline
def gelu[mode: StaticString](x: Vec) -> Vec:
    """The erf form, as openai-whisper's; where it is rounded to eight bits next, to 2e-4.

    There the normal distribution is a half and an odd polynomial up to 4, fitted to x times it.
    """
    comptime if mode == "float32" or mode == "float16":
        return x * Vec(0.5) * (Vec(1) + erf(x * Vec(0.7071067811865476)))
    var t = smaller(larger(x, Vec(-4)), Vec(4))
    var u = t * t
    var y = Vec(2.25881269e-08)
    y = y.fma(u, Vec(-1.58882267e-06))
    y = y.fma(u, Vec(4.77637914e-05))
    y = y.fma(u, Vec(-0.00081218651))
    y = y.fma(u, Vec(0.00876368582))
    y = y.fma(u, Vec(-0.0645544007))
    y = y.fma(u, Vec(0.397870272))
    return x * t.fma(y, Vec(0.5))


@always_inline
def finish[
    mode: StaticString, activation: StaticString, has_residual: Bool, has_bias: Bool
](
    c: Ints,
    c_row: Int,
    scales: Scales,
    rows: Int,
    columns: Int,
    layer: Layer,
    n: Int,
    result: Floats,
    result_row: Int,
    residual: Floats,
):
    """Moves finished sums of columns from n on to the output: scales, bias, activation, residual.

    A layer without bias has one of zeros, which is not read. Rows of the output, and of what is added
    to it, are `result_row` apart.
    """
    comptime VECS = PANEL // WIDTH
    var padded = ceildiv(layer.N, PANEL) * PANEL
    for first in range(0, columns, PANEL):
        var epilogue = layer.epilogue.unsafe_offset(n + first)
        var bias = Array[Vec, VECS](fill=Vec(0))
        var scale = Array[Vec, VECS](fill=Vec(0))
        var offset = Array[Vec, VECS](fill=Vec(0))  # of a zero of 1
        comptime for v in range(VECS):
            comptime if has_bias:
                bias[v] = epilogue.unsafe_load[width=WIDTH](v * WIDTH)
            comptime if quantised[mode]():
                scale[v] = epilogue.unsafe_load[width=WIDTH](padded + v * WIDTH)
                var sums = words(epilogue).unsafe_load[width=WIDTH](2 * padded + v * WIDTH)
                offset[v] = sums.cast[DType.float32]() * scale[v]
        for r in range(rows):
            comptime for v in range(VECS):
                var i = first + v * WIDTH
                var x: Vec
                comptime if quantised[mode]():
                    var given = scales[unsafe_offset=r]
                    x = c.unsafe_load[width=WIDTH](r * c_row + i).cast[DType.float32]() * scale[v]
                    comptime if multiplied[mode]() != "int16":
                        var zero = given.zero.cast[DType.float32]() * given.step
                        x = x.fma(Vec(given.step), offset[v].fma(Vec(-zero), bias[v]))
                    else:
                        # int4 has sixteen times its value as int8, and here it has not.
                        comptime times = F32(16 if mode == "int4" else 1)
                        x = x.fma(Vec(given.step * times), bias[v])
                else:
                    x = floats(c).unsafe_load[width=WIDTH](r * c_row + i) + bias[v]
                comptime if activation == "gelu":
                    x = gelu[mode](x)
                if i + WIDTH <= columns:
                    comptime if has_residual:
                        x += residual.unsafe_load[width=WIDTH](r * result_row + i)
                    result.unsafe_store(r * result_row + i, x)
                else:
                    for lane in range(columns - i):
                        var y = x[lane]
                        comptime if has_residual:
                            y += residual[unsafe_offset=r * result_row + i + lane]
                        result[unsafe_offset=r * result_row + i + lane] = y


def linear[
    mode: StaticString, activation: StaticString, has_residual: Bool
](result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, team: Team):
    """result (M, N) = epilogue(A (M, K) @ W + bias).

    Args:
        result: (M, N).
        a: Rows `a_row` apart; they may overlap, which is how a convolution is read.
        a_row: Distance between rows of A.
        layer: Weights.
        residual: (M, N), added last where `has_residual`.
        M: Rows.
        team: Who works.
    """
    if M <= ROWS:
        few_rows[mode, activation, has_residual](result, a, a_row, layer, residual, M, team)
    else:
        many_rows[mode, activation, has_residual](result, a, a_row, layer, residual, M, team)


@fieldwise_init
struct Panels[mode: StaticString, activation: StaticString, has_residual: Bool](Work):
    """Few packed rows by some panels a task."""

    var result: Floats
    var packed: Packed
    var M: Int
    var layer: Layer
    var residual: Floats
    var share: Int  # panels of a task

    def run(self, task: Int):
        var sums = unsafe_alloc[Int32](ROWS * GROUP * PANEL, alignment=64)
        var first = task * self.share
        sweep_panels[Self.mode, Self.activation, Self.has_residual, True](
            self.result.unsafe_offset(first * PANEL),
            self.layer.N,
            self.packed,
            self.M,
            self.layer,
            first,
            min(ceildiv(self.layer.N, PANEL), first + self.share),
            self.residual.unsafe_offset(first * PANEL),
            sums,
        )
        sums.unsafe_free()


def few_rows[
    mode: StaticString, activation: StaticString, has_residual: Bool
](result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, team: Team):
    var row_length = row_words[mode, multiplied[mode]()](layer.K) + GAP
    var packed = new_packed(1, row_length)
    pack_rows[mode](packed, a, a_row, M, layer.K)
    var panels = ceildiv(layer.N, PANEL)
    # Tasks are whole groups, and a few for each thread, which then reads on and on.
    var share = ceildiv(ceildiv(panels, 8 * team.threads), GROUP) * GROUP
    team.do(
        Panels[mode, activation, has_residual](result, packed, M, layer, residual, share), ceildiv(panels, share)
    )
    free_packed(packed)


def new_packed(tiles: Int, row_length: Int) -> Packed:
    """Room for the rows of so many tiles."""
    return Packed(
        unsafe_alloc[Int32](max(1, tiles * ROWS * row_length), alignment=64),
        row_length,
        unsafe_alloc[Scale](max(1, tiles * ROWS)),
    )


def free_packed(packed: Packed):
    packed.words.unsafe_free()
    packed.scales.unsafe_free()


@fieldwise_init
struct PackTasks[mode: StaticString](Work):
    """A tile of rows a task, as words."""

    var packed: Packed
    var a: Floats
    var a_row: Int
    var M: Int
    var K: Int

    def run(self, task: Int):
        var row = task * ROWS
        pack_rows[Self.mode](
            self.packed.row(row), self.a.unsafe_offset(row * self.a_row), self.a_row, min(ROWS, self.M - row), self.K
        )


def pack_rows[mode: StaticString](packed: Packed, a: Floats, a_row: Int, rows: Int, K: Int):
    """Rows of A as words, as many as whole tiles take: the last tile is filled up with the last row."""
    for r in range(rows - rows % ROWS + rows_in_tile(rows % ROWS)):
        packed.scales[unsafe_offset=r] = pack_row[mode, multiplied[mode]()](
            packed.words.unsafe_offset(r * packed.row_length), a.unsafe_offset(min(r, rows - 1) * a_row), K
        )


def sweep_panels[
    mode: StaticString, activation: StaticString, has_residual: Bool, has_bias: Bool
](
    result: Floats,
    result_row: Int,
    packed: Packed,
    rows: Int,
    layer: Layer,
    first: Int,
    stop: Int,
    residual: Floats,
    sums: Ints,
):
    """The output of few packed rows in the columns of some panels, each read from end to end.

    Args:
        result: The first of these columns.
        result_row: Distance between rows of the output, and of what is added to it.
        packed: The rows.
        rows: How many, at most ROWS.
        layer: Weights.
        first: The first panel.
        stop: The panel after the last one.
        residual: Added last where `has_residual`; may be the result.
        sums: Room for ROWS rows of GROUP panels.
    """
    comptime kind = multiplied[mode]()
    var K = ceildiv(layer.K, step[mode]())
    for panel in range(first, stop, GROUP):
        var group = min(GROUP, stop - panel)
        var b = layer.weight.unsafe_offset(panel * K * PANEL)
        sweep[mode, kind](
            rows, packed.words, packed.row_length, b, K * PANEL, group, K, sums, GROUP * PANEL, True
        )
        var column = (panel - first) * PANEL
        finish[mode, activation, has_residual, has_bias](
            sums,
            GROUP * PANEL,
            packed.scales,
            rows,
            min(group * PANEL, layer.N - panel * PANEL),
            layer,
            panel * PANEL,
            result.unsafe_offset(column),
            result_row,
            residual.unsafe_offset(column),
        )


def block_panels[
    mode: StaticString, activation: StaticString, has_residual: Bool, has_bias: Bool
](
    result: Floats,
    result_row: Int,
    packed: Packed,
    rows: Int,
    layer: Layer,
    first: Int,
    stop: Int,
    residual: Floats,
    wide: Ints,
    sums: Ints,
):
    """`sweep_panels` for many rows: a part of a panel at a time lies in the first cache.

    Args:
        result: The first of these columns.
        result_row: Distance between rows of the output, and of what is added to it.
        packed: The rows.
        rows: How many.
        layer: Weights.
        first: The first panel.
        stop: The panel after the last one.
        residual: Added last where `has_residual`; may be the result.
        wide: Room for K_BLOCK rows of a panel.
        sums: Room for a panel of as many rows as whole tiles take.
    """
    for panel in range(first, stop):
        multiply[mode](layer, packed, rows, panel, wide, sums)
        var column = (panel - first) * PANEL
        finish[mode, activation, has_residual, has_bias](
            sums,
            PANEL,
            packed.scales,
            rows,
            min(PANEL, layer.N - panel * PANEL),
            layer,
            panel * PANEL,
            result.unsafe_offset(column),
            result_row,
            residual.unsafe_offset(column),
        )


@always_inline
def multiply[
    mode: StaticString
](layer: Layer, packed: Packed, rows: Int, panel: Int, wide: Ints, sums: Ints):
    """sums (rows, PANEL) = packed rows @ a panel, see `block_panels`."""
    comptime kind = multiplied[mode]()
    comptime P = parts[mode, kind]()
    var K = ceildiv(layer.K, step[mode]())
    for k in range(0, K, K_BLOCK // P):
        var depth = min(K_BLOCK // P, K - k)
        var b = layer.weight.unsafe_offset((panel * K + k) * PANEL)
        comptime if mode != kind:
            widen_panel[mode, kind](wide, b, depth)
            b = wide
        var a = packed.words.unsafe_offset(k * P)
        var whole = rows - rows % ROWS
        for r in range(0, whole, ROWS):
            tile[kind, kind, ROWS, 1](
                a.unsafe_offset(r * packed.row_length),
                packed.row_length,
                b,
                0,
                depth * P,
                sums.unsafe_offset(r * PANEL),
                PANEL,
                k == 0,
            )
        if whole < rows:
            tile_rows[kind, kind](
                rows - whole,
                a.unsafe_offset(whole * packed.row_length),
                packed.row_length,
                b,
                depth * P,
                sums.unsafe_offset(whole * PANEL),
                PANEL,
                k == 0,
            )


@fieldwise_init
struct Blocks[mode: StaticString, activation: StaticString, has_residual: Bool](Work):
    """A block of rows by all panels a task, which packs them; or all packed rows by some of the panels."""

    var result: Floats
    var packed: Packed
    var a: Floats
    var a_row: Int
    var layer: Layer
    var residual: Floats
    var M: Int
    var block: Int  # rows
    var by_rows: Bool
    var tasks: Int

    def run(self, task: Int):
        var sums = unsafe_alloc[Int32](self.block * PANEL, alignment=64)
        var wide = unsafe_alloc[Int32](K_BLOCK * PANEL, alignment=64)
        var panels = ceildiv(self.layer.N, PANEL)
        if self.by_rows:
            var row = task * self.block
            var rows = min(self.block, self.M - row)
            var packed = new_packed(self.block // ROWS, self.packed.row_length)
            pack_rows[Self.mode](packed, self.a.unsafe_offset(row * self.a_row), self.a_row, rows, self.layer.K)
            self._finish(row, rows, packed, 0, panels, wide, sums)
            free_packed(packed)
        else:
            for row in range(0, self.M, self.block):
                self._finish(
                    row,
                    min(self.block, self.M - row),
                    self.packed.row(row),
                    panels * task // self.tasks,
                    panels * (task + 1) // self.tasks,
                    wide,
                    sums,
                )
        wide.unsafe_free()
        sums.unsafe_free()

    @always_inline
    def _finish(self, row: Int, rows: Int, packed: Packed, first: Int, stop: Int, wide: Ints, sums: Ints):
        """The output of packed rows from `row` on, in the columns of some panels."""
        var place = row * self.layer.N + first * PANEL
        block_panels[Self.mode, Self.activation, Self.has_residual, True](
            self.result.unsafe_offset(place),
            self.layer.N,
            packed,
            rows,
            self.layer,
            first,
            stop,
            self.residual.unsafe_offset(place),
            wide,
            sums,
        )


def many_rows[
    mode: StaticString, activation: StaticString, has_residual: Bool
](result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, team: Team):
    var row_length = row_words[mode, multiplied[mode]()](layer.K) + GAP
    var block = max(1, min(BLOCK_ROWS, BLOCK_WORDS // row_length) // ROWS) * ROWS
    var blocks = ceildiv(M, block)
    # Enough rows to go round: a task takes some and reads all weights. Else all are packed first,
    # and a task takes some of the columns.
    var by_rows = blocks >= 4 * team.threads
    var tasks = blocks if by_rows else min(ceildiv(layer.N, PANEL), 4 * team.threads)
    var tiles = 0 if by_rows else ceildiv(M, ROWS)
    var packed = new_packed(tiles, row_length)
    team.do(PackTasks[mode](packed, a, a_row, M, layer.K), tiles)
    team.do(
        Blocks[mode, activation, has_residual](
            result, packed, a, a_row, layer, residual, M, block, by_rows, tasks
        ),
        tasks,
    )
    free_packed(packed)
