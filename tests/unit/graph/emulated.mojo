"""The kernels by themselves, on arrays from a file: ``emulated INPUTS OUTPUTS``.

What `kernel_graph.py` puts into a graph of MAX, in the same order, for processors that are emulated.
Files are made and read by `emulated.py`.
"""

from std.memory.alloc import unsafe_alloc
from std.sys import argv

from kernels.attention import encoder_attention
from kernels.begins import token_begins
from kernels.candidates import Choices, Rows
from kernels.cross import KeepTasks
from kernels.head import head_candidates
from kernels.epilogue import Layer
from kernels.linear import linear
from kernels.pointwise import embed
from kernels.team import Team, start_team
from kernels.tile import Floats, Ints
from kernels.vocabulary import Addresses, PlainVocabulary, QuickVocabulary, Vocabulary
from kernels.voice import Silero, speech

comptime HEADS = 2
comptime LAYERS = 2
comptime MOST = 1 << 24  # numbers of all outputs together
comptime ENTRY = 6  # numbers that tell of an array: where it lies, and its sizes

# The inputs' places; those of precisions follow each other.
comptime X = 0
comptime RESIDUAL = 1
comptime TEAM = 2
comptime LAYER = 3
comptime QKV = 13
comptime STATE = 14
comptime CACHE = 15
comptime KV = 18
comptime QUERIES = 19
comptime PAIRS = 20
comptime PLACE = 21
comptime WANTED = 22
comptime SAMPLES = 24
comptime SILERO = 25
comptime WINDOWS = 26
comptime VOCABULARY = 27
comptime HIDDEN = 32
comptime LIMITS = 33
comptime FORBIDDEN = 34
comptime REPEATED = 35
comptime NUMBERS = 36
comptime K = 37
comptime KEPT = 38
comptime SAID = 39


