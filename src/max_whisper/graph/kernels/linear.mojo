"""Linear layers, C = epilogue(A @ W + bias), in each precision; A and C are float32.

The rows of A become words of the precision first. Few rows (a decoding step) read the weights
once and are bound by memory: the panels are divided into tasks. Many rows (the encoder) are
divided into blocks, or the panels are, where there are too few blocks to go round.
"""

from std.memory.alloc import unsafe_alloc

from .epilogue import Layer
from .pack import row_words
from .panels import GAP, GROUP, K_BLOCK, Packed, block_panels, free_packed, new_packed, pack_rows, sweep_panels
from .team import Team, Work
from .tile import Floats, Ints, PANEL, ROWS, ceildiv, multiplied

comptime BLOCK_ROWS = 132  # rows of A packed at once, at most
comptime BLOCK_WORDS = 256 * 1024


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


def even_share(tiles: Int, most: Int, threads: Int) -> Int:
    """Of how many tiles a block should be, up to `most`, so that no thread works on while others have done."""
    var best = most
    var least = Int.MAX
    for size in range(most, most // 2, -1):
        var longest = ceildiv(ceildiv(tiles, size), threads) * size
        if longest < least:
            least = longest
            best = size
    return best


def many_rows[
    mode: StaticString, activation: StaticString, has_residual: Bool
](result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, team: Team):
    var row_length = row_words[mode, multiplied[mode]()](layer.K) + GAP
    var most = max(1, min(BLOCK_ROWS, BLOCK_WORDS // row_length) // ROWS)
    var block = even_share(ceildiv(M, ROWS), most, team.threads) * ROWS
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
