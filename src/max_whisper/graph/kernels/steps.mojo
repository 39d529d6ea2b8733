"""Several steps of the decoder in one piece, each from the token that the one before chose.

The layers are those of the decoder's graph, on the same kernels, so that a step gives what a pass
of the graph gives, bit for bit. Between two steps nothing leaves the kernel: neither the graph's
nor the caller's overhead is paid for a token.
"""

from std.memory.alloc import unsafe_alloc

from .candidates import (
    FIRST,
    LIMITS,
    SEED_HIGH,
    SEED_LOW,
    TIMESTAMP_BEGIN,
    TIMESTAMP_FIRST,
    TIMESTAMP_STOP,
    WATCH,
    WATCH_STOP,
    WEIGH,
    candidates,
)
from .cross import cross_attention
from .linear import Layer, linear
from .past import self_attention
from .pointwise import embed, layer_norm
from .team import Team
from .tile import F32, Floats, Ints, PANEL, ceildiv

comptime NEVER_BEGINS = Int32(1 << 30)  # where a vocabulary's timestamps begin if they are ordinary tokens
comptime Addresses = Pointer[Int64, MutUntrackedOrigin]

# Columns of a row of `starts`.
comptime TOKEN = 0
comptime ROW = 1
comptime POSITION = 2
comptime WINDOW = 3
comptime BEFORE = 4  # the token sampled before `TOKEN`; a timestamp where there is none
comptime STAMP = 5  # the latest timestamp sampled, or -1
comptime BEGIN = 6  # where timestamps begin, or NEVER_BEGINS: then their rules are not applied
comptime END = 7  # the token that ends a text
comptime STARTS = 8


@fieldwise_init
struct Decoder(ImplicitlyCopyable, Movable):
    """The decoder's weights and sizes.

    Fields:
        weights: Addresses, in the order that they are met here; see `graph/steps.py`.
        layers: How many blocks there are.
        state: Width.
        heads: Attention heads.
        context: Positions of a row of the cache.
        vocabulary: Tokens.
    """

    var weights: Addresses
    var layers: Int
    var state: Int
    var heads: Int
    var context: Int
    var vocabulary: Int

    def floats(self, index: Int) -> Floats:
        return Floats(unsafe_from_address=Int(self.weights[unsafe_offset=index]))

    def layer(self, index: Int, N: Int, K: Int) -> Layer:
        """The packed layer whose panels and epilogue have that index and the next."""
        return Layer(self.floats(index).unsafe_bitcast[Int32](), self.floats(index + 1), N, K)


@fieldwise_init
struct Caches(ImplicitlyCopyable, Movable):
    """Where keys and values lie.

    Fields:
        past: (layers, keys and values, rows, heads, context, D).
        rows: How many rows that has.
        sources: (rows, context), see `past.mojo`.
        cross: (windows, layers, heads, words of a head).
        head: Words of a head.
    """

    var past: Floats
    var rows: Int
    var sources: Ints
    var cross: Ints
    var head: Int


struct Rows:
    """N sequences on their way, and room for what is between the layers."""

    var N: Int
    var tokens: Ints
    var rows: Ints
    var positions: Ints
    var windows: Ints
    var x: Floats
    var normed: Floats
    var wide: Floats
    var heads: Floats
    var logits: Floats

    def __init__(out self, N: Int, starts: Ints, decoder: Decoder):
        self.N = N
        self.tokens = unsafe_alloc[Int32](4 * N)
        self.rows = self.tokens.unsafe_offset(N)
        self.positions = self.tokens.unsafe_offset(2 * N)
        self.windows = self.tokens.unsafe_offset(3 * N)
        for n in range(N):
            var start = starts.unsafe_offset(n * STARTS)
            self.tokens[unsafe_offset=n] = start[unsafe_offset=TOKEN]
            self.rows[unsafe_offset=n] = start[unsafe_offset=ROW]
            self.positions[unsafe_offset=n] = start[unsafe_offset=POSITION]
            self.windows[unsafe_offset=n] = start[unsafe_offset=WINDOW]
        var state = N * decoder.state
        self.x = unsafe_alloc[F32](7 * state + N * decoder.vocabulary, alignment=64)
        self.normed = self.x.unsafe_offset(state)
        self.heads = self.x.unsafe_offset(2 * state)
        self.wide = self.x.unsafe_offset(3 * state)
        self.logits = self.x.unsafe_offset(7 * state)

    def free(self):
        self.x.unsafe_free()
        self.tokens.unsafe_free()


