"""The register tile that every matrix product here is made of.

A weight matrix (K, N) is stored as panels of 32 columns: panel p holds columns 32p to 32p+31 as
(K, 32), so that a tile reads it in one sweep. The same layout holds the keys (K = head size,
columns = positions) and the values (K = positions, columns = head size) of attention.

Each output is one chain of fused multiply-adds in the order of k, whatever the number of rows in
the tile: a row's result never depends on which rows were computed beside it.
"""

from std.collections import Array
from std.sys.info import CompilationTarget, simd_width_of

comptime F32 = Scalar[DType.float32]
comptime Floats = Pointer[F32, MutUntrackedOrigin]
comptime Ints = Pointer[Int32, MutUntrackedOrigin]
comptime WIDTH = simd_width_of[DType.float32]()
comptime Vec = SIMD[DType.float32, WIDTH]

comptime PANEL = 32  # columns in a panel; part of the format of packed weights on disk
comptime VECS = 2 if WIDTH >= 8 else 4  # vectors of columns in one register tile
comptime COLS = VECS * WIDTH
# Rows in the largest tile: accumulators, one row of the panel and a broadcast fill the registers.
comptime ROWS = 12 if CompilationTarget.has_avx512f() else 6


@always_inline
def ceildiv(a: Int, b: Int) -> Int:
    return (a + b - 1) // b


@always_inline
def tile[
    MR: Int, NP: Int
](
    a: Floats,
    a_row: Int,
    a_k: Int,
    b: Floats,
    b_panel: Int,
    K: Int,
    c: Floats,
    c_row: Int,
    first: Bool,
):
    """C = A @ B for MR rows and NP panels (C += A @ B unless `first`).

    Args:
        a: Element (r, k) is at `r * a_row + k * a_k`.
        a_row: Distance between rows of A.
        a_k: Distance between columns of A.
        b: The first panel, (K, PANEL).
        b_panel: Distance between panels of B.
        K: The inner dimension.
        c: Element (r, n) is at `r * c_row + n`, n below NP * PANEL.
        c_row: Distance between rows of C.
        first: Whether C is overwritten rather than added to.
    """
    comptime for half in range(PANEL // COLS):
        comptime offset = half * COLS
        var acc = Array[Vec, MR * NP * VECS](fill=Vec(0))
        if not first:
            comptime for r in range(MR):
                comptime for p in range(NP):
                    comptime for v in range(VECS):
                        acc[(r * NP + p) * VECS + v] = c.unsafe_load[width=WIDTH](
                            r * c_row + p * PANEL + offset + v * WIDTH
                        )
        for k in range(K):
            comptime for p in range(NP):
                var row = Array[Vec, VECS](fill=Vec(0))
                comptime for v in range(VECS):
                    row[v] = b.unsafe_load[width=WIDTH](p * b_panel + k * PANEL + offset + v * WIDTH)
                comptime for r in range(MR):
                    var x = Vec(a[unsafe_offset=r * a_row + k * a_k])
                    comptime for v in range(VECS):
                        comptime i = (r * NP + p) * VECS + v
                        acc[i] = x.fma(row[v], acc[i])
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
    NP: Int
](
    rows: Int,
    a: Floats,
    a_row: Int,
    a_k: Int,
    b: Floats,
    b_panel: Int,
    K: Int,
    c: Floats,
    c_row: Int,
    first: Bool,
):
    """`tile` for a number of rows known at run time; A and C have `rows_in_tile(rows)` rows."""
    if rows == 1:
        tile[1, NP](a, a_row, a_k, b, b_panel, K, c, c_row, first)
    elif rows == 2:
        tile[2, NP](a, a_row, a_k, b, b_panel, K, c, c_row, first)
    elif rows <= 4:
        tile[4, NP](a, a_row, a_k, b, b_panel, K, c, c_row, first)
    elif rows <= 6:
        tile[6, NP](a, a_row, a_k, b, b_panel, K, c, c_row, first)
    else:
        tile[ROWS, NP](a, a_row, a_k, b, b_panel, K, c, c_row, first)
