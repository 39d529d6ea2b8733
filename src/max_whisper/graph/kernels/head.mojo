"""The output head and the choice among its logits in one go.

A pass of many rows has megabytes of logits, of which a few numbers are kept. Here a worker takes a
part of the vocabulary after the other: the logits of some rows there, which stay in the
second-level cache, and what `candidates` wants to know of them.
"""

from std.atomic import Atomic
from std.memory.alloc import unsafe_alloc

from .candidates import NEVER, Choices, Rows, find
from .panels import GAP, GROUP, K_BLOCK, free_packed, new_packed
from .team import Team, Work
from .tile import F32, Floats, PANEL, ROWS, ceildiv, rows_in_tile
from .vocabulary import PART, Room, Vectors, Vocabulary

comptime CHUNK = 48 // ROWS * ROWS  # rows whose logits of a part are computed at once


@fieldwise_init
struct PackTasks[V: Vocabulary](Work):
    """A tile of rows a task; the last one is filled up with the last row."""

    var vocabulary: Self.V
    var vectors: Vectors
    var x: Floats
    var asked: Rows
    var L: Int
    var K: Int

    def run(self, task: Int):
        var first = task * ROWS
        for r in range(first, first + rows_in_tile(min(ROWS, self.L - first))):
            self.vocabulary.pack(self.vectors, r, self.x.unsafe_offset(min(r, self.L - 1) * self.K))
        for r in range(first, min(first + ROWS, self.L)):
            var watched = self.asked.watched(r)
            # Where tokens are chosen, too, it is not known yet which of them count.
            var alone = self.asked.k == 0 and watched >= 0
            self.vectors.least[unsafe_offset=r] = self.vocabulary.least_beside(
                self.vectors.row(r), watched
            ) if alone else NEVER


@fieldwise_init
struct HeadTasks[V: Vocabulary](Work):
    """A worker a task; they share out the blocks of the vocabulary among them.

    Fields:
        rows: What is asked, and found.
        L: Rows.
        vocabulary: The output head.
        vectors: The rows as words.
        kept: (L, V) where all logits go, if `keeps`.
        keeps: Whether they do.
        next: The next block that nobody has taken.
        whole: Blocks that are one part of every row. All that follows them is the last block.
    """

    var rows: Rows
    var L: Int
    var vocabulary: Self.V
    var vectors: Vectors
    var kept: Floats
    var keeps: Bool
    var next: Pointer[Atomic[Int64], MutUntrackedOrigin]
    var whole: Int

    def run(self, task: Int):
        # Rows that are no power of two apart fall into different cache sets.
        var width = ceildiv(max(PART, self.rows.V - self.whole * PART), PANEL) * PANEL + GAP
        var logits = unsafe_alloc[Float32](min(self.L, CHUNK) * width, alignment=64)
        var room = Room(
            unsafe_alloc[Int32](K_BLOCK * PANEL, alignment=64),
            unsafe_alloc[Int32](max(CHUNK, ROWS * GROUP) * PANEL, alignment=64),
            unsafe_alloc[Int32](PART),
        )
        while True:
            # The last block may be the largest: it comes first.
            var block = self.whole - Int(self.next[].fetch_add(1))
            if block < 0:
                break
            for row in range(0, self.L, CHUNK):
                self._choose(block, row, min(CHUNK, self.L - row), logits, width, room)
        room.found.unsafe_free()
        room.sums.unsafe_free()
        room.wide.unsafe_free()
        logits.unsafe_free()

    @always_inline
    def _choose(self, block: Int, first: Int, count: Int, logits: Floats, width: Int, room: Room):
        """What a block of the vocabulary is to some rows."""
        var begin = block * PART
        var last = block == self.whole
        var stop = self.rows.V if last else begin + PART
        self.vocabulary.logits(logits, width, self.vectors.row(first), count, begin, stop, room)
        for row in range(count):
            for part in range(block, self.rows.parts if last else block + 1):
                var start = self.rows.range_of(first + row, part)[0] - begin
                find[Self.V.EXACT](self.rows, first + row, part, logits.unsafe_offset(row * width + start))
        if self.keeps:
            var kept = self.kept.unsafe_offset(first * self.rows.V + begin)
            self.vocabulary.all_logits(kept, self.rows.V, self.vectors.row(first), count, begin, stop, room)


def head_candidates[
    V: Vocabulary
](choices: Choices, x: Floats, vocabulary: V, asked: Rows, L: Int, K: Int, kept: Floats, keeps: Bool, team: Team):
    """Candidates of L rows, whose logits are what the vocabulary makes of (L, K) x.

    Args:
        choices: Written.
        x: (L, K).
        vocabulary: The output head.
        asked: What is asked.
        L: Rows.
        K: State.
        kept: (L, V), written with all logits if `keeps`.
        keeps: Whether it is.
        team: Who works.
    """
    var tiles = ceildiv(L, ROWS)
    var vectors = Vectors(
        new_packed(tiles, vocabulary.few_words() + GAP),
        new_packed(tiles, vocabulary.rest_words() + GAP),
        new_packed(tiles, vocabulary.quick_words() + GAP),
        unsafe_alloc[F32](max(1, L)),
    )
    team.do(PackTasks(vocabulary, vectors, x, asked, L, K), tiles)
    var rows = asked
    if asked.k == 0 and not keeps:
        rows.V = max(asked.watched_tokens(L), vocabulary.quick_tokens())
    var begin = rows.V
    for row in range(L):
        begin = min(begin, rows.begin(row))
    var next = unsafe_alloc[Atomic[Int64]](1)
    next.unsafe_write(Atomic[Int64](0))
    team.do(HeadTasks(rows, L, vocabulary, vectors, kept, keeps, next, begin // PART), team.threads)
    rows.choose(L, choices)
    next.unsafe_free()
    free_packed(vectors.few)
    free_packed(vectors.rest)
    free_packed(vectors.quick)
    vectors.least.unsafe_free()
