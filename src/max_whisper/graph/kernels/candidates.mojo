"""The next token's candidates, chosen where the logits are.

The semantics are those of `max_whisper.decoding.candidates`, in the same order.
"""

from max.algorithm import sync_parallelize
from std.math import exp, log
from std.memory import bitcast
from std.memory.alloc import unsafe_alloc

from .tile import F32, Floats, Ints, Vec, WIDTH

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
comptime LIMITS = 8


def forbid(x: Floats, start: Int, stop: Int):
    for i in range(start, stop):
        x[unsafe_offset=i] = NEVER


def highest(x: Floats, start: Int, stop: Int) -> F32:
    var vector = Vec(NEVER)
    var i = start
    while i + WIDTH <= stop:
        vector = max(vector, x.unsafe_load[width=WIDTH](i))
        i += WIDTH
    var top = vector.reduce_max()
    while i < stop:
        top = max(top, x[unsafe_offset=i])
        i += 1
    return top


def log_sum_exp(x: Floats, start: Int, stop: Int) -> F32:
    """log(sum(exp(x))) over [start, stop); minus infinity where all of it is."""
    var top = highest(x, start, stop)
    if top == NEVER:
        return NEVER
    var vector = Vec(0)
    var i = start
    while i + WIDTH <= stop:
        var part = x.unsafe_load[width=WIDTH](i)
        vector += part.eq(Vec(NEVER)).select(Vec(0), exp(part - Vec(top)))
        i += WIDTH
    var total = vector.reduce_add()
    while i < stop:
        if x[unsafe_offset=i] != NEVER:
            total += exp(x[unsafe_offset=i] - top)
        i += 1
    return top + log(total)


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


def draw(x: Floats, V: Int, temperature: F32, low: UInt32, high: UInt32) -> Int:
    """A draw from softmax(x / temperature): the largest sum with Gumbel noise.

    The noise of a token hangs on the seed and the token alone, so a draw can be repeated and
    does not depend on how the work is divided.
    """
    var best = NEVER
    var chosen = 0
    for start in range(0, V, WIDTH):
        var ids = UVec(0)
        comptime for lane in range(WIDTH):
            ids[lane] = UInt32(start + lane)
        var hash = lowbias32(lowbias32(ids ^ UVec(low)) ^ UVec(high))
        var uniform = ((hash >> UVec(9)).cast[DType.float32]() + Vec(0.5)) * Vec(1.0 / 8388608.0)
        var noise = -log(-log(uniform))
        for lane in range(min(WIDTH, V - start)):
            var value = x[unsafe_offset=start + lane]
            if value != NEVER:
                var score = value / temperature + noise[lane]
                if score > best:
                    best = score
                    chosen = start + lane
    return chosen


def best_tokens(
    x: Floats,
    V: Int,
    k: Int,
    tokens: Ints,
    values: Floats,
):
    """The k largest values and their ids, best first; ties go to the lowest id."""
    for i in range(k):
        tokens[unsafe_offset=i] = 0
        values[unsafe_offset=i] = NEVER
    var found = 0
    for start in range(0, V, WIDTH):
        var count = min(WIDTH, V - start)
        var least = values[unsafe_offset=k - 1]
        if count == WIDTH and found >= k:
            if not (x.unsafe_load[width=WIDTH](start).reduce_max() > least):
                continue
        for i in range(start, start + count):
            var value = x[unsafe_offset=i]
            if found < k or value > values[unsafe_offset=k - 1]:
                var place = min(found, k - 1)
                while place > 0 and value > values[unsafe_offset=place - 1]:
                    values[unsafe_offset=place] = values[unsafe_offset=place - 1]
                    tokens[unsafe_offset=place] = tokens[unsafe_offset=place - 1]
                    place -= 1
                values[unsafe_offset=place] = value
                tokens[unsafe_offset=place] = Int32(i)
                found = min(found + 1, k)


