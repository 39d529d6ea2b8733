"""Linear layers: C = epilogue(A @ W + bias), float32.

Few rows (a decoding step) read the weights once and are bound by memory: panels are divided
among the threads and several go through the registers together. Many rows (the encoder) are
blocked: a block of A is packed once and meets every panel while it lies in the second-level
cache.
"""

from max.algorithm import sync_parallelize
from std.math import erf
from std.memory.alloc import unsafe_alloc

from .tile import COLS, F32, Floats, PANEL, ROWS, VECS, Vec, WIDTH, ceildiv, rows_in_tile, tile, tile_rows

comptime K_BLOCK = 512  # columns of A packed at once: ROWS * K_BLOCK floats stay in the first-level cache
comptime BLOCK_TILES = 8  # row tiles packed at once, at most
comptime BLOCK_FLOATS = 128 * 1024  # of packed A: half of a common second-level cache


@always_inline
def gelu(x: Vec) -> Vec:
    """The exact, erf form, as openai-whisper's."""
    return x * Vec(0.5) * (Vec(1) + erf(x * Vec(0.7071067811865476)))


@always_inline
def finish[
    activation: StaticString, has_residual: Bool
](
    c: Floats,
    c_row: Int,
    rows: Int,
    columns: Int,
    result: Floats,
    result_row: Int,
    bias: Floats,
    residual: Floats,
):
    """Moves finished sums to the output: bias, activation, residual. C and `out` may be the same."""
    for r in range(rows):
        for n in range(0, columns, WIDTH):
            var x = c.unsafe_load[width=WIDTH](r * c_row + n) + bias.unsafe_load[width=WIDTH](n)
            comptime if activation == "gelu":
                x = gelu(x)
            if n + WIDTH <= columns:
                comptime if has_residual:
                    x += residual.unsafe_load[width=WIDTH](r * result_row + n)
                result.unsafe_store(r * result_row + n, x)
            else:
                for i in range(columns - n):
                    var y = x[i]
                    comptime if has_residual:
                        y += residual[unsafe_offset=r * result_row + n + i]
                    result[unsafe_offset=r * result_row + n + i] = y


def linear[
    activation: StaticString, has_residual: Bool
](
    result: Floats,
    a: Floats,
    a_row: Int,
    weight: Floats,
    bias: Floats,
    residual: Floats,
    M: Int,
    N: Int,
    K: Int,
    threads: Int,
) raises:
    """out (M, N) = epilogue(A (M, K) @ W + bias).

    Args:
        result: (M, N), rows N apart.
        a: Rows `a_row` apart; they may overlap, which is how a convolution is read.
        a_row: Distance between rows of A.
        weight: Panels (ceil(N / 32), K, 32).
        bias: (ceil(N / 32) * 32,).
        residual: (M, N), added last where `has_residual`.
        M: Rows.
        N: Columns.
        K: Inner dimension.
        threads: How many workers share the panels or the rows.
    """
    if M <= ROWS:
        few_rows[activation, has_residual](result, a, a_row, weight, bias, residual, M, N, K, threads)
    else:
        many_rows[activation, has_residual](result, a, a_row, weight, bias, residual, M, N, K, threads)


