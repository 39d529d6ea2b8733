"""The next token's candidates, chosen where the logits are.

The semantics are those of `max_whisper.decoding.candidates`. The vocabulary is divided into parts,
none of which has both text and timestamps: each part gives its maximum, the sum of its
exponentials and its best tokens, from which everything asked for follows, whoever did the parts.
"""

from std.bit import count_trailing_zeros
from std.math import exp, log
from std.memory import bitcast, pack_bits
from std.memory.alloc import unsafe_alloc

from .pack import larger
from .softmax import LANES, LOG2_E, Lanes, power_of_two
from .tile import F32, Floats, Ints, PANEL, Panel, Vec, WIDTH, ceildiv
from .vocabulary import PART

comptime NEVER = F32.MIN  # minus infinity
comptime UVec = SIMD[DType.uint32, WIDTH]

# Columns of a row of `limits`.
comptime FIRST = 0
comptime TIMESTAMP_BEGIN = 1
comptime TIMESTAMP_FIRST = 2
comptime TIMESTAMP_STOP = 3
comptime WEIGH = 4
comptime WATCH = 5
comptime SEED_LOW = 6
comptime SEED_HIGH = 7
comptime WATCH_STOP = 8
comptime LIMITS = 9


# What is kept of a part: the allowed logits' maximum and sum, the raw ones', the drawn one, the watched one.
comptime SUMS = 6


def forbid(x: Floats, start: Int, stop: Int):
    for i in range(start, stop):
        x[unsafe_offset=i] = NEVER


@fieldwise_init
struct Sum(ImplicitlyCopyable, Movable):
    """The maximum of some numbers, and the sum of exp(number - maximum)."""

    var top: F32
    var total: F32

    def __init__(out self):
        self.top = NEVER
        self.total = 0

    @staticmethod
    def of[exact: Bool](x: Floats, count: Int) -> Self:
        """Of `count` numbers; unless `exact`, to a relative error of 1e-4."""
        var vector = Panel(NEVER)
        var whole = count - count % PANEL
        for i in range(0, whole, PANEL):
            vector = larger[PANEL](vector, x.unsafe_load[width=PANEL](i))
        var top = vector.reduce_max()
        for i in range(whole, count):
            top = max(top, x[unsafe_offset=i])
        if top == NEVER:
            return Self()
        var sum = Lanes(0)
        for i in range(0, whole, LANES):
            var below = x.unsafe_load[width=LANES](i) - Lanes(top)
            sum += exp(below) if exact else power_of_two(below * LOG2_E)  # of minus infinity next to nothing
        var total = sum.reduce_add()
        for i in range(whole, count):
            total += exp(x[unsafe_offset=i] - top)
        return Self(top, total)

    def add(mut self, other: Self):
        """Takes other numbers in."""
        if other.top == NEVER:
            return
        var top = max(self.top, other.top)
        var mine = self.total * exp(self.top - top) if self.top != NEVER else F32(0)
        self.total = mine + other.total * exp(other.top - top)
        self.top = top

    def log(self) -> F32:
        """The logarithm of the sum of the exponentials; minus infinity where there is none."""
        return NEVER if self.top == NEVER else self.top + log(self.total)


@always_inline
def lowbias32(value: UVec) -> UVec:
    """A 32-bit mixing function (constants by Chris Wellons' search, "lowbias32")."""
    var x = value
    x ^= x >> UVec(16)
    x *= UVec(0x7FEB352D)
    x ^= x >> UVec(15)
    x *= UVec(0x846CA68B)
    x ^= x >> UVec(16)
    return x


