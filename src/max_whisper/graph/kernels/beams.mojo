"""Beams: after a step, each search's best continuations take the places of its beams.

As `best_continuations` and `place` of `decoding/search.py` have it. The beams of a search are
neighbours among the sequences. Each has a row of the cache, but what they share of their pasts
lies there once, and `sources` says where.
"""

from std.memory.alloc import unsafe_alloc

from .candidates import Best
from .standing import END, POSITION, ROW, STARTS, advance
from .tile import F32, Floats, Ints


struct Beams:
    """The beams of some searches of one size.

    Fields:
        size: Beams of a search; 0 for sequences that have nothing to do with each other.
        searches: How many there are.
        context: Positions of a row of `sources`.
        sources: (rows, context), see `past.mojo`.
        sums: (searches * size,) log-probabilities of the beams.
        wanted: (searches,) how many more have to end until each search is done.
        order: The best continuations of a search, as indices of its candidates, and their scores.
        before: (size, STARTS) where the beams of a search stood.
        free_rows: (size,) rows of the cache that nobody wants.
    """

    var size: Int
    var searches: Int
    var context: Int
    var sources: Ints
    var sums: Floats
    var wanted: Ints
    var order: Best
    var before: Ints
    var free_rows: Ints

    def __init__(
        out self, size: Int, N: Int, sums: Floats, wanted: Ints, sources: Ints, rows: Int, context: Int
    ):
        """N beams that begin with what is given, none of which is changed."""
        self.size = size
        self.searches = N // size if size > 0 else 0
        self.context = context
        # A beam has one end of the text among its candidates, at most: among so many are `size` others.
        var best = 2 * size
        var table = rows * context
        self.sums = unsafe_alloc[F32](N + best)
        self.sources = unsafe_alloc[Int32](table + self.searches + best + size * (STARTS + 1))
        self.wanted = self.sources.unsafe_offset(table)
        var order = self.wanted.unsafe_offset(self.searches)
        self.order = Best(order, self.sums.unsafe_offset(N), best)
        self.before = order.unsafe_offset(best)
        self.free_rows = self.before.unsafe_offset(size * STARTS)
        for i in range(table):
            self.sources[unsafe_offset=i] = sources[unsafe_offset=i]
        for i in range(self.searches):
            self.wanted[unsafe_offset=i] = wanted[unsafe_offset=i]
        for n in range(self.searches * size):
            self.sums[unsafe_offset=n] = sums[unsafe_offset=n]

    def free(self):
        self.sums.unsafe_free()
        self.sources.unsafe_free()

    def take(mut self, starts: Ints, tokens: Ints, logprobs: Floats) -> Bool:
        """Goes on with each search's best continuations; returns whether a search is done.

        Args:
            starts: (N, STARTS) where the beams stand; changed.
            tokens: (N, size + 1) candidates, best first.
            logprobs: (N, size + 1) theirs.
        """
        var done = False
        var k = self.size + 1
        for search in range(self.searches):
            var first = search * self.size
            self._go_on(
                search,
                starts.unsafe_offset(first * STARTS),
                tokens.unsafe_offset(first * k),
                logprobs.unsafe_offset(first * k),
            )
            self._move(starts.unsafe_offset(first * STARTS))
            done = done or self.wanted[unsafe_offset=search] <= 0
        return done

    def _go_on(mut self, search: Int, starts: Ints, tokens: Ints, logprobs: Floats):
        """The best continuations of one search; each still has the row of its past."""
        var k = self.size + 1
        var sums = self.sums.unsafe_offset(search * self.size)
        self.order.clear()
        for i in range(self.size * k):
            self.order.offer(Int32(i), sums[unsafe_offset=i // k] + logprobs[unsafe_offset=i])
        for i in range(self.size * STARTS):
            self.before[unsafe_offset=i] = starts[unsafe_offset=i]
        var kept = 0
        var i = 0
        while kept < self.size and i < self.order.k:
            var candidate = Int(self.order.tokens[unsafe_offset=i])
            var token = tokens[unsafe_offset=candidate]
            if token == starts[unsafe_offset=END]:
                if self.wanted[unsafe_offset=search] > 0:
                    self.wanted[unsafe_offset=search] -= 1
            else:
                var start = starts.unsafe_offset(kept * STARTS)
                for column in range(STARTS):
                    start[unsafe_offset=column] = self.before[unsafe_offset=candidate // k * STARTS + column]
                advance(start, token)
                sums[unsafe_offset=kept] = self.order.values[unsafe_offset=i]
                kept += 1
            i += 1

    def _move(mut self, starts: Ints):
        """Finds each beam of a search a row of its own: the first of a row's stays there."""
        self._find_free_rows(starts)
        var used = 0
        for i in range(self.size):
            var start = starts.unsafe_offset(i * STARTS)
            var row = start[unsafe_offset=ROW]
            var stays = True
            for j in range(i):
                stays = stays and starts[unsafe_offset=j * STARTS + ROW] != row
            if stays:
                continue
            var free = self.free_rows[unsafe_offset=used]
            used += 1
            start[unsafe_offset=ROW] = free
            for p in range(Int(start[unsafe_offset=POSITION])):
                self.sources[unsafe_offset=Int(free) * self.context + p] = self.sources[
                    unsafe_offset=Int(row) * self.context + p
                ]

    def _find_free_rows(self, starts: Ints):
        """The rows that hold no beam's past, the lowest first."""
        var count = 0
        for i in range(self.size):
            var row = self.before[unsafe_offset=i * STARTS + ROW]
            var wanted = False
            for j in range(self.size):
                wanted = wanted or starts[unsafe_offset=j * STARTS + ROW] == row
            if wanted:
                continue
            var place = count
            while place > 0 and self.free_rows[unsafe_offset=place - 1] > row:
                self.free_rows[unsafe_offset=place] = self.free_rows[unsafe_offset=place - 1]
                place -= 1
            self.free_rows[unsafe_offset=place] = row
            count += 1
