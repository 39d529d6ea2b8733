"""The tokens: what each is as a vector, and what logit a vector gives it.

A step reads the whole vocabulary to choose one token of it. In int8 most of it is therefore read
in four bits, which tell which tokens come into question; only their logits are then computed from
eight. The others' count for their part of the sum of probabilities, where an error of a few tenths
in the logit of an improbable token does not show.
"""

from std.bit import count_trailing_zeros
from std.math import sqrt
from std.memory import bitcast, pack_bits
from std.memory.alloc import unsafe_alloc

from .epilogue import Layer
from .pack import pack_row, row_words
from .panels import Packed, block_panels, sweep_panels
from .tile import (
    F32,
    Floats,
    Ints,
    LINE,
    PANEL,
    Panel,
    ROWS,
    WIDTH,
    Words,
    ceildiv,
    dot,
    fetch,
    floats,
    multiplied,
    parts,
    step,
    widened,
)

comptime Addresses = Pointer[Int64, MutUntrackedOrigin]
comptime PART = 2048  # tokens that are looked at together
comptime UNCOMMON = 2.5  # standard deviations above a part's mean from which a logit is looked at again
comptime NEGLIGIBLE = F32(8)  # a token whose logit is that much lower has 1/3000 of the probability
comptime FEW = 16  # channels that stand out
comptime KIND = multiplied["int8"]()
comptime QUICK = multiplied["int4"]()


@fieldwise_init
struct Vectors(ImplicitlyCopyable, Movable):
    """Rows of K numbers as words, in two parts: a few that stand out, and the rest, which may be all.

    The rest is there twice: as eight bits of a token meet it and as four do, which may be multiplied otherwise.

    Fields:
        few: Those that stand out.
        rest: The rest, for eight bits.
        quick: The rest, for four bits.
        least: Of each row, the logit below which a token counts for so little that four bits will do.
    """

    var few: Packed
    var rest: Packed
    var quick: Packed
    var least: Floats

    def row(self, row: Int) -> Self:
        """The rows from that one on."""
        return Self(self.few.row(row), self.rest.row(row), self.quick.row(row), self.least.unsafe_offset(row))


@fieldwise_init
struct Room(ImplicitlyCopyable, Movable):
    """Where a thread computes: for CHUNK rows.

    Fields:
        wide: A part of a panel, widened.
        sums: Sums of products.
        found: Tokens of a part.
    """

    var wide: Ints
    var sums: Ints
    var found: Ints


trait Vocabulary(Deinitable, ImplicitlyCopyable, Movable):
    """V tokens of K numbers each."""

    comptime PLACES: Int
    """How many numbers say what there is, see `at`."""

    comptime EXACT: Bool
    """Whether logits are worth sums of probabilities to float32's precision."""

    @staticmethod
    def at(places: Addresses, K: Int) -> Self:
        """The vocabulary that `vocabulary_places` of `graph/vocabulary.py` tells of.

        Args:
            places: How many tokens there are and how many of them, in whole panels, are text and nothing
                else; then the addresses of the arrays.
            K: Numbers of a token.
        """
        ...

    def tokens(self) -> Int:
        ...

    def quick_tokens(self) -> Int:
        """How many of them are looked at in four bits first, all of a part together."""
        ...

    def embed(self, result: Floats, token: Int):
        """The token's K numbers."""
        ...

    def few_words(self) -> Int:
        """Words of the few numbers of a row that stand out."""
        ...

    def rest_words(self) -> Int:
        """Words of the rest."""
        ...

    def quick_words(self) -> Int:
        """Words of the rest as four bits meet it."""
        ...

    def pack(self, vectors: Vectors, row: Int, x: Floats):
        """K numbers as the row of that number."""
        ...

    def least_beside(self, vectors: Vectors, token: Int) -> F32:
        """The logit below which tokens count for next to nothing beside that one, for the first row."""
        ...

    def logits(self, result: Floats, result_row: Int, vectors: Vectors, rows: Int, first: Int, stop: Int, room: Room):
        """The logits of the tokens from `first` to `stop` - 1.

        Args:
            result: The first token's.
            result_row: Distance between rows of logits.
            vectors: The rows.
            rows: How many, at most CHUNK.
            first: A multiple of PART.
            stop: A multiple of PART too, or of PANEL, or V.
            room: Room.
        """
        ...

    def all_logits(self, result: Floats, result_row: Int, vectors: Vectors, rows: Int, first: Int, stop: Int, room: Room):
        """The same with every one as near as can be."""
        ...


