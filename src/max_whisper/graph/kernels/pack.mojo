"""Rows of float32 as the words that products are made of: as they are, rounded, or quantised."""

from std.memory import bitcast
from std.sys import size_of

from .tile import F32, Floats, Ints, LOWEST_BYTE, Vec, WIDTH, Words, ceildiv, floats, step

comptime BYTE = DType.int8 if LOWEST_BYTE < 0 else DType.uint8  # as bytes of a row are multiplied
# The largest int16: with int8 weights, 5120 products of it fit into an int32 (Whisper has no more).
comptime MOST = 2047


@fieldwise_init
struct Scale(ImplicitlyCopyable, Movable):
    """What the integers q of a packed row stand for: (q - zero) * step.

    Fields:
        step: Between neighbours.
        zero: What stands for 0.
        sum: Of the q; where they meet int4, which has MIDDLE times that too much, and 0 elsewhere.
    """

    var step: F32
    var zero: Int32
    var sum: Int32


def pack_row[mode: StaticString, kind: StaticString](packed: Ints, x: Floats, K: Int) -> Scale:
    """A row of A as words of `kind`, to be multiplied by words of `mode`; returns its scale.

    `packed` may be where `x` is: a word is never written before what it holds is read.
    """
    comptime if kind == "int8" or kind == "bounded":
        var scale = quantise_bytes(packed.unsafe_bitcast[UInt8](), x, K, ceildiv(K, step[mode]()) * step[mode]())
        comptime if mode == "int4":
            scale.sum = sum_of[BYTE](packed, row_words[mode, kind](K))
        return scale
    comptime if kind == "int16":
        var step = most(x, K) / MOST
        quantise_pairs[mode](packed, x, K, 1 / step if step > 0 else F32(0))
        return Scale(step, 0, sum_of[DType.int16](packed, row_words[mode, kind](K)) if mode == "int4" else 0)
    comptime if kind == "bfloat16":
        round_pairs(packed, x, K)
        return Scale(1, 0, 0)
    var whole = K - K % WIDTH
    for k in range(0, whole, WIDTH):
        floats(packed).unsafe_store(k, as_stored[mode, WIDTH](x.unsafe_load[width=WIDTH](k)))
    for k in range(whole, K):
        floats(packed)[unsafe_offset=k] = as_stored[mode, 1](x[unsafe_offset=k])
    for k in range(K, ceildiv(K, step[mode]()) * step[mode]()):
        floats(packed)[unsafe_offset=k] = 0
    return Scale(1, 0, 0)


@always_inline
def as_stored[mode: StaticString, width: Int](x: SIMD[DType.float32, width]) -> SIMD[DType.float32, width]:
    """What float32 products in place of `mode`'s take of a value."""
    comptime if mode == "bfloat16":
        return bitcast[DType.float32, width](rounded_bits[width](x) & -65536)
    return x


