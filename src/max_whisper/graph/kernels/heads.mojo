"""A head's keys and values, packed in the panel layout of `tile`.

Scores are a product with the keys (K = head size, columns = positions), the result a product with
the values (K = positions, columns = head size). Integers have a scale for each position, of its
key and of its value; queries of bytes have their zero anywhere, which the keys' sums make up for.
"""

from std.collections import Array
from std.memory import bitcast
from std.memory.alloc import unsafe_alloc

from .pack import MOST, bfloat16_pair, most, pack_row, round_pairs
from .tile import F32, Floats, Ints, PANEL, WIDTH, Vec, Words, ceildiv, floats, multiplied, step, words


@always_inline
def multiplied_here[mode: StaticString]() -> StaticString:
    """In what keys and values stored as `mode` are multiplied."""
    return "int16" if mode == "int16" else multiplied[mode]()


@always_inline
def has_scales[mode: StaticString]() -> Bool:
    """Whether positions have scales."""
    return mode == "int8" or mode == "int16"


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
        return 2 * self.half() + (3 * self.padded() if has_scales[Self.mode]() else 0)

    def half(self) -> Int:
        """How many words the keys take, or the values."""
        return self.padded() * self.D // step[Self.mode]()

    def values(self) -> Ints:
        return self.packed.unsafe_offset(self.half())

    def key_scales(self) -> Floats:
        return floats(self.values().unsafe_offset(self.half()))

    def value_scales(self) -> Floats:
        return self.key_scales().unsafe_offset(self.padded())

    def key_sums(self) -> Floats:
        """What each key's components add up to, as stored."""
        return self.value_scales().unsafe_offset(self.padded())

    def pack(self, keys: Floats, values: Floats, row: Int, scale: F32):
        """Packs keys (positions, D), multiplied by `scale`, and values, both with rows `row` apart."""
        comptime S = step[Self.mode]()
        var scaled = unsafe_alloc[F32](2 * self.D, alignment=64)
        var column = words(scaled).unsafe_offset(self.D)
        for p in range(self.padded()):
            var inside = p < self.positions
            for d in range(0, self.D, WIDTH):
                scaled.unsafe_store(d, keys.unsafe_load[width=WIDTH](p * row + d) * Vec(scale) if inside else Vec(0))
            var key = stored[Self.mode](column, scaled, self.D)
            comptime if has_scales[Self.mode]():
                self.key_scales()[unsafe_offset=p] = key[0]
                self.key_sums()[unsafe_offset=p] = key[1]
            var target = self.packed.unsafe_offset((p // PANEL) * PANEL * self.D // S + p % PANEL)
            for k in range(self.D // S):
                target[unsafe_offset=k * PANEL] = column[unsafe_offset=k]
        scaled.unsafe_free()
        self._pack_values(values, row)

    def _pack_values(self, values: Floats, row: Int):
        comptime S = step[Self.mode]()
        var target = self.values()
        var inverse = Array[F32, S](fill=F32(1))
        for k in range(self.padded() // S):
            comptime if has_scales[Self.mode]():
                comptime for i in range(S):
                    var p = k * S + i
                    var top = most(values.unsafe_offset(p * row), self.D) if p < self.positions else F32(0)
                    self.value_scales()[unsafe_offset=p] = top / largest[Self.mode]()
                    inverse[i] = largest[Self.mode]() / top if top > 0 else F32(0)
            for d in range(0, self.D, WIDTH):
                var neighbours = Array[Vec, S](fill=Vec(0))
                comptime for i in range(S):
                    if k * S + i < self.positions:
                        neighbours[i] = values.unsafe_load[width=WIDTH]((k * S + i) * row + d) * Vec(inverse[i])
                var place = ((d // PANEL) * (self.padded() // S) + k) * PANEL + d % PANEL
                target.unsafe_store(place, joined_neighbours[Self.mode](neighbours))


@always_inline
def largest[mode: StaticString]() -> F32:
    """The largest integer that a key or value is stored as."""
    return 127 if mode == "int8" else F32(MOST)


@always_inline
def stored[mode: StaticString](target: Ints, x: Floats, D: Int) -> Tuple[F32, F32]:
    """A key as the words that the cache keeps; returns its scale, and what its bytes stand for in all."""
    comptime if mode == "bfloat16":
        round_pairs(target, x, D)
        return (F32(1), F32(0))
    comptime if mode == "int16":
        return (pack_row["int16", "int16"](target, x, D).step, F32(0))
    comptime if mode == "int8":
        var top = most(x, D)
        var inverse = 127 / top if top > 0 else F32(0)
        var sum = Words(0)
        for d in range(0, D, WIDTH):
            var q = rounded(x.unsafe_load[width=WIDTH](d) * Vec(inverse))
            sum += q
            target.unsafe_bitcast[Int8]().unsafe_store(d, q.cast[DType.int8]())
        return (top / 127, sum.reduce_add().cast[DType.float32]() * (top / 127))
    for k in range(D):
        floats(target)[unsafe_offset=k] = x[unsafe_offset=k]
    return (F32(1), F32(0))


@always_inline
def rounded(x: Vec) -> Words:
    """The nearest integers, of magnitudes up to MOST."""
    return (x + Vec(F32(MOST) + 1.5)).cast[DType.int32]() - Words(MOST + 1)


@always_inline
def joined_neighbours[mode: StaticString](x: Array[Vec, step[mode]()]) -> Words:
    """Values of neighbouring positions, already scaled, in the words that keep them."""
    comptime if mode == "float32":
        return bitcast[DType.int32, WIDTH](x[0])
    comptime if mode == "bfloat16":
        return bfloat16_pair[WIDTH](x[0], x[1])
    comptime bits = 32 // step[mode]()
    var word = Words(0)
    comptime for i in range(step[mode]()):
        word |= (rounded(x[i]) & Words((1 << bits) - 1)) << Words(bits * i)
    return word
