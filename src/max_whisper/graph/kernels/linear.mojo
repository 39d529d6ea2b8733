"""Linear layers, C = epilogue(A @ W + bias), in each precision; A and C are float32.

The rows of A become words of the precision first. Few rows (a decoding step) read the weights
once and are bound by memory: the panels are divided into tasks. Many rows (the encoder) are
blocked: a block of A lies in the second-level cache while each panel, widened once if the
processor wants it wider, passes through the first.
"""

from std.math import erf
from std.memory.alloc import unsafe_alloc

from .pack import Scale, pack_row, row_words
from .team import Team, Work
from .tile import (
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
    rows_in_tile,
    step,
    sweep,
    tile,
    tile_rows,
    widen_panel,
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
        epilogue: Rows of ceil(N / 32) * 32: bias; in int8 also each column's scale and, as
            int32, its sum.
        N: Columns.
        K: Inner dimension.
    """

    var weight: Ints
    var epilogue: Floats
    var N: Int
    var K: Int


@always_inline
def gelu(x: Vec) -> Vec:
    """The exact, erf form, as openai-whisper's."""
    return x * Vec(0.5) * (Vec(1) + erf(x * Vec(0.7071067811865476)))


@always_inline
def finish[
    mode: StaticString, activation: StaticString, has_residual: Bool
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

    Rows of the output, and of what is added to it, are `result_row` apart.
    """
    var padded = ceildiv(layer.N, PANEL) * PANEL
    var bias = layer.epilogue.unsafe_offset(n)
    for r in range(rows):
        for i in range(0, columns, WIDTH):
            var x: Vec
            comptime if mode == "int8":
                var sums = c.unsafe_load[width=WIDTH](r * c_row + i)
                comptime if multiplied[mode]() == "int8":
                    var columns_sum = bias.unsafe_offset(2 * padded).unsafe_bitcast[Int32]()
                    sums -= columns_sum.unsafe_load[width=WIDTH](i) * Words(scales[unsafe_offset=r].zero)
                x = sums.cast[DType.float32]()
                x *= bias.unsafe_load[width=WIDTH](padded + i) * Vec(scales[unsafe_offset=r].step)
            else:
                x = floats(c).unsafe_load[width=WIDTH](r * c_row + i)
            x += bias.unsafe_load[width=WIDTH](i)
            comptime if activation == "gelu":
                x = gelu(x)
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
    var packed: Ints
    var row_length: Int
    var scales: Scales
    var M: Int
    var layer: Layer
    var residual: Floats
    var share: Int  # panels of a task

    def run(self, task: Int):
        comptime kind = multiplied[Self.mode]()
        var K = ceildiv(self.layer.K, step[Self.mode]())
        var sums = unsafe_alloc[Int32](ROWS * GROUP * PANEL, alignment=64)
        var stop = min(ceildiv(self.layer.N, PANEL), (task + 1) * self.share)
        for panel in range(task * self.share, stop, GROUP):
            var group = min(GROUP, stop - panel)
            var b = self.layer.weight.unsafe_offset(panel * K * PANEL)
            sweep[Self.mode, kind](
                self.M, self.packed, self.row_length, b, K * PANEL, group, K, sums, GROUP * PANEL, True
            )
            var n = panel * PANEL
            finish[Self.mode, Self.activation, Self.has_residual](
                sums,
                GROUP * PANEL,
                self.scales,
                self.M,
                min(group * PANEL, self.layer.N - n),
                self.layer,
                n,
                self.result.unsafe_offset(n),
                self.layer.N,
                self.residual.unsafe_offset(n),
            )
        sums.unsafe_free()


def few_rows[
    mode: StaticString, activation: StaticString, has_residual: Bool
](result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, team: Team):
    comptime kind = multiplied[mode]()
    var row_length = row_words[mode, kind](layer.K) + GAP
    var packed = unsafe_alloc[Int32](ROWS * row_length, alignment=64)
    var scales = unsafe_alloc[Scale](ROWS)
    for r in range(rows_in_tile(M)):
        scales[unsafe_offset=r] = pack_row[mode, kind](
            packed.unsafe_offset(r * row_length), a.unsafe_offset(min(r, M - 1) * a_row), layer.K
        )
    var panels = ceildiv(layer.N, PANEL)
    # Tasks are whole groups, and a few for each thread, which then reads on and on.
    var share = ceildiv(ceildiv(panels, 8 * team.threads), GROUP) * GROUP
    team.do(
        Panels[mode, activation, has_residual](result, packed, row_length, scales, M, layer, residual, share),
        ceildiv(panels, share),
    )
    scales.unsafe_free()
    packed.unsafe_free()


@fieldwise_init
struct PackTasks[mode: StaticString](Work):
    """A tile of rows a task, as words; the last one is filled up with the last row."""

    var packed: Ints
    var row_length: Int
    var scales: Scales
    var a: Floats
    var a_row: Int
    var M: Int
    var K: Int

    def run(self, task: Int):
        var row = task * ROWS
        pack_rows[Self.mode](
            self.packed.unsafe_offset(row * self.row_length),
            self.row_length,
            self.scales.unsafe_offset(row),
            self.a.unsafe_offset(row * self.a_row),
            self.a_row,
            min(ROWS, self.M - row),
            self.K,
        )


def pack_rows[
    mode: StaticString
](packed: Ints, row_length: Int, scales: Scales, a: Floats, a_row: Int, rows: Int, K: Int):
    """Rows of A as words, `row_length` apart, as many as whole tiles take."""
    for r in range(rows - rows % ROWS + rows_in_tile(rows % ROWS)):
        scales[unsafe_offset=r] = pack_row[mode, multiplied[mode]()](
            packed.unsafe_offset(r * row_length), a.unsafe_offset(min(r, rows - 1) * a_row), K
        )


@always_inline
def multiply[
    mode: StaticString
](layer: Layer, packed: Ints, row_length: Int, rows: Int, panel: Int, wide: Ints, sums: Ints):
    """sums (rows, PANEL) = packed rows @ a panel, of which a part at a time lies in the first cache.

    Args:
        layer: Weights.
        packed: From `pack_rows`.
        row_length: Distance between them.
        rows: How many.
        panel: Which.
        wide: Room for K_BLOCK rows of a panel.
        sums: (rows in whole tiles, PANEL).
    """
    comptime kind = multiplied[mode]()
    comptime P = parts[mode, kind]()
    var K = ceildiv(layer.K, step[mode]())
    for k in range(0, K, K_BLOCK // P):
        var depth = min(K_BLOCK // P, K - k)
        var b = layer.weight.unsafe_offset((panel * K + k) * PANEL)
        comptime if mode != kind:
            widen_panel[mode, kind](wide, b, depth)
            b = wide
        var whole = rows - rows % ROWS
        for r in range(0, whole, ROWS):
            tile[kind, kind, ROWS, 1](
                packed.unsafe_offset(r * row_length + k * P),
                row_length,
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
                packed.unsafe_offset(whole * row_length + k * P),
                row_length,
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
    var packed: Ints
    var scales: Scales
    var row_length: Int
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
            var packed = unsafe_alloc[Int32](self.block * self.row_length, alignment=64)
            var scales = unsafe_alloc[Scale](self.block)
            var a = self.a.unsafe_offset(row * self.a_row)
            pack_rows[Self.mode](packed, self.row_length, scales, a, self.a_row, rows, self.layer.K)
            self._finish(row, rows, packed, scales, 0, panels, wide, sums)
            scales.unsafe_free()
            packed.unsafe_free()
        else:
            for row in range(0, self.M, self.block):
                self._finish(
                    row,
                    min(self.block, self.M - row),
                    self.packed.unsafe_offset(row * self.row_length),
                    self.scales.unsafe_offset(row),
                    panels * task // self.tasks,
                    panels * (task + 1) // self.tasks,
                    wide,
                    sums,
                )
        wide.unsafe_free()
        sums.unsafe_free()

    @always_inline
    def _finish(
        self, row: Int, rows: Int, packed: Ints, scales: Scales, first: Int, last: Int, wide: Ints, sums: Ints
    ):
        """The output of packed rows from `row` on, in the columns of the panels `first` to `last` - 1."""
        for panel in range(first, last):
            multiply[Self.mode](self.layer, packed, self.row_length, rows, panel, wide, sums)
            var n = panel * PANEL
            finish[Self.mode, Self.activation, Self.has_residual](
                sums,
                PANEL,
                scales,
                rows,
                min(PANEL, self.layer.N - n),
                self.layer,
                n,
                self.result.unsafe_offset(row * self.layer.N + n),
                self.layer.N,
                self.residual.unsafe_offset(row * self.layer.N + n),
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
    var packed = unsafe_alloc[Int32](max(1, tiles * ROWS * row_length), alignment=64)
    var scales = unsafe_alloc[Scale](max(1, tiles * ROWS))
    team.do(PackTasks[mode](packed, row_length, scales, a, a_row, M, layer.K), tiles)
    team.do(
        Blocks[mode, activation, has_residual](
            result, packed, scales, row_length, a, a_row, layer, residual, M, block, by_rows, tasks
        ),
        tasks,
    )
    scales.unsafe_free()
    packed.unsafe_free()