@always_inline
def row_words[mode: StaticString, kind: StaticString](K: Int) -> Int:
    """Words of `kind` in a row of K that meets words of `mode`."""
    return ceildiv(K, step[mode]()) * (step[mode]() // step[kind]())


@always_inline
def larger[width: Int](a: SIMD[DType.float32, width], b: SIMD[DType.float32, width]) -> SIMD[DType.float32, width]:
    """The larger of numbers that are numbers: `max` takes three times as long for those that are not."""
    return a.gt(b).select(a, b)


@always_inline
def smaller[width: Int](a: SIMD[DType.float32, width], b: SIMD[DType.float32, width]) -> SIMD[DType.float32, width]:
    """The smaller of numbers that are numbers."""
    return a.lt(b).select(a, b)


def most(x: Floats, K: Int) -> F32:
    """The largest magnitude of K values."""
    comptime LANES = 2 * WIDTH
    var found = SIMD[DType.float32, LANES](0)
    var whole = K - K % LANES
    for k in range(0, whole, LANES):
        found = larger(found, abs(x.unsafe_load[width=LANES](k)))
    var top = found.reduce_max()
    for k in range(whole, K):
        top = max(top, abs(x[unsafe_offset=k]))
    return top


@always_inline
def nearest[width: Int](x: SIMD[DType.float32, width], scale: F32, zero: Int32) -> SIMD[DType.int32, width]:
    """`x * scale` rounded to integers, plus `zero`, which makes all of them positive."""
    # Adding half and cutting off rounds, as all values are positive once shifted.
    var half = SIMD[DType.float32, width](zero.cast[DType.float32]() + 0.5)
    return x.fma(SIMD[DType.float32, width](scale), half).cast[DType.int32]()


@always_inline
def quantise_pairs[mode: StaticString](packed: Ints, x: Floats, K: Int, scale: F32):
    """K values as int16 pairs of neighbours; for integers as the pairs (0, 2) and (1, 3) of each four."""
    comptime ZERO16 = Int32(MOST + 1)
    comptime G = min(4, step[mode]())
    comptime LANES = G * WIDTH
    var k = 0
    while k + LANES <= K:
        var q = nearest[LANES](x.unsafe_load[width=LANES](k), scale, ZERO16) - SIMD[DType.int32, LANES](ZERO16)
        var split = q.deinterleave()
        comptime if G == 4:
            # Even and odd neighbours each make a pair.
            var even = joined[WIDTH](rebind[SIMD[DType.int32, 2 * WIDTH]](split[0]))
            var odd = joined[WIDTH](rebind[SIMD[DType.int32, 2 * WIDTH]](split[1]))
            packed.unsafe_store(k // 2, even.interleave(odd))
        else:
            packed.unsafe_store(k // 2, joined[WIDTH](rebind[SIMD[DType.int32, 2 * WIDTH]](q)))
        k += LANES
    while k < ceildiv(K, step[mode]()) * step[mode]():
        var q = SIMD[DType.int32, 4](0)
        for i in range(min(G, K - k)):
            q[i] = nearest[1](x[unsafe_offset=k + i], scale, ZERO16) - ZERO16
        comptime if G == 4:
            packed[unsafe_offset=k // 2] = pair(q[0], q[2])
            packed[unsafe_offset=k // 2 + 1] = pair(q[1], q[3])
        else:
            packed[unsafe_offset=k // 2] = pair(q[0], q[1])
        k += G


@always_inline
def joined[width: Int](q: SIMD[DType.int32, 2 * width]) -> SIMD[DType.int32, width]:
    """Neighbours as the halves of words."""
    var split = q.deinterleave()
    var low = rebind[SIMD[DType.int32, width]](split[0])
    return low & 65535 | rebind[SIMD[DType.int32, width]](split[1]) << 16


@always_inline
def pair(low: Int32, high: Int32) -> Int32:
    return low & 65535 | high << 16


@always_inline
def quantise_bytes(packed: Pointer[UInt8, MutUntrackedOrigin], x: Floats, K: Int, whole_words: Int) -> Scale:
    """K values as bytes from LOWEST_BYTE on, and zeros up to `whole_words`; returns what they stand for.

    The bytes are spread from the lowest value to the highest: what is mostly positive, such as
    what GELU gives, or has an outlier on one side, gets twice the resolution that bytes around a
    fixed zero would give it.
    """
    comptime LANES = 4 * WIDTH
    var low = SIMD[DType.float32, LANES](0)
    var high = SIMD[DType.float32, LANES](0)
    var whole = K - K % LANES
    for k in range(0, whole, LANES):
        var values = x.unsafe_load[width=LANES](k)
        low = smaller(low, values)
        high = larger(high, values)
    var bottom = low.reduce_min()
    var top = high.reduce_max()
    for k in range(whole, K):
        bottom = min(bottom, x[unsafe_offset=k])
        top = max(top, x[unsafe_offset=k])
    # 254 steps: both ends may be rounded away from each other.
    var step = (top - bottom) / 254
    var inverse = 1 / step if step > 0 else F32(0)
    var zero = (F32(0.5) - bottom * inverse).cast[DType.int32]()
    for k in range(0, whole, LANES):
        var q = nearest[LANES](x.unsafe_load[width=LANES](k), inverse, zero) + SIMD[DType.int32, LANES](LOWEST_BYTE)
        packed.unsafe_store(k, q.cast[DType.uint8]())
    for k in range(whole, K):
        packed[unsafe_offset=k] = (nearest[1](x[unsafe_offset=k], inverse, zero) + LOWEST_BYTE).cast[DType.uint8]()
    for k in range(K, whole_words):
        packed[unsafe_offset=k] = (zero + LOWEST_BYTE).cast[DType.uint8]()
    return Scale(step, zero + LOWEST_BYTE, 0)


def sum_of[type: DType](packed: Ints, words: Int) -> Int32:
    """What the numbers of a type in so many words add up to."""
    var sum = Int32(0)
    for i in range(words * (32 // (8 * size_of[Scalar[type]]()))):
        sum += packed.unsafe_bitcast[Scalar[type]]()[unsafe_offset=i].cast[DType.int32]()
    return sum


@always_inline
def round_pairs(packed: Ints, x: Floats, K: Int):
    """K values as bfloat16 pairs of neighbours."""
    var k = 0
    while k + 2 * WIDTH <= K:
        var halves = x.unsafe_load[width=2 * WIDTH](k).deinterleave()
        packed.unsafe_store(k // 2, bfloat16_pair[WIDTH](rebind[Vec](halves[0]), rebind[Vec](halves[1])))
        k += 2 * WIDTH
    while k < K:
        var high = x[unsafe_offset=k + 1] if k + 1 < K else F32(0)
        packed[unsafe_offset=k // 2] = bfloat16_pair[1](x[unsafe_offset=k], high)
        k += 2


@always_inline
def bfloat16_pair[width: Int](low: SIMD[DType.float32, width], high: SIMD[DType.float32, width]) -> SIMD[DType.int32, width]:
    """Two float32 rounded to the nearest bfloat16 (ties to even) in one word."""
    return (rounded_bits(low) >> 16) & 65535 | (rounded_bits(high) & -65536)


@always_inline
def rounded_bits[width: Int](x: SIMD[DType.float32, width]) -> SIMD[DType.int32, width]:
    var bits = bitcast[DType.int32, width](x)
    return bits + 32767 + ((bits >> 16) & 1)
