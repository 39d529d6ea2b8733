"""The output head and the choice among its logits in one go, for the rows of a step.

A pass of many rows has megabytes of logits, of which a few numbers are kept. Here a worker takes
a part of the vocabulary after the other: the logits of all rows there, which stay in the
second-level cache, and what `candidates` wants to know of them. Neither the logits nor the parts
are other ones than there, so the outcome is the same, bit for bit.
"""

from std.atomic import Atomic
from std.memory.alloc import unsafe_alloc

from .candidates import PART, PartTasks, Rows
from .linear import GAP, K_BLOCK, Layer, PackTasks, Scales, finish, multiply
from .pack import Scale, row_words
from .team import Team, Work
from .tile import Floats, Ints, PANEL, ROWS, ceildiv, multiplied


@fieldwise_init
struct HeadTasks[mode: StaticString](Work):
    """A worker a task; they share out the blocks of the vocabulary among them.

    Fields:
        rows: What is found; its own logits are not used.
        L: Rows.
        layer: The output head.
        packed: The rows as words.
        row_length: Distance between them.
        scales: Theirs.
        next: The next block that nobody has taken.
        whole: Blocks that are one part of every row. All that follows them is the last block.
    """

    var rows: Rows
    var L: Int
    var layer: Layer
    var packed: Ints
    var row_length: Int
    var scales: Scales
    var next: Pointer[Atomic[Int64], MutUntrackedOrigin]
    var whole: Int

    def run(self, task: Int):
        # Rows that are no power of two apart fall into different cache sets.
        var width = ceildiv(max(PART, self.layer.N - self.whole * PART), PANEL) * PANEL + GAP
        var tiles = ceildiv(self.L, ROWS) * ROWS
        var logits = unsafe_alloc[Float32](self.L * width, alignment=64)
        var sums = unsafe_alloc[Int32](tiles * PANEL, alignment=64)
        var wide = unsafe_alloc[Int32](K_BLOCK * PANEL, alignment=64)
        while True:
            # The last block may be the largest: it comes first.
            var block = self.whole - Int(self.next[].fetch_add(1))
            if block < 0:
                break
            self._multiply(block, logits, width, wide, sums)
            var stop = block + 1 if block < self.whole else self.rows.parts
            for row in range(self.L):
                for part in range(block, stop):
                    var start = self.rows.range_of(row, part)[0] - block * PART
                    PartTasks(self.rows).find(row, part, logits.unsafe_offset(row * width + start))
        wide.unsafe_free()
        sums.unsafe_free()
        logits.unsafe_free()

    @always_inline
    def _multiply(self, block: Int, logits: Floats, width: Int, wide: Ints, sums: Ints):
        """The logits (L, width) of a block of the vocabulary."""
        var first = block * PART
        var stop = first + PART if block < self.whole else self.layer.N
        for n in range(first, stop, PANEL):
            multiply[Self.mode](self.layer, self.packed, self.row_length, self.L, n // PANEL, wide, sums)
            finish[Self.mode, "none", False](
                sums,
                PANEL,
                self.scales,
                self.L,
                min(PANEL, self.layer.N - n),
                self.layer,
                n,
                logits.unsafe_offset(n - first),
                width,
                logits,
            )


def head_candidates[
    mode: StaticString
](
    tokens: Ints,
    logprobs: Floats,
    x: Floats,
    layer: Layer,
    limits: Ints,
    forbidden: Ints,
    forbidden_count: Int,
    numbers: Floats,
    L: Int,
    k: Int,
    team: Team,
):
    """Candidates of L rows, whose logits are (L, K) x @ W; as `linear` and `candidates` give them.

    Args:
        tokens: (L, k) ids, best first.
        logprobs: (L, k) log-probabilities under the constraint.
        x: (L, K).
        layer: The output head.
        limits: (L, LIMITS), which watch nothing.
        forbidden: (L, forbidden_count) ids, -1 for none.
        forbidden_count: Columns of `forbidden`.
        numbers: (L, 2) temperature, and 1.
        L: Rows.
        k: Candidates a row.
        team: Who works.
    """
    var row_length = row_words[mode, multiplied[mode]()](layer.K) + GAP
    var tiles = ceildiv(L, ROWS)
    var packed = unsafe_alloc[Int32](tiles * ROWS * row_length, alignment=64)
    var scales = unsafe_alloc[Scale](tiles * ROWS)
    team.do(PackTasks[mode](packed, row_length, scales, x, layer.K, L, layer.K), tiles)
    var rows = Rows(L, x, limits, forbidden, forbidden, numbers, layer.N, k, forbidden_count, 0)
    var begin = layer.N
    for row in range(L):
        begin = min(begin, rows.begin(row))
    var next = unsafe_alloc[Atomic[Int64]](1)
    next.unsafe_write(Atomic[Int64](0))
    team.do(HeadTasks[mode](rows, L, layer, packed, row_length, scales, next, begin // PART), team.threads)
    var watched = unsafe_alloc[Float32](L)
    rows.choose(L, tokens, logprobs, watched)
    watched.unsafe_free()
    next.unsafe_free()
    rows.free()
    scales.unsafe_free()
    packed.unsafe_free()
