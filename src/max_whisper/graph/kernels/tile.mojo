"""The register tile that every matrix product here is made of, in each precision.

A weight matrix (K, N) is stored as panels of 32 columns, so that a tile reads it in one sweep.
The unit is a 32-bit word, which holds `STEP` neighbours along K: one float32, two bfloat16 or
four int8; panel p is (K / STEP, 32) words of columns 32p to 32p+31. The same layout holds the
keys of attention (K = head size, columns = positions) and its values (K = positions, columns =
head size).

Each output is one chain of additions in the order of k, whatever the number of rows in the tile:
a row's result never depends on which rows were computed beside it.
"""

from std.collections import Array
from std.memory import bitcast
from std.sys.info import CompilationTarget, simd_width_of
from std.sys.intrinsics import llvm_intrinsic

comptime F32 = Scalar[DType.float32]
comptime Floats = Pointer[F32, MutUntrackedOrigin]
comptime Ints = Pointer[Int32, MutUntrackedOrigin]  # also words, whatever they hold
comptime WIDTH = simd_width_of[DType.float32]()
comptime Vec = SIMD[DType.float32, WIDTH]
comptime Words = SIMD[DType.int32, WIDTH]

comptime PANEL = 32  # columns in a panel; part of the format of packed weights on disk
comptime VECS = 2 if WIDTH >= 8 else 4  # vectors of columns in one register tile
comptime COLS = VECS * WIDTH
# Rows in the largest tile: accumulators, one row of the panel and a broadcast fill the registers.
comptime ROWS = 12 if CompilationTarget.has_avx512f() else 6


@always_inline
def step[mode: StaticString]() -> Int:
    """How many neighbours along K a word holds."""
    comptime if mode == "int8":
        return 4
    comptime if mode == "bfloat16":
        return 2
    return 1


@always_inline
def ceildiv(a: Int, b: Int) -> Int:
    return (a + b - 1) // b


@always_inline
def dot[mode: StaticString](sum: Words, a: Words, b: Words) -> Words:
    """Adds the products of each lane's neighbours to `sum` (int32 for int8, else float32 bits).

    In int8, `a` is unsigned and `b` signed, as the instruction wants them.
    """
    comptime if mode == "float32":
        return bitcast[DType.int32, WIDTH](
            bitcast[DType.float32, WIDTH](a).fma(
                bitcast[DType.float32, WIDTH](b), bitcast[DType.float32, WIDTH](sum)
            )
        )
    comptime if mode == "bfloat16":
        return dot_bfloat16(sum, a, b)
    return dot_int8(sum, a, b)


@always_inline
def dot_bfloat16(sum: Words, a: Words, b: Words) -> Words:
    comptime if has_feature["avx512bf16"]() and WIDTH == 16:
        return bitcast[DType.int32, WIDTH](
            llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", Vec](
                bitcast[DType.float32, WIDTH](sum),
                bitcast[DType.bfloat16, 2 * WIDTH](a),
                bitcast[DType.bfloat16, 2 * WIDTH](b),
            )
        )
    var low = bitcast[DType.float32, WIDTH](a << 16).fma(
        bitcast[DType.float32, WIDTH](b << 16), bitcast[DType.float32, WIDTH](sum)
    )
    var mask = Words(-65536)
    return bitcast[DType.int32, WIDTH](
        bitcast[DType.float32, WIDTH](a & mask).fma(bitcast[DType.float32, WIDTH](b & mask), low)
    )


@always_inline
def dot_int8(sum: Words, a: Words, b: Words) -> Words:
    comptime if CompilationTarget.has_vnni() and WIDTH == 16:
        return llvm_intrinsic["llvm.x86.avx512.vpdpbusd.512", Words](
            sum, bitcast[DType.uint8, 4 * WIDTH](a), bitcast[DType.int8, 4 * WIDTH](b)
        )
    var total = sum
    comptime for i in range(4):
        total += ((a >> Words(8 * i)) & 255) * ((b << Words(24 - 8 * i)) >> 24)
    return total


@always_inline
def has_feature[name: StaticString]() -> Bool:
    return CompilationTarget._has_feature[name]()


