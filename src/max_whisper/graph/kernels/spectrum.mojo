"""The spectra of short frames: as many of them side by side as a vector has lanes.

A frame's FRAME real samples are a complex sequence of half as many, whose transform (Stockham's, in stages
of four) tells theirs.
"""

from std.collections import Array
from std.math import sqrt

from .tile import Floats, Vec, WIDTH

comptime FRAME = 256
comptime HALF = FRAME // 2
comptime BINS = HALF + 1
comptime ROUNDS = 4 if WIDTH == 16 else 3 if WIDTH == 8 else 2  # that make columns of a square's rows
comptime FRAME_ROWS = FRAME + 32  # of a frame's samples, or its bins, side by side: whole squares


@fieldwise_init
struct Spectrum(ImplicitlyCopyable, Movable):
    """What frames are multiplied by; see `pack_silero`.

    Fields:
        window: (FRAME,) half of the window's values.
        turns: The stages' factors: for each place cosine and sine of one, two and three of its angles.
        last: (HALF / 2, 2) cosine and sine of what bin k = 0, 1, 2 ... is turned by.
    """

    var window: Floats
    var turns: Floats
    var last: Floats

    def magnitudes(self, result: Floats, row: Int, frames: Array[Floats, WIDTH], room: Floats):
        """The magnitudes of the bins of WIDTH frames.

        Args:
            result: (WIDTH, BINS) and what else makes whole vectors, rows `row` apart.
            row: Distance between the frames' bins.
            frames: Where FRAME samples of each lie.
            room: For 2 * FRAME_ROWS vectors.
        """
        var x = room
        var y = room.unsafe_offset(FRAME_ROWS * WIDTH)
        for n in range(0, FRAME, WIDTH):
            var square = Array[Vec, WIDTH](fill=Vec(0))
            var window = self.window.unsafe_load[width=WIDTH](n)
            comptime for i in range(WIDTH):
                square[i] = frames[i].unsafe_load[width=WIDTH](n) * window
            square = transposed(square)
            comptime for i in range(WIDTH):
                x.unsafe_store((n + i) * WIDTH, square[i])
        fourths[HALF, 1](y, x, self.turns)
        fourths[HALF // 4, 4](x, y, self.turns.unsafe_offset(6 * HALF // 4))
        fourths[HALF // 16, 16](y, x, self.turns.unsafe_offset(6 * (HALF // 4 + HALF // 16)))
        for k in range(HALF // 2):
            halves(x, y, k)
        self.bins(y, x)
        for k in range(0, BINS, WIDTH):
            var square = Array[Vec, WIDTH](fill=Vec(0))
            comptime for i in range(WIDTH):
                square[i] = y.unsafe_load[width=WIDTH]((k + i) * WIDTH)
            square = transposed(square)
            comptime for i in range(WIDTH):
                result.unsafe_store(i * row + k, square[i])

    @always_inline
    def bins(self, result: Floats, x: Floats):
        """(BINS, WIDTH) magnitudes of the real frames' bins from the (HALF, 2, WIDTH) transform."""
        var first = number(x, 0)
        result.unsafe_store(0, abs(first[0] + first[1]) * 2)
        result.unsafe_store(HALF * WIDTH, abs(first[0] - first[1]) * 2)
        var middle = number(x, HALF // 2)
        result.unsafe_store(HALF // 2 * WIDTH, sqrt(middle[0] * middle[0] + middle[1] * middle[1]) * 2)
        for k in range(1, HALF // 2):
            var a = number(x, k)
            var b = number(x, HALF - k)
            var even = (a[0] + b[0], a[1] - b[1])
            var odd = (a[1] + b[1], b[0] - a[0])
            var turned = times(odd, self.last.unsafe_offset(2 * k))
            var one = (even[0] + turned[0], even[1] + turned[1])
            var other = (even[0] - turned[0], even[1] - turned[1])
            result.unsafe_store(k * WIDTH, sqrt(one[0] * one[0] + one[1] * one[1]))
            result.unsafe_store((HALF - k) * WIDTH, sqrt(other[0] * other[0] + other[1] * other[1]))


comptime Number = Tuple[Vec, Vec]  # real and imaginary parts


@always_inline
def number(x: Floats, n: Int) -> Number:
    return (x.unsafe_load[width=WIDTH](2 * n * WIDTH), x.unsafe_load[width=WIDTH]((2 * n + 1) * WIDTH))


@always_inline
def put(x: Floats, n: Int, value: Number):
    x.unsafe_store(2 * n * WIDTH, value[0])
    x.unsafe_store((2 * n + 1) * WIDTH, value[1])


@always_inline
def times(x: Number, turn: Floats) -> Number:
    """Turned back by the angle whose cosine and sine lie there."""
    var c = Vec(turn[])
    var s = Vec(turn[unsafe_offset=1])
    return (x[0] * c + x[1] * s, x[1] * c - x[0] * s)


@always_inline
def plus(x: Number, y: Number) -> Number:
    return (x[0] + y[0], x[1] + y[1])


@always_inline
def minus(x: Number, y: Number) -> Number:
    return (x[0] - y[0], x[1] - y[1])


def fourths[N: Int, S: Int](y: Floats, x: Floats, turns: Floats):
    """A stage of four: S sequences of N numbers, S apart, become 4 * S of a quarter of the length."""
    comptime Q = N // 4
    for p in range(Q):
        var turn = turns.unsafe_offset(6 * p)
        for q in range(S):
            var a = number(x, q + S * p)
            var b = number(x, q + S * (p + Q))
            var c = number(x, q + S * (p + 2 * Q))
            var d = number(x, q + S * (p + 3 * Q))
            var even = plus(a, c)
            var odd = minus(a, c)
            var other = plus(b, d)
            var across = minus(b, d)
            var place = q + S * 4 * p
            put(y, place, plus(even, other))
            put(y, place + S, times((odd[0] + across[1], odd[1] - across[0]), turn))
            put(y, place + 2 * S, times(minus(even, other), turn.unsafe_offset(2)))
            put(y, place + 3 * S, times((odd[0] - across[1], odd[1] + across[0]), turn.unsafe_offset(4)))


@always_inline
def halves(y: Floats, x: Floats, q: Int):
    """The last stage: sequences of two."""
    var a = number(x, q)
    var b = number(x, q + HALF // 2)
    put(y, q, plus(a, b))
    put(y, q + HALF // 2, minus(a, b))


@always_inline
def transposed(given: Array[Vec, WIDTH]) -> Array[Vec, WIDTH]:
    """A square's rows as its columns: each round takes the highest bit of a row's number into the column's."""
    var x = given.copy()
    comptime for _ in range(ROUNDS):
        var y = Array[Vec, WIDTH](fill=Vec(0))
        comptime for i in range(WIDTH // 2):
            var both = x[i].interleave(x[i + WIDTH // 2])
            y[2 * i] = rebind[Vec](both.slice[WIDTH, offset=0]())
            y[2 * i + 1] = rebind[Vec](both.slice[WIDTH, offset=WIDTH]())
        x = y^
    return x^
