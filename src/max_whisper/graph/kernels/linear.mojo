"""Linear layers, C = epilogue(A @ W + bias), in each precision; A and C are float32.

The rows of A become words of the precision first: as they are, rounded to bfloat16, or quantised
to eight bits with a scale of their own. Few rows (a decoding step) read the weights once and are
bound by memory: panels are divided among the threads and several go through the registers
together. Many rows (the encoder) are blocked: a block of A meets every panel while it lies in
the second-level cache.
"""

from max.algorithm import sync_parallelize
from std.math import erf
from std.memory import bitcast
from std.memory.alloc import unsafe_alloc

from .tile import (
    F32,
    Floats,
    Ints,
    PANEL,
    ROWS,
    WIDTH,
    Vec,
    Words,
    bfloat16_pair,
    ceildiv,
    floats,
    rows_in_tile,
    step,
    tile,
    tile_rows,
)

comptime K_BLOCK = 512  # words of a row that a tile takes at once: they stay in the first-level cache
comptime BLOCK_TILES = 8  # row tiles packed at once, at most
comptime BLOCK_WORDS = 128 * 1024  # of packed A: half of a common second-level cache
comptime GAP = 16  # words between packed rows, so that they fall into different cache sets
comptime ZERO = 128  # what int8 activations are shifted by, to be unsigned