def forward[
    mode: StaticString, attention: StaticString
](decoder: Decoder, caches: Caches, rows: Rows, queries: Floats, query_layer: Int, team: Team):
    """One pass: the rows' tokens to `rows.logits`.

    Args:
        decoder: Weights.
        caches: Written and read.
        rows: The tokens; `x` to `logits` are written.
        queries: Cross-attention's queries (N, state) of the first layer; written.
        query_layer: Distance to the next layer's.
        team: Who works.
    """
    var S = decoder.state
    var N = rows.N
    var padded = ceildiv(decoder.vocabulary, PANEL) * PANEL
    var table = decoder.layer(0, decoder.vocabulary, S)
    embed[mode](rows.x, rows.tokens, rows.positions, table.weight, table.epilogue, decoder.floats(2), N, S, padded)
    var next = 3
    for i in range(decoder.layers):
        layer_norm(rows.normed, rows.x, decoder.floats(next), decoder.floats(next + 1), N, S, team)
        linear[mode, "none", False](rows.wide, rows.normed, S, decoder.layer(next + 2, 3 * S, S), rows.wide, N, team)
        self_attention(
            rows.heads,
            rows.wide,
            rows.rows,
            rows.positions,
            caches.sources,
            caches.past.unsafe_offset(i * 2 * caches.rows * decoder.context * S),
            caches.rows,
            decoder.context,
            N,
            decoder.heads,
            S // decoder.heads,
            team,
        )
        linear[mode, "none", True](rows.x, rows.heads, S, decoder.layer(next + 4, S, S), rows.x, N, team)
        layer_norm(rows.normed, rows.x, decoder.floats(next + 6), decoder.floats(next + 7), N, S, team)
        var query = queries.unsafe_offset(i * query_layer)
        linear[mode, "none", False](query, rows.normed, S, decoder.layer(next + 8, S, S), query, N, team)
        cross_attention[attention](
            rows.heads,
            query,
            rows.windows,
            caches.cross.unsafe_offset(i * decoder.heads * caches.head),
            decoder.layers * decoder.heads * caches.head,
            caches.head,
            N,
            decoder.heads,
            S // decoder.heads,
            team,
        )
        linear[mode, "none", True](rows.x, rows.heads, S, decoder.layer(next + 10, S, S), rows.x, N, team)
        layer_norm(rows.normed, rows.x, decoder.floats(next + 12), decoder.floats(next + 13), N, S, team)
        linear[mode, "gelu", False](rows.wide, rows.normed, S, decoder.layer(next + 14, 4 * S, S), rows.wide, N, team)
        linear[mode, "none", True](rows.x, rows.wide, 4 * S, decoder.layer(next + 16, S, 4 * S), rows.x, N, team)
        next += 18
    layer_norm(rows.normed, rows.x, decoder.floats(next), decoder.floats(next + 1), N, S, team)
    linear[mode, "none", False](rows.logits, rows.normed, S, table, rows.logits, N, team)


