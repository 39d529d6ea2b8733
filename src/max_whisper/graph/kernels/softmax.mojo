"""Scores to weights: their exponentials, in the words that multiply the values.

A row of scores comes in chunks of positions, so that a row of any length needs no more room than
a chunk. Each chunk is weighed against its own highest score, and its sums are scaled as they are
added to the others: weights of few bits are then as fine as they can be.
"""

from std.math import iota
from std.memory import bitcast
from std.sys.intrinsics import llvm_intrinsic

from .pack import larger, pack_row, quantise_pairs
from .tile import F32, Floats, PANEL, Panel, WIDTH, words

comptime LANES = 2 * WIDTH  # two vectors on the way at once hide each other's latency
comptime Lanes = SIMD[DType.float32, LANES]
comptime WHOLE = F32(8388608)  # 2^23: from here on float32 has whole numbers only
comptime SHIFT = WHOLE + WHOLE / 2  # added to it, a number is rounded to a whole one, in the last bits
comptime NONE = F32(-1e30)  # a score that weighs nothing, and that can be calculated with
comptime LOG2_E = F32(1.4426950408889634)


@always_inline
def exact[kind: StaticString]() -> Bool:
    """Whether weights are exponentials to float32's precision; others are cut to fewer bits anyway."""
    return kind == "float32"


@always_inline
def power[kind: StaticString](x: Lanes) -> Lanes:
    """exp(x) where `exact`, else 2^x; of x <= 0."""
    comptime if exact[kind]():
        return exponential(x)
    return power_of_two(x)


def highest_score[
    kind: StaticString
](row: Floats, valid: Int, padded: Int, scale: F32, zero: F32, key_scales: Floats, key_sums: Floats) -> F32:
    """Makes scores of a chunk of a row's sums, and returns the highest.

    Parameters:
        kind: What was multiplied.

    Args:
        row: `padded` scores, as sums; then scores but for `scale`, NONE from `valid` on.
        valid: How many positions there are.
        padded: The same in whole panels.
        scale: The query's: makes scores of the sums, in integers together with the keys' scales;
            times log2(e) unless weights are `exact`.
        zero: Of bytes, what stands for 0 in the query.
        key_scales: Of integers, a scale for each position.
        key_sums: Of bytes, each key's sum.
    """
    var highest = Panel(NONE)
    for p in range(0, padded, PANEL):
        var x = row.unsafe_load[width=PANEL](p)
        comptime if kind != "float32" and kind != "bfloat16":
            x = words(row).unsafe_load[width=PANEL](p).cast[DType.float32]() * key_scales.unsafe_load[width=PANEL](p)
            comptime if kind != "int16":
                x = key_sums.unsafe_load[width=PANEL](p).fma(Panel(-zero), x)
            row.unsafe_store(p, x)
        if p + PANEL > valid:
            x = (iota[DType.int32, PANEL]() + Int32(p)).lt(Int32(valid)).select(x, Panel(NONE))
            row.unsafe_store(p, x)
        highest = larger[PANEL](highest, x)
    return largest_of(highest) * scale


@always_inline
def largest_of(x: Panel) -> F32:
    """The largest lane."""
    var found = x
    comptime for i in range(1, 6):
        found = larger[PANEL](found, found.rotate_left[PANEL >> i]())
    return found[0]


def weigh[
    mode: StaticString, kind: StaticString
](row: Floats, padded: Int, scale: F32, top: F32, factors: Floats) -> F32:
    """Turns a chunk of a row's scores into words of its weights.

    Parameters:
        mode: What the values are stored in.
        kind: What they are multiplied in. Integers have scales.

    Args:
        row: Scores as `highest_score` leaves them; then `padded` weights.
        padded: Whole panels of positions.
        scale: As for `highest_score`.
        top: The highest score.
        factors: Of integers, what a weight of each position is multiplied by: its value's scale, and
            what makes the largest of them the largest integer.

    Returns:
        The sum of the weights.
    """
    comptime integer = kind == "int16" or kind == "int8"
    # Cut off after a number from 0 to 1 is added that differs from lane to lane, bytes are right on
    # average, however small: many that halves would round to nothing can be most of a row.
    var rounding = ((iota[DType.int32, LANES]() * 19 & Int32(LANES - 1)).cast[DType.float32]() + 0.5) * F32(1 / Float64(LANES))
    var sum = Lanes(0)
    for p in range(0, padded, LANES):
        var x = power[kind](row.unsafe_load[width=LANES](p).fma(Lanes(scale), Lanes(-top)))
        sum += x
        comptime if integer and mode == kind:
            var factor = factors.unsafe_load[width=LANES](p)
            comptime if kind == "int8":
                row.unsafe_bitcast[UInt8]().unsafe_store(p, x.fma(factor, rounding).cast[DType.uint8]())
            else:
                # From WHOLE on a float32's last bits are its number, rounded: no need to convert it.
                var q = bitcast[DType.int32, LANES](x.fma(factor, Lanes(WHOLE)))
                row.unsafe_bitcast[Int16]().unsafe_store(p, q.cast[DType.int16]())
        elif integer:
            row.unsafe_store(p, x * factors.unsafe_load[width=LANES](p))
        else:
            row.unsafe_store(p, x)
    comptime if integer and mode != kind:
        quantise_pairs[mode](words(row), row, padded, 1)
    comptime if not integer:
        _ = pack_row[mode, kind](words(row), row, padded)
    return sum.reduce_add()