def pack_at[mode: StaticString](packed: Packed, row: Int, x: Floats, K: Int):
    """K numbers as the packed row of that number."""
    packed.scales[unsafe_offset=row] = pack_row[mode, multiplied[mode]()](
        packed.words.unsafe_offset(row * packed.row_length), x, K
    )


def panel_logits[
    mode: StaticString, has_residual: Bool
](result: Floats, result_row: Int, packed: Packed, rows: Int, layer: Layer, first: Int, stop: Int, room: Room):
    """Logits of a layer's panels, added to what is there where `has_residual`."""
    if rows <= ROWS:
        sweep_panels[mode, "none", has_residual, False](
            result, result_row, packed, rows, layer, first, stop, result, room.sums
        )
    else:
        block_panels[mode, "none", has_residual, False](
            result, result_row, packed, rows, layer, first, stop, result, room.wide, room.sums
        )


@fieldwise_init
struct PlainVocabulary[mode: StaticString](Vocabulary):
    """One layer, in the words of a precision."""

    comptime PLACES = 4
    comptime EXACT = Self.mode == "float32" or Self.mode == "float16"

    var layer: Layer

    @staticmethod
    def at(places: Addresses, K: Int) -> Self:
        return Self(layer_at(places.unsafe_offset(2), Int(places[]), K))

    def tokens(self) -> Int:
        return self.layer.N

    def quick_tokens(self) -> Int:
        return 0

    def embed(self, result: Floats, token: Int):
        comptime S = step[Self.mode]()
        var K = self.layer.K
        var panel = self.layer.weight.unsafe_offset(token // PANEL * ceildiv(K, S) * PANEL)
        var column = token % PANEL
        for k in range(K):
            comptime if Self.mode == "float16":
                var halves = panel.unsafe_bitcast[Float16]()
                result[unsafe_offset=k] = halves[unsafe_offset=k * PANEL + column].cast[DType.float32]()
            else:
                var word = panel[unsafe_offset=k // S * PANEL + column]
                comptime if Self.mode == "bfloat16":
                    word = word & -65536 if k % 2 == 1 else word << 16
                result[unsafe_offset=k] = bitcast[DType.float32, 1](word)

    def few_words(self) -> Int:
        return 0

    def rest_words(self) -> Int:
        return row_words[Self.mode, multiplied[Self.mode]()](self.layer.K)

    def quick_words(self) -> Int:
        return 0

    def pack(self, vectors: Vectors, row: Int, x: Floats):
        pack_at[Self.mode](vectors.rest, row, x, self.layer.K)

    def least_beside(self, vectors: Vectors, token: Int) -> F32:
        return F32.MIN  # all are alike

    def logits(self, result: Floats, result_row: Int, vectors: Vectors, rows: Int, first: Int, stop: Int, room: Room):
        panel_logits[Self.mode, False](
            result, result_row, vectors.rest, rows, self.layer, first // PANEL, ceildiv(stop, PANEL), room
        )

    def all_logits(self, result: Floats, result_row: Int, vectors: Vectors, rows: Int, first: Int, stop: Int, room: Room):
        self.logits(result, result_row, vectors, rows, first, stop, room)


def layer_at(arrays: Addresses, N: Int, K: Int) -> Layer:
    """The packed layer whose panels and epilogue lie there."""
    return Layer(ints_at(arrays), floats(ints_at(arrays.unsafe_offset(1))), N, K)


def ints_at(arrays: Addresses) -> Ints:
    return Ints(unsafe_from_address=Int(arrays[]))


@fieldwise_init
struct QuickVocabulary(Vocabulary):
    """int8, of which most is looked at in four bits first.

    A vector's numbers come in another order, `channels`, those that stand out first, and multiplied by
    `factors`, by which the weights were divided: both make the four bits go further.

    Fields:
        few: The first channels, all tokens, int8.
        text: The other channels of text in whole panels, int4.
        others: The other channels of the tokens that follow it, int8.
        table: (V, table_row) all of a token's channels in int8: a line with the few, then their scale
            and sum and the rest's, and lines of the rest.
        channels: (K,).
        factors: (K,).
    """

    comptime PLACES = 11
    comptime EXACT = False

    var few: Layer
    var text: Layer
    var others: Layer
    var table: Ints
    var channels: Ints
    var factors: Floats

    @staticmethod
    def at(places: Addresses, K: Int) -> Self:
        var V = Int(places[])
        var text = Int(places[unsafe_offset=1])
        var arrays = places.unsafe_offset(2)
        return Self(
            layer_at(arrays, V, FEW),
            layer_at(arrays.unsafe_offset(2), text, K - FEW),
            layer_at(arrays.unsafe_offset(4), V - text, K - FEW),
            ints_at(arrays.unsafe_offset(6)),
            ints_at(arrays.unsafe_offset(7)),
            floats(ints_at(arrays.unsafe_offset(8))),
        )

    def tokens(self) -> Int:
        return self.few.N

    def quick_tokens(self) -> Int:
        return self.text.N

    def lines(self) -> Int:
        """Lines of the rest of a token."""
        return ceildiv(self.text.K, 4 * LINE)

    def token(self, token: Int) -> Ints:
        return self.table.unsafe_offset(token * (1 + self.lines()) * LINE)

    def embed(self, result: Floats, token: Int):
        var few = self.token(token)
        var rest = few.unsafe_offset(LINE)
        var scales = floats(few.unsafe_offset(FEW // 4))
        for i in range(FEW + self.text.K):
            var bytes = (few if i < FEW else rest).unsafe_bitcast[Int8]()
            var weight = F32(bytes[unsafe_offset=i if i < FEW else i - FEW])
            weight *= scales[] if i < FEW else scales[unsafe_offset=2]
            result[unsafe_offset=Int(self.channels[unsafe_offset=i])] = weight * self.factors[unsafe_offset=i]

    def few_words(self) -> Int:
        return LINE * parts["int8", KIND]()

    def rest_words(self) -> Int:
        return self.lines() * LINE * parts["int8", KIND]()

    def quick_words(self) -> Int:
        return row_words["int4", QUICK](self.text.K)

    def pack(self, vectors: Vectors, row: Int, x: Floats):
        # What fills up the lines is zero, as it meets what else a token's first line holds.
        var K = FEW + self.text.K
        var values = unsafe_alloc[F32]((1 + self.lines()) * 4 * LINE, alignment=64)
        for i in range((1 + self.lines()) * 4 * LINE):
            values[unsafe_offset=i] = 0
        for i in range(K):
            var value = x[unsafe_offset=Int(self.channels[unsafe_offset=i])] * self.factors[unsafe_offset=i]
            values[unsafe_offset=i if i < FEW else i - FEW + 4 * LINE] = value
        pack_at["int8"](vectors.few, row, values, FEW)
        var words = vectors.few.words.unsafe_offset(row * vectors.few.row_length)
        for i in range(FEW // 4 * parts["int8", KIND](), self.few_words()):
            words[unsafe_offset=i] = 0
        var rest = values.unsafe_offset(4 * LINE)
        # Where both are multiplied alike they are the same, which costs next to nothing.
        pack_at["int8"](vectors.rest, row, rest, 4 * LINE * self.lines())
        pack_at["int4"](vectors.quick, row, rest, self.text.K)
        values.unsafe_free()

    def least_beside(self, vectors: Vectors, token: Int) -> F32:
        return self.logit(vectors, token) - NEGLIGIBLE

    def logits(self, result: Floats, result_row: Int, vectors: Vectors, rows: Int, first: Int, stop: Int, room: Room):
        panel_logits["int8", False](
            result, result_row, vectors.few, rows, self.few, first // PANEL, ceildiv(stop, PANEL), room
        )
        var text = min(stop, self.text.N)
        if first < text:
            panel_logits["int4", True](
                result, result_row, vectors.quick, rows, self.text, first // PANEL, text // PANEL, room
            )
        var others = max(first, self.text.N)
        if others < stop:
            panel_logits["int8", True](
                result.unsafe_offset(others - first),
                result_row,
                vectors.rest,
                rows,
                self.others,
                (others - self.text.N) // PANEL,
                ceildiv(stop - self.text.N, PANEL),
                room,
            )
        for row in range(rows):
            for part in range(first, text, PART):
                var place = result.unsafe_offset(row * result_row + part - first)
                self.look_again(place, vectors.row(row), part, min(PART, text - part), room.found)

    def look_again(self, logits: Floats, vector: Vectors, first: Int, count: Int, found: Ints):
        """Computes those logits of a part of the text that are uncommonly high from eight bits."""
        var sum = Panel(0)
        var squares = Panel(0)
        for i in range(0, count, PANEL):
            var x = logits.unsafe_load[width=PANEL](i)
            sum += x
            squares = x.fma(x, squares)
        var mean = sum.reduce_add() / F32(count)
        var deviation = sqrt(max(F32(0), squares.reduce_add() / F32(count) - mean * mean))
        var high = Panel(max(mean + UNCOMMON * deviation, vector.least[]))
        var many = 0
        for i in range(0, count, PANEL):
            var higher = pack_bits(logits.unsafe_load[width=PANEL](i).gt(high))
            while higher != 0:
                var i_found = i + Int(count_trailing_zeros(higher))
                found[unsafe_offset=many] = Int32(i_found)
                many += 1
                for line in range(1 + self.lines()):
                    fetch(floats(self.token(first + i_found).unsafe_offset(line * LINE)))
                higher &= higher - 1
        for i in range(many):
            var token = Int(found[unsafe_offset=i])
            logits[unsafe_offset=token] = self.logit(vector, first + token)

    def logit(self, vector: Vectors, token: Int) -> F32:
        """A token's logit from eight bits."""
        var few = self.token(token)
        var sums = few.unsafe_offset(FEW // 4)
        var x = product(vector.few, few, LINE, sums)
        return x + product(vector.rest, few.unsafe_offset(LINE), self.lines() * LINE, sums.unsafe_offset(2))

    def all_logits(self, result: Floats, result_row: Int, vectors: Vectors, rows: Int, first: Int, stop: Int, room: Room):
        for token in range(first, stop):
            for row in range(rows):
                result[unsafe_offset=row * result_row + token - first] = self.logit(vectors.row(row), token)


@always_inline
def product(a: Packed, weights: Ints, words: Int, scale_and_sum: Ints) -> F32:
    """A packed row times int8 weights in a row."""
    comptime P = parts["int8", KIND]()
    var sums = Words(0)
    for i in range(0, words, WIDTH):
        comptime for part in range(P):
            var x: Words
            comptime if P == 1:
                x = a.words.unsafe_load[width=WIDTH](i)
            else:
                x = rebind[Words](a.words.unsafe_load[width=2 * WIDTH](2 * i).deinterleave()[part])
            sums = dot[KIND](sums, x, widened["int8", KIND, part](weights.unsafe_offset(i), 0))
    var scale = a.scales[]
    var sum = sums.reduce_add() - scale_and_sum[unsafe_offset=1] * scale.zero
    return F32(sum) * (floats(scale_and_sum)[] * scale.step)
