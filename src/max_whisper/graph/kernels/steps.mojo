"""Several steps of the decoder in one piece, each from the token that the one before chose.

The layers are those of the decoder's graph, on the same kernels, so that a step gives what a pass
of the graph gives, bit for bit. Between two steps nothing leaves the kernel: neither the graph's
nor the caller's overhead is paid for a token.
"""

from std.memory.alloc import unsafe_alloc

from .beams import Beams
from .candidates import Choices, LIMITS
from .candidates import Rows as Asked
from .cross import cross_attention
from .epilogue import Layer
from .head import head_candidates
from .linear import linear
from .past import self_attention
from .pointwise import embed, layer_norm
from .standing import END, POSITION, ROW, STARTS, TOKEN, WINDOW, advance, has_ended_segment, limit
from .team import Team
from .tile import F32, Floats, Ints
from .vocabulary import Addresses, Vocabulary, layer_at


@fieldwise_init
struct Decoder[V: Vocabulary](ImplicitlyCopyable, Movable):
    """The decoder's weights and sizes.

    Fields:
        vocabulary: The output head, which embeds tokens too.
        weights: Addresses of what follows it, in the order that it is met here; see `graph/steps.py`.
        layers: How many blocks there are.
        state: Width.
        heads: Attention heads.
        context: Positions of a row of the cache.
    """

    var vocabulary: Self.V
    var weights: Addresses
    var layers: Int
    var state: Int
    var heads: Int
    var context: Int

    def floats(self, index: Int) -> Floats:
        return Floats(unsafe_from_address=Int(self.weights[unsafe_offset=index]))

    def layer(self, index: Int, N: Int, K: Int) -> Layer:
        """The packed layer whose panels and epilogue have that index and the next."""
        return layer_at(self.weights.unsafe_offset(index), N, K)


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
    """N tokens that are looked at together, and room for what is between the layers, of `most` of them."""

    var N: Int
    var tokens: Ints
    var rows: Ints
    var positions: Ints
    var windows: Ints
    var x: Floats
    var normed: Floats
    var wide: Floats
    var heads: Floats

    def __init__(out self, most: Int, S: Int):
        self.N = 0
        self.tokens = unsafe_alloc[Int32](4 * most)
        self.rows = self.tokens.unsafe_offset(most)
        self.positions = self.tokens.unsafe_offset(2 * most)
        self.windows = self.tokens.unsafe_offset(3 * most)
        var state = most * S
        self.x = unsafe_alloc[F32](7 * state, alignment=64)
        self.normed = self.x.unsafe_offset(state)
        self.heads = self.x.unsafe_offset(2 * state)
        self.wide = self.x.unsafe_offset(3 * state)

    def place(mut self, starts: Ints, N: Int):
        """The tokens are now those that N sequences stand at."""
        self.N = N
        for n in range(N):
            var start = starts.unsafe_offset(n * STARTS)
            self.tokens[unsafe_offset=n] = start[unsafe_offset=TOKEN]
            self.rows[unsafe_offset=n] = start[unsafe_offset=ROW]
            self.positions[unsafe_offset=n] = start[unsafe_offset=POSITION]
            self.windows[unsafe_offset=n] = start[unsafe_offset=WINDOW]

    def free(self):
        self.x.unsafe_free()
        self.tokens.unsafe_free()


def forward[
    V: Vocabulary, mode: StaticString, attention: StaticString
](decoder: Decoder[V], caches: Caches, rows: Rows, queries: Floats, query_layer: Int, team: Team):
    """One pass: the rows' tokens to `rows.normed`, which the output head takes.

    Args:
        decoder: Weights.
        caches: Written and read.
        rows: The tokens; `x` to `heads` are written.
        queries: Cross-attention's queries (N, state) of the first layer; written.
        query_layer: Distance to the next layer's.
        team: Who works.
    """
    var S = decoder.state
    var N = rows.N
    embed(rows.x, rows.tokens, rows.positions, decoder.vocabulary, decoder.floats(0), N, S)
    var next = 1
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