@fieldwise_init
struct Best(ImplicitlyCopyable, Movable):
    """The k best tokens that were offered, best first; ties go to the one that was offered first."""

    var tokens: Ints
    var values: Floats
    var k: Int

    def clear(self):
        for i in range(self.k):
            self.tokens[unsafe_offset=i] = -1
            self.values[unsafe_offset=i] = NEVER

    def least(self) -> F32:
        """What a value must exceed; minus infinity, too, while places are free."""
        return self.values[unsafe_offset=self.k - 1]

    @always_inline
    def offer(self, token: Int32, value: F32):
        var free = self.tokens[unsafe_offset=self.k - 1] < 0
        if not (free or value > self.least()):
            return
        var place = self.k - 1
        while place > 0 and (
            self.tokens[unsafe_offset=place - 1] < 0 or value > self.values[unsafe_offset=place - 1]
        ):
            self.values[unsafe_offset=place] = self.values[unsafe_offset=place - 1]
            self.tokens[unsafe_offset=place] = self.tokens[unsafe_offset=place - 1]
            place -= 1
        self.values[unsafe_offset=place] = value
        self.tokens[unsafe_offset=place] = token

    def search(self, x: Floats, start: Int, count: Int):
        """Offers x[0] to x[count - 1], the tokens from `start` on."""
        for i in range(0, count, PANEL):
            if i + PANEL > count or self.tokens[unsafe_offset=self.k - 1] < 0:
                for lane in range(i, min(i + PANEL, count)):
                    self.offer(Int32(start + lane), x[unsafe_offset=lane])
                continue
            # Few are worth a look.
            var better = pack_bits(x.unsafe_load[width=PANEL](i).gt(Panel(self.least())))
            while better != 0:
                var lane = i + Int(count_trailing_zeros(better))
                self.offer(Int32(start + lane), x[unsafe_offset=lane])
                better &= better - 1


def draw(best: Best, x: Floats, start: Int, count: Int, temperature: F32, low: UInt32, high: UInt32):
    """Offers x / temperature + noise: the largest is a draw from softmax(x / temperature).

    The Gumbel noise of a token hangs on the seed and the token alone, so a draw can be repeated
    and does not depend on how the work is divided.
    """
    for i in range(0, count, WIDTH):
        var ids = UVec(0)
        comptime for lane in range(WIDTH):
            ids[lane] = UInt32(start + i + lane)
        var hash = lowbias32(lowbias32(ids ^ UVec(low)) ^ UVec(high))
        var uniform = ((hash >> UVec(9)).cast[DType.float32]() + Vec(0.5)) * Vec(1.0 / 8388608.0)
        var noise = -log(-log(uniform))
        for lane in range(min(WIDTH, count - i)):
            var value = x[unsafe_offset=i + lane]
            if value != NEVER:
                best.offer(Int32(start + i + lane), value / temperature + noise[lane])


@fieldwise_init
struct Choices(ImplicitlyCopyable, Movable):
    """What is chosen for L rows.

    Fields:
        tokens: (L, k) ids, best first.
        logprobs: (L, k) log-probabilities under the constraint.
        watched: (L,) unconstrained probability of the watched token below WATCH_STOP, or nan.
    """

    var tokens: Ints
    var logprobs: Floats
    var watched: Floats


