"""Scores to weights: their exponentials, in the words that multiply the values."""

from std.math import exp
from std.memory import bitcast

from .pack import MOST, larger, pack_row, quantise_pairs
from .tile import F32, Floats, WIDTH, words

comptime LANES = 2 * WIDTH  # two vectors on the way at once hide each other's latency
comptime Lanes = SIMD[DType.float32, LANES]


def finish_scores[integer: Bool](row: Floats, positions: Int, scale: F32, key_scales: Floats) -> F32:
    """Makes integer sums the scores that they stand for, in place; returns the highest."""
    var highest = Lanes(F32.MIN)
    var whole = positions - positions % LANES
    for p in range(0, whole, LANES):
        var x = row.unsafe_load[width=LANES](p)
        comptime if integer:
            x = words(row).unsafe_load[width=LANES](p).cast[DType.float32]()
            x *= Lanes(scale) * key_scales.unsafe_load[width=LANES](p)
            row.unsafe_store(p, x)
        highest = larger(highest, x)
    var top = highest.reduce_max()
    for p in range(whole, positions):
        comptime if integer:
            var sum = words(row)[unsafe_offset=p].cast[DType.float32]()
            row[unsafe_offset=p] = sum * (scale * key_scales[unsafe_offset=p])
        top = max(top, row[unsafe_offset=p])
    return top


def exponentials[
    mode: StaticString, kind: StaticString
](row: Floats, positions: Int, padded: Int, top: F32, value_scales: Floats) -> F32:
    """Turns scores into words of exp(score - top), zero beyond `positions`.

    With integers they are multiplied by the values' scales first, and quantised.

    Returns:
        What a sum over the values has to be multiplied by.
    """
    for p in range(positions, padded):
        row[unsafe_offset=p] = top - 200  # exp of it is nothing in float32
    var total = Lanes(0)
    comptime if kind == "int16":
        var most = Lanes(0)
        for p in range(0, padded, LANES):
            var x = exp_of_negative(row.unsafe_load[width=LANES](p) - Lanes(top))
            total += x
            x *= value_scales.unsafe_load[width=LANES](p)
            most = larger(most, x)
            row.unsafe_store(p, x)
        var largest = most.reduce_max()
        quantise_pairs[mode](words(row), row, padded, F32(MOST) / largest if largest > 0 else F32(0))
        return largest / MOST / total.reduce_add()
    for p in range(0, padded, LANES):
        var x = exp(row.unsafe_load[width=LANES](p) - Lanes(top))
        row.unsafe_store(p, x)
        total += x
    _ = pack_row[mode, kind](words(row), row, padded)
    return 1 / total.reduce_add()


@always_inline
def exp_of_negative(x: Lanes) -> Lanes:
    """exp(x) of x <= 0 to a relative error of 4e-6, in half the operations of the exact one."""
    var t = larger(x * Lanes(1.4426950408889634), Lanes(-126))
    var whole = (t - Lanes(0.5)).cast[DType.int32]()  # cuts towards zero: to the nearest, as t <= 0
    var f = t - whole.cast[DType.float32]()
    # 2^f on [-1/2, 1/2]: the polynomial of degree 4 with the least relative error.
    var p = Lanes(0.00957009662)
    p = p.fma(f, Lanes(0.0559178628))
    p = p.fma(f, Lanes(0.240247443))
    p = p.fma(f, Lanes(0.693121791))
    p = p.fma(f, Lanes(0.999999285))
    return bitcast[DType.float32, LANES](bitcast[DType.int32, LANES](p) + (whole << 23))