@fieldwise_init
struct Choice(ImplicitlyCopyable, Movable):
    """How each sequence's next tokens are chosen.

    Fields:
        k: Candidates of each: the most probable tokens, or one draw.
        forbidden: (N, forbidden_count) ids that are never chosen, -1 for none.
        forbidden_count: Columns of `forbidden`.
        numbers: (N, 2) as for `candidates`.
        seeds: (N, count, 2) of the draws, as low and high words.
    """

    var k: Int
    var forbidden: Ints
    var forbidden_count: Int
    var numbers: Floats
    var seeds: Ints

    def asked(self, limits: Ints, N: Int, V: Int) -> Asked:
        """What is asked of N rows of logits."""
        return Asked(N, limits, self.forbidden, self.forbidden, self.numbers, V, self.k, self.forbidden_count, 0)

    def twice(self) -> Self:
        """The choice of one sequence for two rows; to be freed."""
        var count = self.forbidden_count
        var forbidden = unsafe_alloc[Int32](2 * count + 1)
        var numbers = unsafe_alloc[F32](4)
        for row in range(2):
            for i in range(count):
                forbidden[unsafe_offset=row * count + i] = self.forbidden[unsafe_offset=i]
            for i in range(2):
                numbers[unsafe_offset=row * 2 + i] = self.numbers[unsafe_offset=i]
        return Self(self.k, forbidden, count, numbers, self.seeds)

    def free(self):
        self.forbidden.unsafe_free()
        self.numbers.unsafe_free()


def steps[
    V: Vocabulary, mode: StaticString, attention: StaticString
](
    tokens: Ints,
    logprobs: Floats,
    queries: Floats,
    decoder: Decoder[V],
    caches: Caches,
    given: Ints,
    N: Int,
    choice: Choice,
    mut beams: Beams,
    count: Int,
    team: Team,
) -> Int:
    """Goes on with N sequences until one ends, or for `count` steps; returns how many it took.

    Args:
        tokens: (count, N, k) candidates.
        logprobs: (count, N, k) their log-probabilities.
        queries: (layers, count, N, state) of cross-attention.
        decoder: Weights.
        caches: Keys and values.
        given: (N, STARTS) where each sequence stands.
        N: Sequences.
        choice: How they go on.
        beams: What they are to each other; if they are beams, they go on until a search is done.
        count: Steps.
        team: Who works.
    """
    var S = decoder.state
    # One sequence alone may look at two tokens in a step: where a segment has ended, the next one mostly
    # begins, with the same timestamp. If it is that which is chosen, the step after it is done, too.
    var alone = N == 1 and beams.size == 0
    var most = 2 if alone else N
    var starts = unsafe_alloc[Int32](most * STARTS + most * LIMITS)
    var limits = starts.unsafe_offset(most * STARTS)
    for i in range(N * STARTS):
        starts[unsafe_offset=i] = given[unsafe_offset=i]
    var rows = Rows(most, S)
    var each = choice.twice() if alone else choice
    var asked = each.asked(limits, most, decoder.vocabulary.tokens())
    var watched = unsafe_alloc[F32](most)
    var taken = 0
    var ended = False
    while taken < count and not ended:
        var guesses = alone and taken + 1 < count and has_ended_segment(starts)
        if guesses:
            var next = starts.unsafe_offset(STARTS)
            for i in range(STARTS):
                next[unsafe_offset=i] = starts[unsafe_offset=i]
            advance(next, starts[unsafe_offset=TOKEN])
        rows.place(starts, 2 if guesses else N)
        forward[V, mode, attention](
            decoder, caches, rows, queries.unsafe_offset(taken * N * S), count * N * S, team
        )
        for n in range(rows.N):
            var step = taken + n if alone else n * count + taken
            var seed = choice.seeds.unsafe_offset(step * 2)
            limit(limits.unsafe_offset(n * LIMITS), starts.unsafe_offset(n * STARTS), seed[], seed[unsafe_offset=1])
        var chosen = tokens.unsafe_offset(taken * N * choice.k)
        var values = logprobs.unsafe_offset(taken * N * choice.k)
        var choices = Choices(chosen, values, watched)
        head_candidates(choices, rows.normed, decoder.vocabulary, asked, rows.N, S, watched, False, team)
        if beams.size > 0:
            ended = beams.take(starts, chosen, values)
        else:
            var last = starts[unsafe_offset=TOKEN]
            for n in range(N):
                var start = starts.unsafe_offset(n * STARTS)
                advance(start, chosen[unsafe_offset=n])
                ended = ended or chosen[unsafe_offset=n] == start[unsafe_offset=END]
            if guesses and chosen[] == last:
                advance(starts, chosen[unsafe_offset=choice.k])
                ended = chosen[unsafe_offset=choice.k] == starts[unsafe_offset=END]
                taken += 1
        taken += 1
    watched.unsafe_free()
    asked.free()
    rows.free()
    starts.unsafe_free()
    if alone:
        each.free()
    return taken