@always_inline
def exponential(x: Lanes) -> Lanes:
    """exp(x) of x <= 0 to float32's precision; of less than -87 it is next to nothing."""
    var t = larger(x, Lanes(-87))
    var shifted = t.fma(Lanes(LOG2_E), Lanes(SHIFT))
    var n = shifted - Lanes(SHIFT)
    # log(2) in two parts, of which the first times a whole number is exact.
    var r = n.fma(Lanes(-0.693145751953125), t)
    r = n.fma(Lanes(-1.428606765330187e-06), r)
    # e^r on half of log(2) to both sides of 0: the polynomial of degree 6.
    var p = Lanes(0.0013948583)
    p = p.fma(r, Lanes(0.00837513044))
    p = p.fma(r, Lanes(0.0416662182))
    p = p.fma(r, Lanes(0.166664155))
    p = p.fma(r, Lanes(0.500000011))
    p = p.fma(r, Lanes(1.00000004))
    p = p.fma(r, Lanes(1))
    return bitcast[DType.float32, LANES](
        bitcast[DType.int32, LANES](p) + (bitcast[DType.int32, LANES](shifted) << 23)
    )


@always_inline
def power_of_two(x: Lanes) -> Lanes:
    """2^x of x <= 0 to a relative error of 1e-4."""
    comptime if WIDTH == 16:
        return join(power_of_two_avx512(half[0](x)), power_of_two_avx512(half[1](x)))
    var t = larger(x, Lanes(-126))
    var shifted = t + Lanes(SHIFT)
    var f = t - (shifted - Lanes(SHIFT))
    # 2^f on [-1/2, 1/2]: the polynomial of degree 3 that is 1 at 0 with the least relative error.
    var p = Lanes(0.0550090578)
    p = p.fma(f, Lanes(0.242210975))
    p = p.fma(f, Lanes(0.693282898))
    p = p.fma(f, Lanes(1))
    return bitcast[DType.float32, LANES](
        bitcast[DType.int32, LANES](p) + (bitcast[DType.int32, LANES](shifted) << 23)
    )


comptime Vec512 = SIMD[DType.float32, 16]


@always_inline
def half[index: Int](x: Lanes) -> Vec512:
    return rebind[Vec512](x.slice[LANES // 2, offset = index * (LANES // 2)]())


@always_inline
def join(a: Vec512, b: Vec512) -> Lanes:
    return rebind[Lanes](a.join(b))


@always_inline
def power_of_two_avx512(x: Vec512) -> Vec512:
    """The same by the instructions that cut off whole numbers, and multiply by powers of two."""
    comptime ALL = Int16(-1)
    comptime FLOOR = Int32(9)
    comptime ROUNDING = Int32(4)  # the current mode
    var f = llvm_intrinsic["llvm.x86.avx512.mask.reduce.ps.512", Vec512](x, FLOOR, x, ALL, ROUNDING)
    # 2^f on [0, 1).
    var p = Vec512(0.0135341679)
    p = p.fma(f, Vec512(0.0520114606))
    p = p.fma(f, Vec512(0.241442757))
    p = p.fma(f, Vec512(0.693003834))
    p = p.fma(f, Vec512(1.00000259))
    return llvm_intrinsic["llvm.x86.avx512.mask.scalef.ps.512", Vec512](p, x, p, ALL, ROUNDING)
