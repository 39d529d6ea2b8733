"""A head's keys and values, packed in the panel layout of `tile`.

Scores are a product with the keys (K = head size, columns = positions), the result a product with
the values (K = positions, columns = head size). Integers have a scale for each position, of its
key and of its value; queries of bytes have their zero anywhere, which the keys' sums make up for.

A mode is how both are kept. Of "mixed" keys are bounded int8, and values are int16: AVX2 multiplies
bytes faster, but bounded values would be too coarse.
"""

from std.collections import Array
from std.memory import bitcast
from std.memory.alloc import unsafe_alloc

from .pack import MOST, bfloat16_pair, larger, most, pack_row, round_pairs
from .tile import (
    BOUND,
    F32,
    Floats,
    Ints,
    JOINS,
    LOWEST_BYTE,
    PANEL,
    WIDTH,
    Vec,
    Words,
    ceildiv,
    fetch_row,
    floats,
    multiplied,
    step,
    words,
)


@always_inline
def keys_in[mode: StaticString]() -> StaticString:
    """In what words keys are kept."""
    return "bounded" if mode == "mixed" else mode


@always_inline
def values_in[mode: StaticString]() -> StaticString:
    """In what words values are kept."""
    return "int16" if mode == "mixed" else mode


@always_inline
def multiplied_here[words_in: StaticString]() -> StaticString:
    """In what such keys or values are multiplied."""
    return "int16" if words_in == "int16" else multiplied[words_in]()


@always_inline
def unkept[mode: StaticString]() -> StaticString:
    """How heads of a precision are packed that are needed once: as they are multiplied fastest."""
    return "mixed" if mode == "int8" and JOINS else multiplied_here[mode]()


@always_inline
def has_scales[mode: StaticString]() -> Bool:
    """Whether positions have scales."""
    return mode == "int8" or mode == "int16" or mode == "mixed"


@always_inline
def packed_positions(positions: Int) -> Int:
    """Positions of a head in the packed layout: whole panels."""
    return ceildiv(positions, PANEL) * PANEL