def choose(
    tokens: Ints,
    logprobs: Floats,
    watched: Floats,
    logits: Floats,
    limits: Ints,
    forbidden: Ints,
    repeated: Ints,
    numbers: Floats,
    V: Int,
    k: Int,
    forbidden_count: Int,
    repeated_count: Int,
    x: Floats,
):
    """One output row; `x` is scratch of V floats."""
    var watch = Int(limits[unsafe_offset=WATCH])
    if watch >= 0:
        watched[] = exp(logits[unsafe_offset=watch] - log_sum_exp(logits, 0, V))
    else:
        watched[] = F32(0) / F32(0)
    for i in range(V):
        x[unsafe_offset=i] = logits[unsafe_offset=i]
    var penalty = numbers[unsafe_offset=1]
    for i in range(repeated_count):
        var id = Int(repeated[unsafe_offset=i])
        if id >= 0:
            var value = logits[unsafe_offset=id]
            x[unsafe_offset=id] = value / penalty if value > 0 else value * penalty
    for i in range(forbidden_count):
        var id = Int(forbidden[unsafe_offset=i])
        if id >= 0:
            x[unsafe_offset=id] = NEVER
    var begin = min(Int(limits[unsafe_offset=TIMESTAMP_BEGIN]), V)
    forbid(x, 0, min(Int(limits[unsafe_offset=FIRST]), V))
    forbid(x, begin, min(Int(limits[unsafe_offset=TIMESTAMP_FIRST]), V))
    forbid(x, max(begin, min(Int(limits[unsafe_offset=TIMESTAMP_STOP]), V)), V)
    if limits[unsafe_offset=WEIGH] != 0:
        if log_sum_exp(x, begin, V) > highest(x, 0, begin):
            forbid(x, 0, begin)
    var total = log_sum_exp(x, 0, V)
    var temperature = numbers[unsafe_offset=0]
    if temperature > 0:
        # One draw, then the most probable: only the draw is asked for in practice.
        best_tokens(x, V, k, tokens, logprobs)
        var chosen = draw(
            x,
            V,
            temperature,
            bitcast[DType.uint32](limits[unsafe_offset=SEED_LOW]),
            bitcast[DType.uint32](limits[unsafe_offset=SEED_HIGH]),
        )
        tokens[] = Int32(chosen)
        logprobs[] = x[unsafe_offset=chosen]
    else:
        best_tokens(x, V, k, tokens, logprobs)
    for i in range(k):
        logprobs[unsafe_offset=i] -= total


def candidates(
    tokens: Ints,
    logprobs: Floats,
    watched: Floats,
    logits: Floats,
    limits: Ints,
    forbidden: Ints,
    repeated: Ints,
    numbers: Floats,
    L: Int,
    V: Int,
    k: Int,
    forbidden_count: Int,
    repeated_count: Int,
    threads: Int,
) raises:
    """Candidates of L rows.

    Args:
        tokens: (L, k) ids, best first.
        logprobs: (L, k) log-probabilities under the constraint.
        watched: (L,) unconstrained probability of the watched token, or nan.
        logits: (L, V).
        limits: (L, LIMITS).
        forbidden: (L, forbidden_count) ids, -1 for none.
        repeated: (L, repeated_count) ids, -1 for none.
        numbers: (L, 2) temperature, repetition penalty.
        L: Rows.
        V: Vocabulary.
        k: Candidates a row.
        forbidden_count: Columns of `forbidden`.
        repeated_count: Columns of `repeated`.
        threads: Workers.
    """
    var workers = max(1, min(threads, L))

    def worker(t: Int) raises {imm}:
        var x = unsafe_alloc[F32](V + WIDTH, alignment=64)
        for i in range(t, L, workers):
            choose(
                tokens.unsafe_offset(i * k),
                logprobs.unsafe_offset(i * k),
                watched.unsafe_offset(i),
                logits.unsafe_offset(i * V),
                limits.unsafe_offset(i * LIMITS),
                forbidden.unsafe_offset(i * forbidden_count),
                repeated.unsafe_offset(i * repeated_count),
                numbers.unsafe_offset(i * 2),
                V,
                k,
                forbidden_count,
                repeated_count,
                x,
            )
        x.unsafe_free()

    sync_parallelize(worker, workers)