def few_rows[
    activation: StaticString, has_residual: Bool
](
    result: Floats,
    a: Floats,
    a_row: Int,
    weight: Floats,
    bias: Floats,
    residual: Floats,
    M: Int,
    N: Int,
    K: Int,
    threads: Int,
) raises:
    comptime GROUP = 4  # panels that one row takes through the registers together
    var panels = ceildiv(N, PANEL)
    var padded = rows_in_tile(M)

    def worker(t: Int) raises {imm}:
        var sums = unsafe_alloc[F32](ROWS * GROUP * PANEL, alignment=64)
        var packed = unsafe_alloc[F32](padded * K, alignment=64)
        for r in range(padded):
            for k in range(K):
                packed[unsafe_offset=r * K + k] = a[unsafe_offset=min(r, M - 1) * a_row + k]
        var panel = panels * t // threads
        var stop = panels * (t + 1) // threads
        while panel < stop:
            var group = GROUP if M <= 2 and panel + GROUP <= stop else 1
            var b = weight.unsafe_offset(panel * K * PANEL)
            if group == 1:
                tile_rows[1](M, packed, K, 1, b, K * PANEL, K, sums, GROUP * PANEL, True)
            elif M == 1:
                tile[1, GROUP](packed, K, 1, b, K * PANEL, K, sums, GROUP * PANEL, True)
            else:
                tile[2, GROUP](packed, K, 1, b, K * PANEL, K, sums, GROUP * PANEL, True)
            var n = panel * PANEL
            finish[activation, has_residual](
                sums,
                GROUP * PANEL,
                M,
                min(group * PANEL, N - n),
                result.unsafe_offset(n),
                N,
                bias.unsafe_offset(n),
                residual.unsafe_offset(n),
            )
            panel += group
        packed.unsafe_free()
        sums.unsafe_free()

    sync_parallelize(worker, threads)


def many_rows[
    activation: StaticString, has_residual: Bool
](
    result: Floats,
    a: Floats,
    a_row: Int,
    weight: Floats,
    bias: Floats,
    residual: Floats,
    M: Int,
    N: Int,
    K: Int,
    threads: Int,
) raises:
    var panels = ceildiv(N, PANEL)
    var tiles = ceildiv(M, ROWS)
    var block = max(1, min(BLOCK_TILES, BLOCK_FLOATS // (ROWS * K)))
    # Enough rows to go round: each worker takes its own and reads all weights. Else each packs
    # all rows and takes its own columns.
    var by_rows = tiles >= BLOCK_TILES * threads

    def worker(t: Int) raises {imm}:
        var packed = unsafe_alloc[F32](block * ROWS * K, alignment=64)
        var sums = unsafe_alloc[F32](block * ROWS * PANEL, alignment=64)
        var tile_stop = tiles * (t + 1) // threads if by_rows else tiles
        var panel_start = 0 if by_rows else panels * t // threads
        var panel_stop = panels if by_rows else panels * (t + 1) // threads
        var start = tiles * t // threads if by_rows else 0
        while start < tile_stop:
            var count = min(block, tile_stop - start)
            for i in range(count):
                pack_rows(packed.unsafe_offset(i * ROWS * K), a, a_row, (start + i) * ROWS, M, K)
            for panel in range(panel_start, panel_stop):
                var n = panel * PANEL
                for k in range(0, K, K_BLOCK):
                    var depth = min(K_BLOCK, K - k)
                    for i in range(count):
                        tile[ROWS, 1](
                            packed.unsafe_offset(i * ROWS * K + k * ROWS),
                            1,
                            ROWS,
                            weight.unsafe_offset(panel * K * PANEL + k * PANEL),
                            0,
                            depth,
                            sums.unsafe_offset(i * ROWS * PANEL),
                            PANEL,
                            k == 0,
                        )
                for i in range(count):
                    var row = (start + i) * ROWS
                    finish[activation, has_residual](
                        sums.unsafe_offset(i * ROWS * PANEL),
                        PANEL,
                        min(ROWS, M - row),
                        min(PANEL, N - n),
                        result.unsafe_offset(row * N + n),
                        N,
                        bias.unsafe_offset(n),
                        residual.unsafe_offset(row * N + n),
                    )
            start += count
        sums.unsafe_free()
        packed.unsafe_free()

    sync_parallelize(worker, threads)


@always_inline
def pack_rows(
    packed: Floats, a: Floats, a_row: Int, row: Int, M: Int, K: Int
):
    """Packs ROWS rows of A as (K, ROWS); rows beyond M repeat the last one."""
    for r in range(ROWS):
        var source = a.unsafe_offset(min(row + r, M - 1) * a_row)
        for k in range(K):
            packed[unsafe_offset=k * ROWS + r] = source[unsafe_offset=k]