@always_inline
def tile[
    mode: StaticString, MR: Int, NP: Int
](
    a: Ints,
    a_row: Int,
    a_k: Int,
    b: Ints,
    b_panel: Int,
    K: Int,
    c: Ints,
    c_row: Int,
    first: Bool,
):
    """C = A @ B for MR rows and NP panels (C += A @ B unless `first`); all sizes in words.

    Args:
        a: Element (r, k) is at `r * a_row + k * a_k`.
        a_row: Distance between rows of A.
        a_k: Distance between columns of A.
        b: The first panel, (K, PANEL).
        b_panel: Distance between panels of B.
        K: The inner dimension in words.
        c: Element (r, n) is at `r * c_row + n`, n below NP * PANEL; int32 or float32 bits.
        c_row: Distance between rows of C.
        first: Whether C is overwritten rather than added to.
    """
    comptime for half in range(PANEL // COLS):
        comptime offset = half * COLS
        var acc = Array[Words, MR * NP * VECS](fill=Words(0))
        if not first:
            comptime for r in range(MR):
                comptime for p in range(NP):
                    comptime for v in range(VECS):
                        acc[(r * NP + p) * VECS + v] = c.unsafe_load[width=WIDTH](
                            r * c_row + p * PANEL + offset + v * WIDTH
                        )
        for k in range(K):
            comptime for p in range(NP):
                var row = Array[Words, VECS](fill=Words(0))
                comptime for v in range(VECS):
                    row[v] = b.unsafe_load[width=WIDTH](p * b_panel + k * PANEL + offset + v * WIDTH)
                comptime for r in range(MR):
                    var x = Words(a[unsafe_offset=r * a_row + k * a_k])
                    comptime for v in range(VECS):
                        comptime i = (r * NP + p) * VECS + v
                        acc[i] = dot[mode](acc[i], x, row[v])
        comptime for r in range(MR):
            comptime for p in range(NP):
                comptime for v in range(VECS):
                    c.unsafe_store(
                        r * c_row + p * PANEL + offset + v * WIDTH, acc[(r * NP + p) * VECS + v]
                    )


@always_inline
def rows_in_tile(rows: Int) -> Int:
    """The number of rows of the smallest tile that holds `rows` (at most ROWS) of them."""
    if rows <= 2:
        return rows
    if rows <= 4:
        return 4
    return 6 if rows <= 6 else ROWS


@always_inline
def tile_rows[
    mode: StaticString, NP: Int
](
    rows: Int,
    a: Ints,
    a_row: Int,
    a_k: Int,
    b: Ints,
    b_panel: Int,
    K: Int,
    c: Ints,
    c_row: Int,
):
    """`tile` for a number of rows known at run time; A and C have `rows_in_tile(rows)` rows."""
    if rows == 1:
        tile[mode, 1, NP](a, a_row, a_k, b, b_panel, K, c, c_row, True)
    elif rows == 2:
        tile[mode, 2, NP](a, a_row, a_k, b, b_panel, K, c, c_row, True)
    elif rows <= 4:
        tile[mode, 4, NP](a, a_row, a_k, b, b_panel, K, c, c_row, True)
    elif rows <= 6:
        tile[mode, 6, NP](a, a_row, a_k, b, b_panel, K, c, c_row, True)
    else:
        tile[mode, ROWS, NP](a, a_row, a_k, b, b_panel, K, c, c_row, True)


@always_inline
def words(pointer: Floats) -> Ints:
    """The same memory as 32-bit words."""
    return pointer.unsafe_bitcast[Int32]()


@always_inline
def floats(pointer: Ints) -> Floats:
    """The same memory as float32."""
    return pointer.unsafe_bitcast[F32]()


@always_inline
def bfloat16_pair[width: Int](low: SIMD[DType.float32, width], high: SIMD[DType.float32, width]) -> SIMD[DType.int32, width]:
    """Two float32 rounded to the nearest bfloat16 (ties to even) in one word."""
    return (rounded_bits(low) >> 16) & 65535 | (rounded_bits(high) & -65536)


@always_inline
def rounded_bits[width: Int](x: SIMD[DType.float32, width]) -> SIMD[DType.int32, width]:
    var bits = bitcast[DType.int32, width](x)
    return bits + 32767 + ((bits >> 16) & 1)