@fieldwise_init
struct Layer(ImplicitlyCopyable, Movable):
    """A packed linear layer.

    Fields:
        weight: Panels (ceil(N / 32), words, 32).
        epilogue: Rows of ceil(N / 32) * 32: bias; in int8 also each column's scale and, as
            int32, its sum times ZERO.
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
def pack_row[mode: StaticString](packed: Ints, x: Floats, K: Int) -> F32:
    """One row of A as words; returns its scale (1 but for int8)."""
    comptime if mode == "int8":
        return quantise_row(packed.unsafe_bitcast[UInt8](), x, K)
    comptime if mode == "bfloat16":
        var k = 0
        while k + 2 * WIDTH <= K:
            var halves = x.unsafe_load[width=2 * WIDTH](k).deinterleave()
            packed.unsafe_store(
                k // 2, bfloat16_pair[WIDTH](rebind[Vec](halves[0]), rebind[Vec](halves[1]))
            )
            k += 2 * WIDTH
        while k < K:
            var high = x[unsafe_offset=k + 1] if k + 1 < K else F32(0)
            packed[unsafe_offset=k // 2] = bfloat16_pair[1](x[unsafe_offset=k], high)
            k += 2
        return 1
    for k in range(K):
        floats(packed)[unsafe_offset=k] = x[unsafe_offset=k]
    return 1


@always_inline
def quantise_row(packed: Pointer[UInt8, MutUntrackedOrigin], x: Floats, K: Int) -> F32:
    comptime LANES = 4 * WIDTH
    var most = SIMD[DType.float32, LANES](0)
    var whole = K - K % LANES
    for k in range(0, whole, LANES):
        most = max(most, abs(x.unsafe_load[width=LANES](k)))
    var top = most.reduce_max()
    for k in range(whole, K):
        top = max(top, abs(x[unsafe_offset=k]))
    var inverse = 127 / top if top > 0 else F32(0)
    # Adding half and cutting off rounds, as all values are positive once shifted.
    comptime shift = F32(ZERO) + 0.5
    for k in range(0, whole, LANES):
        var q = x.unsafe_load[width=LANES](k).fma(inverse, SIMD[DType.float32, LANES](shift))
        packed.unsafe_store(k, q.cast[DType.int32]().cast[DType.uint8]())
    for k in range(whole, K):
        packed[unsafe_offset=k] = x[unsafe_offset=k].fma(inverse, shift).cast[DType.int32]().cast[DType.uint8]()
    for k in range(K, ceildiv(K, 4) * 4):
        packed[unsafe_offset=k] = ZERO
    return top / 127


@always_inline
def finish[
    mode: StaticString, activation: StaticString, has_residual: Bool
](
    c: Ints,
    c_row: Int,
    scales: Floats,
    rows: Int,
    columns: Int,
    layer: Layer,
    n: Int,
    result: Floats,
    residual: Floats,
):
    """Moves finished sums of columns from n on to the output: scales, bias, activation, residual."""
    var padded = ceildiv(layer.N, PANEL) * PANEL
    var bias = layer.epilogue.unsafe_offset(n)
    for r in range(rows):
        for i in range(0, columns, WIDTH):
            var x: Vec
            comptime if mode == "int8":
                var sums = c.unsafe_load[width=WIDTH](r * c_row + i)
                var offset = bias.unsafe_offset(2 * padded).unsafe_bitcast[Int32]()
                x = (sums - offset.unsafe_load[width=WIDTH](i)).cast[DType.float32]()
                x *= bias.unsafe_load[width=WIDTH](padded + i) * Vec(scales[unsafe_offset=r])
            else:
                x = floats(c).unsafe_load[width=WIDTH](r * c_row + i)
            x += bias.unsafe_load[width=WIDTH](i)
            comptime if activation == "gelu":
                x = gelu(x)
            if i + WIDTH <= columns:
                comptime if has_residual:
                    x += residual.unsafe_load[width=WIDTH](r * layer.N + i)
                result.unsafe_store(r * layer.N + i, x)
            else:
                for lane in range(columns - i):
                    var y = x[lane]
                    comptime if has_residual:
                        y += residual[unsafe_offset=r * layer.N + i + lane]
                    result[unsafe_offset=r * layer.N + i + lane] = y


def linear[
    mode: StaticString, activation: StaticString, has_residual: Bool
](
    result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, threads: Int
) raises:
    """result (M, N) = epilogue(A (M, K) @ W + bias).

    Args:
        result: (M, N).
        a: Rows `a_row` apart; they may overlap, which is how a convolution is read.
        a_row: Distance between rows of A.
        layer: Weights.
        residual: (M, N), added last where `has_residual`.
        M: Rows.
        threads: How many workers share the panels or the rows.
    """
    if M <= ROWS:
        few_rows[mode, activation, has_residual](result, a, a_row, layer, residual, M, threads)
    else:
        many_rows[mode, activation, has_residual](result, a, a_row, layer, residual, M, threads)


def few_rows[
    mode: StaticString, activation: StaticString, has_residual: Bool
](
    result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, threads: Int
) raises:
    comptime GROUP = 4  # panels that one or two rows take through the registers together
    var K = ceildiv(layer.K, step[mode]())
    var panels = ceildiv(layer.N, PANEL)
    var padded = rows_in_tile(M)
    # A parallel region costs some ten microseconds, as long as a worker takes for this many bytes.
    var workers = max(1, min(threads, panels * K * PANEL * 4 // 163840))

    def worker(t: Int) raises {imm}:
        var sums = unsafe_alloc[Int32](ROWS * GROUP * PANEL, alignment=64)
        var packed = unsafe_alloc[Int32](padded * (K + GAP), alignment=64)
        var scales = unsafe_alloc[F32](ROWS)
        for r in range(padded):
            scales[unsafe_offset=r] = pack_row[mode](
                packed.unsafe_offset(r * (K + GAP)), a.unsafe_offset(min(r, M - 1) * a_row), layer.K
            )
        var panel = panels * t // workers
        var stop = panels * (t + 1) // workers
        while panel < stop:
            var group = GROUP if M <= 2 and panel + GROUP <= stop else 1
            var b = layer.weight.unsafe_offset(panel * K * PANEL)
            comptime c_row = GROUP * PANEL
            if group == 1:
                tile_rows[mode, 1](M, packed, K + GAP, 1, b, 0, K, sums, c_row)
            elif M == 1:
                tile[mode, 1, GROUP](packed, K + GAP, 1, b, K * PANEL, K, sums, c_row, True)
            else:
                tile[mode, 2, GROUP](packed, K + GAP, 1, b, K * PANEL, K, sums, c_row, True)
            var n = panel * PANEL
            finish[mode, activation, has_residual](
                sums,
                c_row,
                scales,
                M,
                min(group * PANEL, layer.N - n),
                layer,
                n,
                result.unsafe_offset(n),
                residual.unsafe_offset(n),
            )
            panel += group
        scales.unsafe_free()
        packed.unsafe_free()
        sums.unsafe_free()

    sync_parallelize(worker, workers)


def many_rows[
    mode: StaticString, activation: StaticString, has_residual: Bool
](
    result: Floats, a: Floats, a_row: Int, layer: Layer, residual: Floats, M: Int, threads: Int
) raises:
    var K = ceildiv(layer.K, step[mode]())
    var panels = ceildiv(layer.N, PANEL)
    var tiles = ceildiv(M, ROWS)
    var row_words = K + GAP
    var block = max(1, min(BLOCK_TILES, BLOCK_WORDS // (ROWS * row_words)))
    # Enough rows to go round: each worker takes its own and reads all weights. Else each packs
    # all rows and takes its own columns.
    var by_rows = tiles >= BLOCK_TILES * threads

    def worker(t: Int) raises {imm}:
        var packed = unsafe_alloc[Int32](block * ROWS * row_words, alignment=64)
        var sums = unsafe_alloc[Int32](block * ROWS * PANEL, alignment=64)
        var scales = unsafe_alloc[F32](block * ROWS)
        var start = tiles * t // threads if by_rows else 0
        var tile_stop = tiles * (t + 1) // threads if by_rows else tiles
        var panel_start = 0 if by_rows else panels * t // threads
        var panel_stop = panels if by_rows else panels * (t + 1) // threads
        while start < tile_stop:
            var count = min(block, tile_stop - start)
            for r in range(count * ROWS):
                scales[unsafe_offset=r] = pack_row[mode](
                    packed.unsafe_offset(r * row_words),
                    a.unsafe_offset(min(start * ROWS + r, M - 1) * a_row),
                    layer.K,
                )
            for panel in range(panel_start, panel_stop):
                var n = panel * PANEL
                for k in range(0, K, K_BLOCK):
                    for i in range(count):
                        tile[mode, ROWS, 1](
                            packed.unsafe_offset(i * ROWS * row_words + k),
                            row_words,
                            1,
                            layer.weight.unsafe_offset((panel * K + k) * PANEL),
                            0,
                            min(K_BLOCK, K - k),
                            sums.unsafe_offset(i * ROWS * PANEL),
                            PANEL,
                            k == 0,
                        )
                var row = start * ROWS
                finish[mode, activation, has_residual](
                    sums,
                    PANEL,
                    scales,
                    min(count * ROWS, M - row),
                    min(PANEL, layer.N - n),
                    layer,
                    n,
                    result.unsafe_offset(row * layer.N + n),
                    residual.unsafe_offset(row * layer.N + n),
                )
            start += count
        scales.unsafe_free()
        sums.unsafe_free()
        packed.unsafe_free()

    sync_parallelize(worker, threads)