struct Rows(ImplicitlyCopyable, Movable):
    """The constraints of L rows of logits, and what is found of their parts.

    Fields:
        limits: (L, LIMITS).
        forbidden: (L, forbidden_count) ids, -1 for none.
        repeated: (L, repeated_count) ids, -1 for none.
        numbers: (L, 2) temperature, repetition penalty.
        V: Vocabulary.
        k: Candidates a row; of 0, only what is watched is computed.
        forbidden_count: Columns of `forbidden`.
        repeated_count: Columns of `repeated`.
        parts: Parts of a row, at most.
        sums: (L, parts, SUMS).
        best_tokens: (L, parts, k + 1): the best, then the draw.
        best_values: (L, parts, k + 1).
    """

    var limits: Ints
    var forbidden: Ints
    var repeated: Ints
    var numbers: Floats
    var V: Int
    var k: Int
    var forbidden_count: Int
    var repeated_count: Int
    var parts: Int
    var sums: Floats
    var best_tokens: Ints
    var best_values: Floats

    def __init__(
        out self,
        L: Int,
        limits: Ints,
        forbidden: Ints,
        repeated: Ints,
        numbers: Floats,
        V: Int,
        k: Int,
        forbidden_count: Int,
        repeated_count: Int,
    ):
        self.limits = limits
        self.forbidden = forbidden
        self.repeated = repeated
        self.numbers = numbers
        self.V = V
        self.k = k
        self.forbidden_count = forbidden_count
        self.repeated_count = repeated_count
        self.parts = ceildiv(V, PART) + 1  # text and timestamps may each end with a part that is not full
        self.sums = unsafe_alloc[F32](L * self.parts * SUMS)
        self.best_tokens = unsafe_alloc[Int32](L * self.parts * (k + 1))
        self.best_values = unsafe_alloc[F32](L * self.parts * (k + 1))

    def free(self):
        self.sums.unsafe_free()
        self.best_tokens.unsafe_free()
        self.best_values.unsafe_free()

    def choose(self, L: Int, choices: Choices):
        """All rows' candidates, from what was found of their parts."""
        for row in range(L):
            choose(
                self,
                row,
                choices.tokens.unsafe_offset(row * self.k),
                choices.logprobs.unsafe_offset(row * self.k),
                choices.watched.unsafe_offset(row),
            )

    def watched(self, row: Int) -> Int:
        """The token whose probability is wanted; negative for none."""
        return Int(self.limits[unsafe_offset=row * LIMITS + WATCH])

    def watched_tokens(self, L: Int) -> Int:
        """How many tokens count for what is watched, in whole panels."""
        var stop = Int32(0)
        for row in range(L):
            if self.watched(row) >= 0:
                stop = max(stop, self.limits[unsafe_offset=row * LIMITS + WATCH_STOP])
        return min(self.V, ceildiv(Int(stop), PANEL) * PANEL)

    def begin(self, row: Int) -> Int:
        """Where a row's timestamps begin."""
        return min(Int(self.limits[unsafe_offset=row * LIMITS + TIMESTAMP_BEGIN]), self.V)

    def range_of(self, row: Int, part: Int) -> Tuple[Int, Int]:
        """The tokens of a part: first the text's, then the timestamps'."""
        var begin = self.begin(row)
        var text = ceildiv(begin, PART)
        if part < text:
            return (part * PART, min(begin, (part + 1) * PART))
        var start = begin + (part - text) * PART
        return (min(start, self.V), min(start + PART, self.V))

    def place(self, row: Int, part: Int) -> Int:
        return row * self.parts + part

    def best(self, row: Int, part: Int) -> Best:
        var place = self.place(row, part) * (self.k + 1)
        return Best(self.best_tokens.unsafe_offset(place), self.best_values.unsafe_offset(place), self.k)

    def drawn(self, row: Int, part: Int) -> Best:
        var place = self.place(row, part) * (self.k + 1) + self.k
        return Best(self.best_tokens.unsafe_offset(place), self.best_values.unsafe_offset(place), 1)


def find[exact: Bool](rows: Rows, row: Int, part: Int, logits: Floats):
    """What there is to be known of a part, whose logits lie there; sums of probabilities `exact` or nearly so."""
    var bounds = rows.range_of(row, part)
    var start = bounds[0]
    var count = bounds[1] - start
    var raw = Sum()
    var limits = rows.limits.unsafe_offset(row * LIMITS)
    var sums = rows.sums.unsafe_offset(rows.place(row, part) * SUMS)
    var watch = rows.watched(row)
    if watch >= 0:
        raw = Sum.of[exact](logits, min(count, max(0, Int(limits[unsafe_offset=WATCH_STOP]) - start)))
        if watch >= start and watch < bounds[1]:
            sums[unsafe_offset=5] = logits[unsafe_offset=watch - start]
    sums[unsafe_offset=2] = raw.top
    sums[unsafe_offset=3] = raw.total
    if rows.k == 0:
        return
    var x = unsafe_alloc[F32](PART + WIDTH, alignment=64)
    constrain(x, logits, rows, row, start, count)
    var allowed = Sum.of[exact](x, count)
    sums[unsafe_offset=0] = allowed.top
    sums[unsafe_offset=1] = allowed.total
    var best = rows.best(row, part)
    best.clear()
    best.search(x, start, count)
    var drawn = rows.drawn(row, part)
    drawn.clear()
    var temperature = rows.numbers[unsafe_offset=row * 2]
    if temperature > 0:
        draw(
            drawn,
            x,
            start,
            count,
            temperature,
            bitcast[DType.uint32](limits[unsafe_offset=SEED_LOW]),
            bitcast[DType.uint32](limits[unsafe_offset=SEED_HIGH]),
        )
        if drawn.tokens[] >= 0:
            sums[unsafe_offset=4] = x[unsafe_offset=Int(drawn.tokens[]) - start]
    x.unsafe_free()