struct Run:
    """The inputs, and the outputs so far."""

    var base: Addresses
    var table: Addresses
    var outputs: Floats
    var filled: Int
    var told: List[Int64]  # how many outputs; of each whether it holds integers, its rows (-1: a vector), its columns

    def __init__(out self, base: Addresses):
        """Makes addresses of what the file has as distances from its beginning."""
        var count = Int(base[])
        for i in range(count):
            base[unsafe_offset=Int(base[unsafe_offset=1 + 2 * i]) // 8] = base[unsafe_offset=2 + 2 * i] + Int64(Int(base))
        self.base = base
        self.table = base.unsafe_offset(1 + 2 * count)
        self.outputs = unsafe_alloc[Float32](MOST, alignment=64)
        self.filled = 0
        self.told = [Int64(0)]

    def size(self, input: Int, axis: Int) -> Int:
        return Int(self.table[unsafe_offset=ENTRY * input + 1 + axis])

    def address(self, input: Int) -> Int:
        return Int(self.base) + Int(self.table[unsafe_offset=ENTRY * input])

    def floats(self, input: Int) -> Floats:
        return Floats(unsafe_from_address=self.address(input))

    def ints(self, input: Int) -> Ints:
        return Ints(unsafe_from_address=self.address(input))

    def numbers(self, input: Int) -> Addresses:
        return Addresses(unsafe_from_address=self.address(input))

    def output(mut self, rows: Int, columns: Int, integers: Bool = False) -> Floats:
        """Room for an output."""
        self.told.append(Int64(Int(integers)))
        self.told.append(Int64(rows))
        self.told.append(Int64(columns))
        var found = self.outputs.unsafe_offset(self.filled)
        self.filled += abs(rows) * columns
        return found

    def vector(mut self, size: Int, integers: Bool = False) -> Floats:
        return self.output(-1, size, integers)


def add_layer[mode: StaticString](mut run: Run, input: Int, team: Team):
    var M = run.size(X, 0)
    var depth = run.size(X, 1)
    var N = run.size(RESIDUAL, 1)
    var x = run.floats(X)
    var layer = Layer(run.ints(input), run.floats(input + 1), N, depth)
    linear[mode, "none", False](run.output(M, N), x, depth, layer, x, M, team)
    linear[mode, "gelu", False](run.output(M, N), x, depth, layer, x, M, team)
    linear[mode, "none", True](run.output(M, N), x, depth, layer, run.floats(RESIDUAL), M, team)


def add_attention[mode: StaticString](mut run: Run, team: Team):
    var positions = run.size(QKV, 0)
    var state = run.size(STATE, 1)
    encoder_attention[mode](run.output(positions, state), run.floats(QKV), positions, HEADS, state // HEADS, team)


def add_begins[mode: StaticString](mut run: Run, input: Int, team: Team):
    var positions = run.size(KV, 0)
    var D = run.size(KV, 1) // 2 // HEADS
    var words = run.size(input, 3)
    var cache = run.ints(input)
    for layer in range(LAYERS):
        var kept = cache.unsafe_offset(layer * HEADS * words)
        team.do(KeepTasks[mode](kept, words, run.floats(KV), positions, HEADS, D), HEADS)
    var wanted = run.size(WANTED, 0)
    token_begins[mode](
        run.vector(wanted, integers=True).unsafe_bitcast[Int32](),
        run.floats(QUERIES),
        cache,
        words,
        run.ints(PAIRS),
        run.size(PAIRS, 0),
        run.ints(WANTED),
        wanted,
        run.size(QUERIES, 1),
        Int(run.ints(PLACE)[unsafe_offset=1]),
        HEADS,
        D,
        team,
    )


def add_choice[V: Vocabulary](mut run: Run, input: Int, team: Team):
    var L = run.size(HIDDEN, 0)
    var depth = run.size(HIDDEN, 1)
    var k = run.size(K, 0)
    var places = run.numbers(input)
    var vocabulary = V.at(places, depth)
    var tokens = vocabulary.tokens()
    var rows = Rows(
        L,
        run.ints(LIMITS),
        run.ints(FORBIDDEN),
        run.ints(REPEATED),
        run.floats(NUMBERS),
        tokens,
        k,
        run.size(FORBIDDEN, 1),
        run.size(REPEATED, 1),
    )
    var chosen = run.output(L, k, integers=True).unsafe_bitcast[Int32]()
    var choices = Choices(chosen, run.output(L, k), run.vector(L))
    var keeps = run.size(KEPT, 0) > 0
    var logits = run.output(L if keeps else 0, tokens)
    head_candidates(choices, run.floats(HIDDEN), vocabulary, rows, L, depth, logits, keeps, team)
    rows.free()
    var positional = Floats(unsafe_from_address=Int(places[unsafe_offset=V.PLACES]))
    embed(run.output(L, depth), run.ints(SAID), run.ints(SAID), vocabulary, positional, L, depth)


def main() raises:
    var content: List[UInt8]
    with open(argv()[1], "r") as file:
        content = file.read_bytes()
    var memory = unsafe_alloc[UInt8](len(content), alignment=64)
    for i in range(len(content)):
        memory[unsafe_offset=i] = content[i]
    var run = Run(memory.unsafe_bitcast[Int64]())
    var threads = Int(run.numbers(TEAM)[unsafe_offset=1])
    var team = Team(start_team(threads), threads)
    add_layer["float32"](run, LAYER, team)
    add_layer["float16"](run, LAYER + 2, team)
    add_layer["bfloat16"](run, LAYER + 4, team)
    add_layer["int8"](run, LAYER + 6, team)
    add_layer["bounded"](run, LAYER + 8, team)
    add_attention["float32"](run, team)
    add_attention["bfloat16"](run, team)
    add_attention["int8"](run, team)
    add_begins["float32"](run, CACHE, team)
    add_begins["bfloat16"](run, CACHE + 1, team)
    add_begins["int8"](run, CACHE + 2, team)
    var windows = run.vector(run.size(WINDOWS, 0))
    speech(windows, run.floats(SAMPLES), run.size(SAMPLES, 0), Silero(run.numbers(SILERO)), team)
    add_choice[PlainVocabulary["float32"]](run, VOCABULARY, team)
    add_choice[PlainVocabulary["float16"]](run, VOCABULARY + 1, team)
    add_choice[PlainVocabulary["bfloat16"]](run, VOCABULARY + 2, team)
    add_choice[QuickVocabulary](run, VOCABULARY + 3, team)
    add_choice[QuickVocabulary](run, VOCABULARY + 4, team)
    run.told[0] = Int64(len(run.told) // 3)
    var told = Addresses(unsafe_from_address=Int(run.told.unsafe_ptr()))
    var result = List[UInt8]()
    add_bytes(result, told.unsafe_bitcast[UInt8](), 8 * len(run.told))
    add_bytes(result, run.outputs.unsafe_bitcast[UInt8](), 4 * run.filled)
    with open(argv()[2], "w") as file:
        file.write_bytes(Span(result))


def add_bytes(mut result: List[UInt8], bytes: Pointer[UInt8, MutUntrackedOrigin], count: Int):
    for i in range(count):
        result.append(bytes[unsafe_offset=i])
