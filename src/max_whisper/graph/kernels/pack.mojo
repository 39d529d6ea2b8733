"""Rows of float32 as the words that products are made of: as they are, rounded, or quantised."""

from std.memory import bitcast

from .tile import F32, Floats, Ints, Vec, WIDTH, Words, ceildiv, floats, step

comptime ZERO = 128  # what int8 activations are shifted by, to be unsigned
# The largest int16: with int8 weights, 5120 products of it fit into an int32 (Whisper has no more).
comptime MOST = 2047


def pack_row[mode: StaticString, kind: StaticString](packed: Ints, x: Floats, K: Int) -> F32:
    """A row of A as words of `kind`, to be multiplied by words of `mode`; returns its scale.

    `packed` may be where `x` is: a word is never written before what it holds is read.
    """
    comptime if kind == "int8":
        return quantise_bytes(packed.unsafe_bitcast[UInt8](), x, K)
    comptime if kind == "int16":
        var scale = most(x, K) / MOST
        quantise_pairs[mode](packed, x, K, 1 / scale if scale > 0 else F32(0))
        return scale
    comptime if kind == "bfloat16":
        round_pairs(packed, x, K)
        return 1
    comptime P = step[mode]()
    for k in range(K):
        var value = x[unsafe_offset=k]
        comptime if mode == "bfloat16":
            value = bitcast[DType.float32, 1](rounded_bits[1](value) & -65536)
        floats(packed)[unsafe_offset=k] = value
    for k in range(K, ceildiv(K, P) * P):
        floats(packed)[unsafe_offset=k] = 0
    return 1


@always_inline
def row_words[mode: StaticString, kind: StaticString](K: Int) -> Int:
    """Words of `kind` in a row of K that meets words of `mode`."""
    return ceildiv(K, step[mode]()) * (step[mode]() // step[kind]())


@always_inline
def larger[width: Int](a: SIMD[DType.float32, width], b: SIMD[DType.float32, width]) -> SIMD[DType.float32, width]:
    """The larger of numbers that are numbers: `max` takes three times as long for those that are not."""
    return a.gt(b).select(a, b)


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
def nearest[width: Int, zero: Int](x: SIMD[DType.float32, width], scale: F32) -> SIMD[DType.int32, width]:
    """`x * scale` rounded to integers, plus `zero`, which makes all of them positive."""
    # Adding half and cutting off rounds, as all values are positive once shifted.
    return x.fma(SIMD[DType.float32, width](scale), SIMD[DType.float32, width](F32(zero) + 0.5)).cast[DType.int32]()


@always_inline
def quantise_pairs[mode: StaticString](packed: Ints, x: Floats, K: Int, scale: F32):
    """K values as int16 pairs of neighbours; for int8 quads as the pairs (0, 2) and (1, 3) of each four."""
    comptime ZERO16 = MOST + 1
    comptime G = step[mode]()
    comptime LANES = G * WIDTH
    var k = 0
    while k + LANES <= K:
        var q = nearest[LANES, ZERO16](x.unsafe_load[width=LANES](k), scale) - SIMD[DType.int32, LANES](ZERO16)
        var split = q.deinterleave()
        comptime if G == 4:
            # Even and odd neighbours each make a pair.
            var even = joined[WIDTH](rebind[SIMD[DType.int32, 2 * WIDTH]](split[0]))
            var odd = joined[WIDTH](rebind[SIMD[DType.int32, 2 * WIDTH]](split[1]))
            packed.unsafe_store(k // 2, even.interleave(odd))
        else:
            packed.unsafe_store(k // 2, joined[WIDTH](rebind[SIMD[DType.int32, 2 * WIDTH]](q)))
        k += LANES
    while k < K:
        var q = SIMD[DType.int32, 4](0)
        for i in range(min(G, K - k)):
            q[i] = nearest[1, ZERO16](x[unsafe_offset=k + i], scale) - ZERO16
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
def quantise_bytes(packed: Pointer[UInt8, MutUntrackedOrigin], x: Floats, K: Int) -> F32:
    """K values as unsigned bytes around ZERO; returns their scale."""
    comptime LANES = 4 * WIDTH
    var top = most(x, K)
    var scale = 127 / top if top > 0 else F32(0)
    var whole = K - K % LANES
    for k in range(0, whole, LANES):
        packed.unsafe_store(k, nearest[LANES, ZERO](x.unsafe_load[width=LANES](k), scale).cast[DType.uint8]())
    for k in range(whole, K):
        packed[unsafe_offset=k] = nearest[1, ZERO](x[unsafe_offset=k], scale).cast[DType.uint8]()
    for k in range(K, ceildiv(K, 4) * 4):
        packed[unsafe_offset=k] = ZERO
    return top / 127


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