def constrain(x: Floats, logits: Floats, rows: Rows, row: Int, start: Int, count: Int):
    """The part's logits with what is forbidden at minus infinity."""
    var limits = rows.limits.unsafe_offset(row * LIMITS)
    for i in range(count):
        x[unsafe_offset=i] = logits[unsafe_offset=i]
    var penalty = rows.numbers[unsafe_offset=row * 2 + 1]
    for i in range(rows.repeated_count):
        var id = Int(rows.repeated[unsafe_offset=row * rows.repeated_count + i]) - start
        if id >= 0 and id < count:
            var value = logits[unsafe_offset=id]
            x[unsafe_offset=id] = value / penalty if value > 0 else value * penalty
    for i in range(rows.forbidden_count):
        var id = Int(rows.forbidden[unsafe_offset=row * rows.forbidden_count + i]) - start
        if id >= 0 and id < count:
            x[unsafe_offset=id] = NEVER
    forbid(x, 0, min(Int(limits[unsafe_offset=FIRST]) - start, count))
    if start >= rows.begin(row):
        forbid(x, 0, min(Int(limits[unsafe_offset=TIMESTAMP_FIRST]) - start, count))
        forbid(x, max(0, Int(limits[unsafe_offset=TIMESTAMP_STOP]) - start), count)


def choose(rows: Rows, row: Int, tokens: Ints, logprobs: Floats, watched: Floats):
    """One row's candidates, from what was found of its parts."""
    var raw = Sum()
    var limits = rows.limits.unsafe_offset(row * LIMITS)
    var watch = rows.watched(row)
    var seen = NEVER
    for part in range(rows.parts):
        var sums = rows.sums.unsafe_offset(rows.place(row, part) * SUMS)
        raw.add(Sum(sums[unsafe_offset=2], sums[unsafe_offset=3]))
        var bounds = rows.range_of(row, part)
        if watch >= bounds[0] and watch < bounds[1]:
            seen = sums[unsafe_offset=5]
    watched[] = exp(seen - raw.log()) if watch >= 0 else F32(0) / F32(0)
    if rows.k == 0:
        return
    var text = Sum()
    var stamps = Sum()
    var begin = rows.begin(row)
    for part in range(rows.parts):
        var sums = rows.sums.unsafe_offset(rows.place(row, part) * SUMS)
        var allowed = Sum(sums[unsafe_offset=0], sums[unsafe_offset=1])
        if part < ceildiv(begin, PART):
            text.add(allowed)
        else:
            stamps.add(allowed)
    # Where timestamps together outweigh every single text token, text is forbidden.
    var only_stamps = limits[unsafe_offset=WEIGH] != 0 and stamps.log() > text.top
    var first = ceildiv(begin, PART) if only_stamps else 0
    var total = stamps
    if not only_stamps:
        total.add(text)
    var best = Best(tokens, logprobs, rows.k)
    best.clear()
    var drawn_place = -1
    for part in range(first, rows.parts):
        var found = rows.best(row, part)
        for i in range(rows.k):
            if found.tokens[unsafe_offset=i] >= 0:
                best.offer(found.tokens[unsafe_offset=i], found.values[unsafe_offset=i])
        var drawn = rows.drawn(row, part)
        if drawn.tokens[] >= 0 and (
            drawn_place < 0 or drawn.values[] > rows.drawn(row, drawn_place).values[]
        ):
            drawn_place = part
    if drawn_place >= 0:
        # One draw, then the most probable: only the draw is asked for in practice.
        tokens[] = rows.drawn(row, drawn_place).tokens[]
        logprobs[] = rows.sums[unsafe_offset=rows.place(row, drawn_place) * SUMS + 4]
    var log_total = total.log()
    for i in range(rows.k):
        if tokens[unsafe_offset=i] < 0:
            tokens[unsafe_offset=i] = 0
        logprobs[unsafe_offset=i] -= log_total
