"""The register tile that every matrix product here is made of, in each precision.

A weight matrix (K, N) is stored as panels of 32 columns, so that a tile reads it in one sweep.
The unit is a 32-bit word, which holds `step` neighbours along K: one float32, two float16,
bfloat16 or int16, four int8 or eight int4; panel p is (K / step, 32) words of columns 32p to 32p+31.
The same layout holds the keys of attention (K = head size, columns = positions) and its values (K =
positions, columns = head size).

Words are multiplied as they are where the processor has an instruction for it, and widened on the
way otherwise: float16 to float32, bfloat16 to float32, int8 to int16. Words of int4 are always widened,
to bytes or to int16. They hold what is MIDDLE more than the number, so that none is negative and bytes are
had by a mask; what that adds to a row's sums of products is MIDDLE times the row's own sum. Words of
bounded int8 (`graph/precision.py`) are multiplied as they are by AVX2 too: it adds products of bytes up in
int16, which holds four of them then, one pair from each of two words. Of bytes that int4 was widened to
("small") it holds eight.

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

comptime LINE = 16  # words of a line of the cache
comptime PANEL = 32  # columns in a panel; part of the format of packed weights on disk
comptime Panel = SIMD[DType.float32, PANEL]  # several vectors on the way at once hide each other's latency
comptime WIDEST = 2 if WIDTH >= 8 else 4  # vectors of columns in the largest tile
# Rows in the largest tile: accumulators, one row of the panel and a broadcast fill the registers.
comptime ROWS = 12 if CompilationTarget.has_avx512f() else 6
comptime SUMS = 8  # vectors that one or two rows sum at once
comptime AHEAD = 1024  # words
comptime VNNI = CompilationTarget.has_vnni() and WIDTH >= 8
comptime VNNI_BITS = "512" if WIDTH == 16 else "256"  # as LLVM's names of its instructions end
comptime NEON_DOT = has_feature["dotprod"]() and WIDTH == 4
comptime JOINS = has_feature["avx2"]() and WIDTH == 8 and not VNNI  # whether int16 sums of bytes are had
comptime MIDDLE = Int32(8)  # what a weight of 0 is in int4
comptime BOUND = F32(128)  # of four bounded int8 of one sign: 255 times as much is all that an int16 holds
comptime BYTES = VNNI or NEON_DOT  # whether an instruction multiplies bytes
comptime LOWEST_BYTE = Int32(-128 if NEON_DOT else 0)  # of activations, as that instruction wants them
comptime DOT_BFLOAT16 = has_feature["avx512bf16"]() and WIDTH == 16


@always_inline
def step[mode: StaticString]() -> Int:
    """How many neighbours along K a word holds."""
    comptime if mode == "int4":
        return 8
    comptime if mode == "int8" or mode == "bounded" or mode == "small":
        return 4
    comptime if mode == "float32":
        return 1
    return 2


@always_inline
def quantised[mode: StaticString]() -> Bool:
    """Whether weights are integers, each column with a scale."""
    return mode == "int8" or mode == "bounded" or mode == "int4"


@always_inline
def ceildiv(a: Int, b: Int) -> Int:
    return (a + b - 1) // b


def multiplied[mode: StaticString]() -> StaticString:
    """In what the words of a linear layer are multiplied: widened where the processor wants it."""
    comptime if JOINS and (mode == "bounded" or mode == "int4"):
        return "bounded"
    comptime if quantised[mode]():
        return "int8" if BYTES else "int16"
    comptime if mode == "bfloat16":
        return "bfloat16" if DOT_BFLOAT16 else "float32"
    return "float32"


@always_inline
def widened_to[mode: StaticString, kind: StaticString]() -> StaticString:
    """What words of `mode` are once they are widened to `kind`: what else is known of them counts, too."""
    return "small" if mode == "int4" and kind == "bounded" else kind


@always_inline
def joined[mode: StaticString]() -> Int:
    """How many words of bytes, multiplied as bounded, have products that add up to an int16."""
    return 4 if mode == "int4" or mode == "small" else 2


@always_inline
def parts[mode: StaticString, kind: StaticString]() -> Int:
    """How many words of `kind` a word of `mode` is widened to."""
    return step[mode]() // step[kind]()


@always_inline
def dot[kind: StaticString](sum: Words, a: Words, b: Words) -> Words:
    """Adds the products of each lane's neighbours to `sum` (int32 for integers, else float32 bits).

    In int8 and bounded, bytes of `a` begin with LOWEST_BYTE, those of `b` are signed.
    """
    comptime if kind == "float32":
        return bitcast[DType.int32, WIDTH](
            bitcast[DType.float32, WIDTH](a).fma(
                bitcast[DType.float32, WIDTH](b), bitcast[DType.float32, WIDTH](sum)
            )
        )
    comptime if kind == "bfloat16":
        return bitcast[DType.int32, WIDTH](
            llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", Vec](
                bitcast[DType.float32, WIDTH](sum),
                bitcast[DType.bfloat16, 2 * WIDTH](a),
                bitcast[DType.bfloat16, 2 * WIDTH](b),
            )
        )
    comptime if kind == "int8":
        return dot_int8(sum, a, b)
    comptime if kind == "bounded":
        return sum + added_up(products_of_bytes(a, b))
    return dot_int16(sum, a, b)


@always_inline
def dot_int8(sum: Words, a: Words, b: Words) -> Words:
    var signed = bitcast[DType.int8, 4 * WIDTH](b)
    comptime if NEON_DOT:
        return llvm_intrinsic["llvm.aarch64.neon.sdot.v4i32.v16i8", Words](
            sum, bitcast[DType.int8, 4 * WIDTH](a), signed
        )
    return llvm_intrinsic["llvm.x86.avx512.vpdpbusd." + VNNI_BITS, Words](
        sum, bitcast[DType.uint8, 4 * WIDTH](a), signed
    )


@always_inline
def dot_int16(sum: Words, a: Words, b: Words) -> Words:
    comptime if VNNI:
        return llvm_intrinsic["llvm.x86.avx512.vpdpwssd." + VNNI_BITS, Words](
            sum, bitcast[DType.int16, 2 * WIDTH](a), bitcast[DType.int16, 2 * WIDTH](b)
        )
    comptime if has_feature["avx2"]() and WIDTH == 8:
        return sum + llvm_intrinsic["llvm.x86.avx2.pmadd.wd", Words](
            bitcast[DType.int16, 2 * WIDTH](a), bitcast[DType.int16, 2 * WIDTH](b)
        )
    return sum + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16)


comptime Halves = SIMD[DType.int16, 2 * WIDTH]


@always_inline
def products_of_bytes(a: Words, b: Words) -> Halves:
    """Unsigned bytes times signed ones, two neighbours added up."""
    return llvm_intrinsic["llvm.x86.avx2.pmadd.ub.sw", Halves](
        bitcast[DType.uint8, 4 * WIDTH](a), bitcast[DType.int8, 4 * WIDTH](b)
    )


@always_inline
def added_up(halves: Halves) -> Words:
    """The sums of neighbours."""
    return llvm_intrinsic["llvm.x86.avx2.pmadd.wd", Words](halves, Halves(1))


@always_inline
def has_feature[name: StaticString]() -> Bool:
    return CompilationTarget._has_feature[name]()


@always_inline
def widened[mode: StaticString, kind: StaticString, part: Int](row: Ints, column: Int) -> Words:
    """WIDTH columns from a row of a panel in words of `kind`, of which each stored one makes `parts`.

    Quads become the int16 pairs (0, 2) and (1, 3); a row of float16 is two rows of halves. Of
    eight int4, the lower halves of the bytes are the first four.
    """
    comptime if mode == "float16":
        var halves = row.unsafe_bitcast[Float16]().unsafe_load[width=WIDTH](part * PANEL + column)
        return bitcast[DType.int32, WIDTH](halves.cast[DType.float32]())
    var word = row.unsafe_load[width=WIDTH](column)
    comptime if step[mode]() == step[kind]():
        return word
    comptime if mode == "bfloat16":
        return word << 16 if part == 0 else word & -65536
    comptime if mode == "int4":
        comptime if step[kind]() == 4:
            return word >> Int32(4 * part) & 0x0F0F0F0F
        # Of a pair's four bits, the first part is the lowest, the second the third from below.
        return word >> Int32(4 * (part // 2 + part % 2 * 2)) & 0x000F000F
    var pairs = bitcast[DType.int16, 2 * WIDTH](word)
    return bitcast[DType.int32, WIDTH](pairs << 8 >> 8 if part == 0 else pairs >> 8)


def widen_panel[mode: StaticString, kind: StaticString](target: Ints, source: Ints, K: Int):
    """K rows of a panel as `parts` times as many rows of words of `kind`."""
    comptime P = parts[mode, kind]()
    for k in range(K):
        comptime for part in range(P):
            for column in range(0, PANEL, WIDTH):
                target.unsafe_store(
                    (k * P + part) * PANEL + column,
                    widened[mode, kind, part](source.unsafe_offset(k * PANEL), column),
                )


@always_inline
def add_step[
    mode: StaticString, kind: StaticString, MR: Int, NP: Int, VECS: Int, CHAINS: Int
](
    mut acc: Array[Words, CHAINS * MR * NP * VECS],
    a: Ints,
    a_row: Int,
    b: Ints,
    b_panel: Int,
    k: Int,
    offset: Int,
):
    """Adds the products of B's k-th words to a tile's sums; see `tile`. Parts go to chains in turn."""
    comptime P = parts[mode, kind]()
    comptime for part in range(P):
        comptime for p in range(NP):
            var row = Array[Words, VECS](fill=Words(0))
            comptime for v in range(VECS):
                row[v] = widened[mode, kind, part](b.unsafe_offset(p * b_panel + k * PANEL), offset + v * WIDTH)
            comptime for r in range(MR):
                var x = Words(a[unsafe_offset=r * a_row + k * P + part])
                comptime for v in range(VECS):
                    comptime i = ((part % CHAINS * MR + r) * NP + p) * VECS + v
                    acc[i] = dot[kind](acc[i], x, row[v])


@always_inline
def add_joined[
    mode: StaticString, MR: Int, NP: Int, VECS: Int, CHAINS: Int
](
    mut acc: Array[Words, CHAINS * MR * NP * VECS],
    a: Ints,
    a_row: Int,
    b: Ints,
    b_panel: Int,
    k: Int,
    offset: Int,
):
    """`add_step` for the two words of bounded weights from the k-th on, whose int16 sums are joined."""
    comptime for p in range(NP):
        var first = Array[Words, VECS](fill=Words(0))
        var second = Array[Words, VECS](fill=Words(0))
        comptime for v in range(VECS):
            var row = b.unsafe_offset(p * b_panel + k * PANEL)
            first[v] = widened[mode, "bounded", 0](row, offset + v * WIDTH)
            second[v] = widened[mode, "bounded", 0](row.unsafe_offset(PANEL), offset + v * WIDTH)
        comptime for r in range(MR):
            var x = Words(a[unsafe_offset=r * a_row + k])
            var y = Words(a[unsafe_offset=r * a_row + k + 1])
            comptime for v in range(VECS):
                comptime i = (r * NP + p) * VECS + v
                acc[i] += added_up(products_of_bytes(x, first[v]) + products_of_bytes(y, second[v]))


@always_inline
def add_small[
    mode: StaticString, MR: Int, NP: Int, VECS: Int, CHAINS: Int
](
    mut acc: Array[Words, CHAINS * MR * NP * VECS],
    a: Ints,
    a_row: Int,
    b: Ints,
    b_panel: Int,
    k: Int,
    offset: Int,
):
    """`add_step` for four words of int4 as bytes, from the k-th on. Of many rows the int16 sums are what
    stays in the registers."""
    comptime P = parts[mode, "bounded"]()
    comptime for p in range(NP):
        var halves = Array[Halves, MR * VECS](fill=Halves(0))
        comptime for part in range(joined[mode]()):
            var row = b.unsafe_offset(p * b_panel + (k + part // P) * PANEL)
            var weights = Array[Words, VECS](fill=Words(0))
            comptime for v in range(VECS):
                weights[v] = widened[mode, "bounded", part % P](row, offset + v * WIDTH)
            comptime for r in range(MR):
                var x = Words(a[unsafe_offset=r * a_row + k * P + part])
                comptime for v in range(VECS):
                    halves[r * VECS + v] += products_of_bytes(x, weights[v])
        comptime for r in range(MR):
            comptime for v in range(VECS):
                acc[(r * NP + p) * VECS + v] += added_up(halves[r * VECS + v])


@always_inline
def tile[
    mode: StaticString, kind: StaticString, MR: Int, NP: Int
](a: Ints, a_row: Int, b: Ints, b_panel: Int, K: Int, c: Ints, c_row: Int, first: Bool):
    """C = A @ B for MR rows and NP panels (C += A @ B unless `first`); all sizes in words.

    Parameters:
        mode: What B is stored in.
        kind: What both are multiplied in; A is stored in it.
        MR: Rows.
        NP: Panels.

    Args:
        a: Row r is at `r * a_row`, `parts` words for each of B's.
        a_row: Distance between rows of A.
        b: The first panel, (K, PANEL).
        b_panel: Distance between panels of B.
        K: The inner dimension in words of B.
        c: Element (r, n) is at `r * c_row + n`, n below NP * PANEL; int32 or float32 bits.
        c_row: Distance between rows of C.
        first: Whether C is overwritten rather than added to.
    """
    comptime P = parts[mode, kind]()
    # Whole panels where their sums fit into the registers: memory is then read in one sweep.
    comptime VECS = PANEL // WIDTH if MR * NP * (PANEL // WIDTH) <= SUMS else WIDEST
    comptime COLS = VECS * WIDTH
    # Integers add up to the same in any order: few sums are had by several chains of additions each,
    # which do not wait for one another.
    comptime INTEGER = kind == "int16" or kind == "int8"
    comptime CHAINS = P if INTEGER and P * MR * NP * VECS <= SUMS else 1
    comptime SIZE = MR * NP * VECS
    # Widening integers takes so long that memory would wait: what follows is asked for, the panels after
    # these or, of values, which have panels of all positions, the lines.
    comptime LATE = P > 1 and (kind == "int16" or kind == "bounded")
    var ahead = NP * K * PANEL if b_panel == K * PANEL else AHEAD
    comptime for section in range(PANEL // COLS):
        comptime offset = section * COLS
        var acc = Array[Words, CHAINS * SIZE](fill=Words(0))
        if not first:
            comptime for r in range(MR):
                comptime for p in range(NP):
                    comptime for v in range(VECS):
                        acc[(r * NP + p) * VECS + v] = c.unsafe_load[width=WIDTH](
                            r * c_row + p * PANEL + offset + v * WIDTH
                        )
        # Two steps a round leave the units that add up addresses little to do. A tile that fills
        # AVX-512's registers has no room for what the compiler would then load ahead.
        comptime FEW = 2 if P == 1 and (WIDTH < 16 or MR * NP * VECS <= 16) else 1
        comptime ROUND = joined[mode]() // P if kind == "bounded" else FEW
        var whole = K - K % ROUND
        for k in range(0, whole, ROUND):
            comptime if LATE and section == 0:
                comptime for p in range(NP):
                    for line in range(0, ROUND * PANEL, LINE):
                        fetch(floats(b).unsafe_offset(p * b_panel + ahead + k * PANEL + line))
            comptime if kind == "bounded" and joined[mode]() == 4:
                add_small[mode, MR, NP, VECS, CHAINS](acc, a, a_row, b, b_panel, k, offset)
            elif kind == "bounded":
                add_joined[mode, MR, NP, VECS, CHAINS](acc, a, a_row, b, b_panel, k, offset)
            else:
                comptime for i in range(ROUND):
                    add_step[mode, kind, MR, NP, VECS, CHAINS](acc, a, a_row, b, b_panel, k + i, offset)
        for k in range(whole, K):
            add_step[mode, kind, MR, NP, VECS, CHAINS](acc, a, a_row, b, b_panel, k, offset)
        comptime for r in range(MR):
            comptime for p in range(NP):
                comptime for v in range(VECS):
                    comptime i = (r * NP + p) * VECS + v
                    comptime for chain in range(1, CHAINS):
                        acc[i] += acc[chain * SIZE + i]
                    c.unsafe_store(r * c_row + p * PANEL + offset + v * WIDTH, acc[i])


@always_inline
def rows_in_tile(rows: Int) -> Int:
    """The number of rows of the smallest tile that holds `rows` (at most ROWS) of them."""
    if rows <= 2:
        return rows
    if rows <= 4:
        return 4
    if rows <= 6:
        return 6
    return 8 if rows <= 8 and ROWS > 8 else ROWS


@no_inline  # inlined, the tile has to share registers with what is around it
def sweep[
    mode: StaticString, kind: StaticString
](rows: Int, a: Ints, a_row: Int, b: Ints, b_panel: Int, panels: Int, K: Int, c: Ints, c_row: Int, first: Bool):
    """`tile` for rows and panels known at run time; A and C have `rows_in_tile(rows)` rows.

    One or two rows take several panels through the registers together, so that enough sums are
    on the way at once.
    """
    comptime ONE = SUMS * WIDTH // PANEL
    var p = 0
    if rows == 1:
        while p + ONE <= panels:
            tile[mode, kind, 1, ONE](a, a_row, b.unsafe_offset(p * b_panel), b_panel, K, c.unsafe_offset(p * PANEL), c_row, first)
            p += ONE
        comptime if ONE > 2:
            while p + 2 <= panels:
                tile[mode, kind, 1, 2](a, a_row, b.unsafe_offset(p * b_panel), b_panel, K, c.unsafe_offset(p * PANEL), c_row, first)
                p += 2
    elif rows == 2:
        comptime TWO = max(1, ONE // 2)
        while p + TWO <= panels:
            tile[mode, kind, 2, TWO](a, a_row, b.unsafe_offset(p * b_panel), b_panel, K, c.unsafe_offset(p * PANEL), c_row, first)
            p += TWO
    while p < panels:
        tile_rows[mode, kind](rows, a, a_row, b.unsafe_offset(p * b_panel), K, c.unsafe_offset(p * PANEL), c_row, first)
        p += 1


@always_inline
def tile_rows[
    mode: StaticString, kind: StaticString
](rows: Int, a: Ints, a_row: Int, b: Ints, K: Int, c: Ints, c_row: Int, first: Bool):
    """`tile` of one panel for a number of rows known at run time; A and C have `rows_in_tile(rows)`."""
    if rows == 1:
        tile[mode, kind, 1, 1](a, a_row, b, 0, K, c, c_row, first)
    elif rows == 2:
        tile[mode, kind, 2, 1](a, a_row, b, 0, K, c, c_row, first)
    elif rows <= 4:
        tile[mode, kind, 4, 1](a, a_row, b, 0, K, c, c_row, first)
    elif rows <= 6:
        tile[mode, kind, 6, 1](a, a_row, b, 0, K, c, c_row, first)
    elif rows <= 8 and ROWS > 8:
        tile[mode, kind, 8, 1](a, a_row, b, 0, K, c, c_row, first)
    else:
        tile[mode, kind, ROWS, 1](a, a_row, b, 0, K, c, c_row, first)


@always_inline
def words(pointer: Floats) -> Ints:
    """The same memory as 32-bit words."""
    return pointer.unsafe_bitcast[Int32]()


@always_inline
def floats(pointer: Ints) -> Floats:
    """The same memory as float32."""
    return pointer.unsafe_bitcast[F32]()


@always_inline
def fetch_row(x: Floats, row: Int, D: Int):
    """Asks for D numbers of the row after some more, rows of an array `row` apart.

    No processor foresees rows that lie in pages of their own.
    """
    comptime AHEAD = 8
    for d in range(0, D, LINE):
        fetch(x.unsafe_offset(AHEAD * row + d))


@always_inline
def fetch(pointer: Floats):
    """Asks for what lies there, as it will soon be read."""
    llvm_intrinsic["llvm.prefetch", NoneType](pointer.unsafe_bitcast[UInt8](), Int32(0), Int32(3), Int32(1))