@fieldwise_init
struct Head[mode: StaticString](ImplicitlyCopyable, Movable):
    """One head's keys and values, packed.

    Fields:
        packed: Keys as panels (positions / 32, D / step, 32), then values as (D / 32, positions /
            step, 32), then, for integers, the keys' and the values' scales and the keys' sums.
        positions: How many positions there are.
        D: Head size, a multiple of PANEL.
    """

    var packed: Ints
    var positions: Int
    var D: Int

    def padded(self) -> Int:
        return packed_positions(self.positions)

    def words(self) -> Int:
        """How many words all of it takes."""
        var both = self.words_of[keys_in[Self.mode]()]() + self.words_of[values_in[Self.mode]()]()
        return both + (3 * self.padded() if has_scales[Self.mode]() else 0)

    def words_of[words_in: StaticString](self) -> Int:
        """How many words keys or values take that are kept so."""
        return self.padded() * self.D // step[words_in]()

    def values(self) -> Ints:
        return self.packed.unsafe_offset(self.words_of[keys_in[Self.mode]()]())

    def key_scales(self) -> Floats:
        return floats(self.values().unsafe_offset(self.words_of[values_in[Self.mode]()]()))

    def value_scales(self) -> Floats:
        return self.key_scales().unsafe_offset(self.padded())

    def key_sums(self) -> Floats:
        """What each key's components add up to, as stored."""
        return self.value_scales().unsafe_offset(self.padded())

    def pack(self, keys: Floats, values: Floats, row: Int, scale: F32):
        """Packs keys (positions, D), multiplied by `scale`, and values, both with rows `row` apart."""
        comptime S = step[keys_in[Self.mode]()]()
        var scaled = unsafe_alloc[F32](2 * self.D, alignment=64)
        var column = words(scaled).unsafe_offset(self.D)
        for p in range(self.padded()):
            fetch_row(keys.unsafe_offset(p * row), row, self.D)
            var inside = p < self.positions
            for d in range(0, self.D, WIDTH):
                scaled.unsafe_store(d, keys.unsafe_load[width=WIDTH](p * row + d) * Vec(scale) if inside else Vec(0))
            var key = stored[keys_in[Self.mode]()](column, scaled, self.D)
            comptime if has_scales[Self.mode]():
                self.key_scales()[unsafe_offset=p] = key[0]
                self.key_sums()[unsafe_offset=p] = key[1]
            var target = self.packed.unsafe_offset((p // PANEL) * PANEL * self.D // S + p % PANEL)
            for k in range(self.D // S):
                target[unsafe_offset=k * PANEL] = column[unsafe_offset=k]
        scaled.unsafe_free()
        self._pack_values(values, row)

    def _pack_values(self, values: Floats, row: Int):
        comptime words_in = values_in[Self.mode]()
        comptime S = step[words_in]()
        var target = self.values()
        var inverse = Array[F32, S](fill=F32(1))
        for k in range(self.padded() // S):
            comptime for i in range(S):
                fetch_row(values.unsafe_offset((k * S + i) * row), row, self.D)
            comptime if has_scales[Self.mode]():
                comptime for i in range(S):
                    var p = k * S + i
                    var top = most(values.unsafe_offset(p * row), self.D) if p < self.positions else F32(0)
                    self.value_scales()[unsafe_offset=p] = top / largest[words_in]()
                    inverse[i] = largest[words_in]() / top if top > 0 else F32(0)
            for d in range(0, self.D, WIDTH):
                var neighbours = Array[Vec, S](fill=Vec(0))
                comptime for i in range(S):
                    if k * S + i < self.positions:
                        neighbours[i] = values.unsafe_load[width=WIDTH]((k * S + i) * row + d) * Vec(inverse[i])
                var place = ((d // PANEL) * (self.padded() // S) + k) * PANEL + d % PANEL
                target.unsafe_store(place, joined_neighbours[words_in](neighbours))


# The largest int16 of a value and of a weight. An int32 holds as many products as there are
# positions in a chunk (`attention.mojo`), and no more.
comptime MOST_VALUE = 255
comptime MOST_WEIGHT = 16383


@always_inline
def largest[words_in: StaticString]() -> F32:
    """The largest integer that a value is stored as."""
    return 127 if words_in == "int8" else F32(MOST_VALUE)


@always_inline
def largest_weight[words_in: StaticString]() -> F32:
    """The largest integer that a weight of values that are kept so is multiplied as."""
    comptime if multiplied_here[words_in]() == "int8":
        return 255 + LOWEST_BYTE.cast[DType.float32]()
    return F32(MOST_WEIGHT if words_in == "int16" else MOST)


@always_inline
def stored[words_in: StaticString](target: Ints, x: Floats, D: Int) -> Tuple[F32, F32]:
    """A key as the words that are kept; returns its scale, and what its bytes stand for in all."""
    comptime if words_in == "bfloat16":
        round_pairs(target, x, D)
        return (F32(1), F32(0))
    comptime if words_in == "int16":
        return (pack_row["int16", "int16"](target, x, D).step, F32(0))
    comptime if words_in == "int8" or words_in == "bounded":
        var scale = most(x, D) / 127
        comptime if words_in == "bounded":
            # Rounding adds a half to each of four at most.
            scale = max(scale, fullest_four(x, D) / (BOUND - 2))
        var inverse = 1 / scale if scale > 0 else F32(0)
        var sum = Words(0)
        for d in range(0, D, WIDTH):
            var q = rounded(x.unsafe_load[width=WIDTH](d) * Vec(inverse))
            sum += q
            target.unsafe_bitcast[Int8]().unsafe_store(d, q.cast[DType.int8]())
        return (scale, sum.reduce_add().cast[DType.float32]() * scale)
    for k in range(D):
        floats(target)[unsafe_offset=k] = x[unsafe_offset=k]
    return (F32(1), F32(0))


@always_inline
def fullest_four(x: Floats, D: Int) -> F32:
    """The most that numbers of one sign add up to among the four that meet in an int16 sum.

    Of the eight of two words these are the first two of each word, or the last two.
    """
    comptime Eight = SIMD[DType.float32, 8]
    var most = Eight(0)
    for d in range(0, D, 8):
        var eight = x.unsafe_load[width=8](d)
        comptime for sign in range(2):
            var sums = larger[8](eight if sign == 0 else -eight, Eight(0))
            sums += sums.shuffle[1, 0, 3, 2, 5, 4, 7, 6]()
            most = larger[8](most, sums + sums.rotate_left[4]())
    return most.reduce_max()


@always_inline
def rounded(x: Vec) -> Words:
    """The nearest integers, of magnitudes up to MOST."""
    return (x + Vec(F32(MOST) + 1.5)).cast[DType.int32]() - Words(MOST + 1)


@always_inline
def joined_neighbours[words_in: StaticString](x: Array[Vec, step[words_in]()]) -> Words:
    """Values of neighbouring positions, already scaled, in the words that keep them."""
    comptime if words_in == "float32":
        return bitcast[DType.int32, WIDTH](x[0])
    comptime if words_in == "bfloat16":
        return bfloat16_pair[WIDTH](x[0], x[1])
    comptime bits = 32 // step[words_in]()
    var word = Words(0)
    comptime for i in range(step[words_in]()):
        word |= (rounded(x[i]) & Words((1 << bits) - 1)) << Words(bits * i)
    return word