def limit(limits: Ints, start: Ints, low: Int32, high: Int32):
    """What the next token may be: `ApplyTimestampRules` of `decoding/rules.py`, after the first token."""
    var begin = start[unsafe_offset=BEGIN]
    var end = start[unsafe_offset=END]
    var last = start[unsafe_offset=TOKEN]
    limits[unsafe_offset=FIRST] = 0
    limits[unsafe_offset=TIMESTAMP_BEGIN] = begin
    limits[unsafe_offset=TIMESTAMP_FIRST] = 0
    limits[unsafe_offset=TIMESTAMP_STOP] = NEVER_BEGINS
    limits[unsafe_offset=WEIGH] = 0
    limits[unsafe_offset=WATCH] = -1
    limits[unsafe_offset=SEED_LOW] = low
    limits[unsafe_offset=SEED_HIGH] = high
    limits[unsafe_offset=WATCH_STOP] = NEVER_BEGINS
    if begin == NEVER_BEGINS:
        return
    limits[unsafe_offset=WEIGH] = 1
    if last < begin:
        limits[unsafe_offset=TIMESTAMP_FIRST] = start[unsafe_offset=STAMP] + 1
    elif start[unsafe_offset=BEFORE] >= begin:
        limits[unsafe_offset=TIMESTAMP_STOP] = begin
    else:
        limits[unsafe_offset=FIRST] = end
        limits[unsafe_offset=TIMESTAMP_FIRST] = last


def advance(start: Ints, token: Int32):
    """Takes a chosen token into account."""
    start[unsafe_offset=BEFORE] = start[unsafe_offset=TOKEN]
    start[unsafe_offset=TOKEN] = token
    start[unsafe_offset=POSITION] += 1
    if token >= start[unsafe_offset=BEGIN]:
        start[unsafe_offset=STAMP] = token


def steps[
    mode: StaticString, attention: StaticString
](
    tokens: Ints,
    logprobs: Floats,
    queries: Floats,
    decoder: Decoder,
    caches: Caches,
    given: Ints,
    N: Int,
    forbidden: Ints,
    forbidden_count: Int,
    numbers: Floats,
    seeds: Ints,
    count: Int,
    team: Team,
) -> Int:
    """Goes on with N sequences until one ends, or for `count` steps; returns how many it took.

    Args:
        tokens: (count, N) chosen tokens.
        logprobs: (count, N) their log-probabilities.
        queries: (layers, count, N, state) of cross-attention.
        decoder: Weights.
        caches: Keys and values.
        given: (N, STARTS) where each sequence stands.
        N: Sequences.
        forbidden: (N, forbidden_count) ids that are never chosen, -1 for none.
        forbidden_count: Columns of `forbidden`.
        numbers: (N, 2) as for `candidates`.
        seeds: (N, count, 2) of the draws, as low and high words.
        count: Steps.
        team: Who works.
    """
    var S = decoder.state
    var starts = unsafe_alloc[Int32](N * STARTS + N * LIMITS + N)
    var limits = starts.unsafe_offset(N * STARTS)
    var none = limits.unsafe_offset(N * LIMITS)
    for i in range(N * STARTS):
        starts[unsafe_offset=i] = given[unsafe_offset=i]
    for n in range(N):
        none[unsafe_offset=n] = -1
    var watched = unsafe_alloc[F32](N)
    var rows = Rows(N, starts, decoder)
    var taken = 0
    var ended = False
    while taken < count and not ended:
        forward[mode, attention](
            decoder, caches, rows, queries.unsafe_offset(taken * N * S), count * N * S, team
        )
        for n in range(N):
            var seed = seeds.unsafe_offset((n * count + taken) * 2)
            limit(limits.unsafe_offset(n * LIMITS), starts.unsafe_offset(n * STARTS), seed[], seed[unsafe_offset=1])
        var chosen = tokens.unsafe_offset(taken * N)
        candidates(
            chosen,
            logprobs.unsafe_offset(taken * N),
            watched,
            rows.logits,
            limits,
            forbidden,
            none,
            numbers,
            N,
            decoder.vocabulary,
            1,
            forbidden_count,
            1,
            team,
        )
        for n in range(N):
            var start = starts.unsafe_offset(n * STARTS)
            advance(start, chosen[unsafe_offset=n])
            rows.tokens[unsafe_offset=n] = chosen[unsafe_offset=n]
            rows.positions[unsafe_offset=n] += 1
            ended = ended or chosen[unsafe_offset=n] == start[unsafe_offset=END]
        taken += 1
    rows.free()
    watched.unsafe_free()
    starts.unsafe_free()
    return taken
