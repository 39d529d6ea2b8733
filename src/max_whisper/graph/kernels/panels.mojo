"""Packed rows by the panels of a layer, on one thread.

Few rows (a decoding step) read each panel once, from end to end. Of many rows (the encoder) a block
lies in the second-level cache, or of deep layers in the last one, while a part of a panel at a time, widened once if the processor wants
it wider, is in the first.
"""

from std.memory.alloc import unsafe_alloc

from .epilogue import Layer, Scales, finish
from .pack import Scale, pack_row
from .tile import (
    Floats,
    Ints,
    PANEL,
    ROWS,
    ceildiv,
    multiplied,
    parts,
    rows_in_tile,
    step,
    sweep,
    tile,
    tile_rows,
    widen_panel,
    widened_to,
)

comptime K_BLOCK = 128  # words of a row that a tile takes at once: they stay in the first-level cache
comptime GROUP = 4  # panels of few rows that are finished together
comptime GAP = 16  # words between packed rows, so that they fall into different cache sets


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
        multiply[mode](layer, packed, rows, panel, 0, ceildiv(layer.K, step[mode]()), wide, sums)
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
](layer: Layer, packed: Packed, rows: Int, panel: Int, begin: Int, stop: Int, wide: Ints, sums: Ints):
    """sums (rows, PANEL) = packed rows @ a panel's words from `begin` to `stop` - 1, see `block_panels`."""
    comptime kind = multiplied[mode]()
    comptime wide_mode = widened_to[mode, kind]()
    comptime P = parts[mode, kind]()
    var K = ceildiv(layer.K, step[mode]())
    for k in range(begin, stop, K_BLOCK // P):
        var depth = min(K_BLOCK // P, stop - k)
        var b = layer.weight.unsafe_offset((panel * K + k) * PANEL)
        comptime if P > 1:
            widen_panel[mode, kind](wide, b, depth)
            b = wide
        var a = packed.words.unsafe_offset((k - begin) * P)
        var whole = rows - rows % ROWS
        for r in range(0, whole, ROWS):
            tile[wide_mode, kind, ROWS, 1](
                a.unsafe_offset(r * packed.row_length),
                packed.row_length,
                b,
                0,
                depth * P,
                sums.unsafe_offset(r * PANEL),
                PANEL,
                k == begin,
            )
        if whole < rows:
            tile_rows[wide_mode, kind](
                rows - whole,
                a.unsafe_offset(whole * packed.row_length),
                packed.row_length,
                b,
                depth * P,
                sums.unsafe_offset(whole * PANEL),
                PANEL,
                k == begin,
            )
