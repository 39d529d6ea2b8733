"""Silero VAD: the probability of speech in windows of 32 ms that follow each other.

The semantics are those of `max_whisper.transcribe.silero`. What does not depend on the windows before
is computed for some windows a task, while one task takes the windows of the round before through the
recurrent layer.
"""

from std.collections import Array
from std.math import exp, tanh
from std.memory.alloc import unsafe_alloc

from .epilogue import Layer, Scales, finish
from .pack import larger
from .panels import Packed, multiply
from .spectrum import BINS, FRAME_ROWS, Spectrum
from .team import Team, Work
from .tile import F32, Floats, PANEL, Vec, WIDTH, ceildiv, sweep, words

comptime WINDOW = 512
comptime CONTEXT = 64  # samples before a window that are heard with it
comptime MIRRORED = 64  # samples that follow it: its last ones, backwards
comptime HOP = 128
comptime FRAMES = 4  # of a window
comptime UNITS = 128
comptime GATES = 4 * UNITS
comptime Addresses = Pointer[Int64, MutUntrackedOrigin]
comptime PART = 24  # windows of a task: whole tiles of rows
comptime ROUND = 8 * PART  # windows that are under way together

comptime POINTS = FRAMES + 2  # of the first convolution
comptime TOGETHER = max(1, WIDTH // FRAMES)  # windows whose frames are as many as a vector has lanes

# Distances between rows, of which no power of two falls into the same cache sets again and again.
comptime HEARD = CONTEXT + WINDOW + MIRRORED + 16
comptime ROOM = ceildiv(BINS, 16) * 16  # for a frame's bins: whole vectors
comptime FIRST_ROW = POINTS * ROOM + 16
comptime POINTS_ROW = POINTS * UNITS + 16
comptime SECOND_ROW = FRAMES * UNITS + 16
comptime THIRD_ROW = UNITS + 16
comptime FOURTH_ROW = UNITS // 2 + 16
comptime LAST_ROW = UNITS + 16


struct Silero(ImplicitlyCopyable, Movable):
    """The weights, in the order in which `graph/voice.py` gives their addresses; all are float32.

    Fields:
        spectrum: Of a window's frames.
        first: The convolutions over three neighbouring frames. This one is there as its values at POINTS
            points, see `at_points`, and its bias by itself.
        second: Takes every other frame.
        third: Of the two frames that are left.
        fourth: Of the one frame that is left.
        input: The recurrent layer's, of what the convolutions find.
        past: The recurrent layer's, of its own values.
        output: (UNITS + 1,) of its rectified values, and what is added.
    """

    var spectrum: Spectrum
    var first: Layer
    var first_bias: Floats
    var second: Layer
    var third: Layer
    var fourth: Layer
    var input: Layer
    var past: Layer
    var output: Floats

    def __init__(out self, arrays: Addresses):
        self.spectrum = Spectrum(floats_at(arrays, 0), floats_at(arrays, 1), floats_at(arrays, 2))
        self.first = layer_at(arrays, 3, BINS, POINTS * UNITS)
        self.first_bias = floats_at(arrays, 5)
        self.second = layer_at(arrays, 6, 3 * UNITS, UNITS // 2)
        self.third = layer_at(arrays, 8, UNITS, UNITS // 2)
        self.fourth = layer_at(arrays, 10, UNITS // 2, UNITS)
        self.input = layer_at(arrays, 12, UNITS, GATES)
        self.past = layer_at(arrays, 14, UNITS, GATES)
        self.output = floats_at(arrays, 16)


def floats_at(arrays: Addresses, index: Int) -> Floats:
    return Floats(unsafe_from_address=Int(arrays[unsafe_offset=index]))


def layer_at(arrays: Addresses, index: Int, K: Int, N: Int) -> Layer:
    """The layer whose panels and epilogue have that index and the next."""
    return Layer(words(floats_at(arrays, index)), floats_at(arrays, index + 1), N, K)


def apply[
    activation: StaticString
](result: Floats, result_row: Int, a: Floats, a_row: Int, rows: Int, layer: Layer, begin: Int, stop: Int, sums: Floats):
    """result (rows, N) = activation(a (rows, stop - begin) @ W[begin:stop] + bias).

    Args:
        result: Rows `result_row` apart.
        result_row: Distance between rows of the output.
        a: Rows `a_row` apart, as many as whole tiles take.
        a_row: Distance between rows of A.
        rows: How many count.
        layer: W and the bias.
        begin: The first row of W that is multiplied.
        stop: The row after the last one.
        sums: Room for a panel of as many rows as whole tiles take.
    """
    # float32 has no scales, and needs no room to be widened.
    var scales = Scales(unsafe_from_address=Int(sums))
    var packed = Packed(words(a), a_row, scales)
    for p in range(layer.N // PANEL):
        multiply["float32"](layer, packed, rows, p, begin, stop, words(sums), words(sums))
        var place = result.unsafe_offset(p * PANEL)
        finish["float32", activation, False, True](
            words(sums), PANEL, scales, rows, PANEL, layer, p * PANEL, place, result_row, place
        )


struct Stage(ImplicitlyCopyable, Movable):
    """Room for what a task's windows become, or TOGETHER of them at a time.

    Fields:
        heard: (TOGETHER, HEARD) samples.
        spectra: For what is between them and their bins.
        bins: (TOGETHER, FRAMES, ROOM).
        first: What the first convolution takes, at its points, (POINTS, ROOM) of each window.
        points: What it gives there, (POINTS, UNITS).
        second: What the second one takes, (FRAMES, UNITS).
        third: And the third, and so on.
        fourth: See above.
        last: What the recurrent layer takes.
        sums: For a panel of products.
    """

    var heard: Floats
    var spectra: Floats
    var bins: Floats
    var first: Floats
    var points: Floats
    var second: Floats
    var third: Floats
    var fourth: Floats
    var last: Floats
    var sums: Floats

    def __init__(out self):
        comptime ROW = FIRST_ROW + POINTS_ROW + SECOND_ROW + THIRD_ROW + FOURTH_ROW + LAST_ROW
        self.heard = unsafe_alloc[F32](
            TOGETHER * HEARD + 2 * FRAME_ROWS * WIDTH + TOGETHER * FRAMES * ROOM + PART * ROW + PART * PANEL, alignment=64
        )
        self.spectra = self.heard.unsafe_offset(TOGETHER * HEARD)
        self.bins = self.spectra.unsafe_offset(2 * FRAME_ROWS * WIDTH)
        self.first = self.bins.unsafe_offset(TOGETHER * FRAMES * ROOM)
        self.points = self.first.unsafe_offset(PART * FIRST_ROW)
        self.second = self.points.unsafe_offset(PART * POINTS_ROW)
        self.third = self.second.unsafe_offset(PART * SECOND_ROW)
        self.fourth = self.third.unsafe_offset(PART * THIRD_ROW)
        self.last = self.fourth.unsafe_offset(PART * FOURTH_ROW)
        self.sums = self.last.unsafe_offset(PART * LAST_ROW)

    def transform(self, spectrum: Spectrum, samples: Floats, count: Int, first: Int, windows: Int):
        """What the first convolution takes of some windows."""
        var frames = Array[Floats, WIDTH](fill=self.heard)
        comptime for i in range(WIDTH):
            frames[i] = self.heard.unsafe_offset(i // FRAMES * HEARD + i % FRAMES * HOP)
        for w in range(0, windows, TOGETHER):
            var some = min(TOGETHER, windows - w)
            for i in range(some):
                hear(self.heard.unsafe_offset(i * HEARD), samples, count, first + w + i)
            spectrum.magnitudes(self.bins, ROOM, frames, self.spectra)
            for i in range(some):
                at_points(self.first.unsafe_offset((w + i) * FIRST_ROW), self.bins.unsafe_offset(i * FRAMES * ROOM))

    def free(self):
        self.heard.unsafe_free()


def hear(heard: Floats, samples: Floats, count: Int, window: Int):
    """The samples of a window, those before it, and its last ones mirrored; there is silence around all."""
    var start = window * WINDOW - CONTEXT
    var first = max(0, -start)
    var stop = min(CONTEXT + WINDOW, count - start)
    for i in range(first):
        heard[unsafe_offset=i] = 0
    for i in range(first, stop):
        heard[unsafe_offset=i] = samples[unsafe_offset=start + i]
    for i in range(stop, CONTEXT + WINDOW):
        heard[unsafe_offset=i] = 0
    for i in range(MIRRORED):
        heard[unsafe_offset=CONTEXT + WINDOW + i] = heard[unsafe_offset=CONTEXT + WINDOW - 2 - i]


def at_points(points: Floats, bins: Floats):
    """A window's frames, the coefficients of a polynomial for each bin, as its values at POINTS points.

    A convolution is a product of polynomials, and is told by its values at as many points as it has
    coefficients: with six products of matrices instead of ten (Winograd's F(4, 3)). The points are 0, 1, -1,
    2, -2 and infinity; before the first frame and after the last there is nothing.

    Args:
        points: (POINTS, ROOM), written.
        bins: (FRAMES, ROOM).
    """
    for k in range(0, ROOM, WIDTH):
        var a = bins.unsafe_load[width=WIDTH](k)
        var b = bins.unsafe_load[width=WIDTH](ROOM + k)
        var c = bins.unsafe_load[width=WIDTH](2 * ROOM + k)
        var d = bins.unsafe_load[width=WIDTH](3 * ROOM + k)
        points.unsafe_store(k, d - 5 * b)
        points.unsafe_store(ROOM + k, (c + d) - 4 * (a + b))
        points.unsafe_store(2 * ROOM + k, 4 * (a - b) - (c - d))
        points.unsafe_store(3 * ROOM + k, 2 * (c - a) + (d - b))
        points.unsafe_store(4 * ROOM + k, (d - b) - 2 * (c - a))
        points.unsafe_store(5 * ROOM + k, 4 * a - 5 * c)


def from_points(frames: Floats, points: Floats, bias: Floats):
    """The rectified convolution at a window's frames (FRAMES, UNITS), from its values (POINTS, UNITS)."""
    for k in range(0, UNITS, WIDTH):
        var one = points.unsafe_load[width=WIDTH](UNITS + k)
        var minus_one = points.unsafe_load[width=WIDTH](2 * UNITS + k)
        var two = points.unsafe_load[width=WIDTH](3 * UNITS + k)
        var minus_two = points.unsafe_load[width=WIDTH](4 * UNITS + k)
        var none = points.unsafe_load[width=WIDTH](k)
        var endless = points.unsafe_load[width=WIDTH](5 * UNITS + k)
        var even, odd = one + minus_one, one - minus_one
        var far_even, far_odd = two + minus_two, two - minus_two
        var more = bias.unsafe_load[width=WIDTH](k)
        var nothing = Vec(0)
        frames.unsafe_store(k, larger(none + even + far_even + more, nothing))
        frames.unsafe_store(UNITS + k, larger(odd + 2 * far_odd + more, nothing))
        frames.unsafe_store(2 * UNITS + k, larger(even + 4 * far_even + more, nothing))
        frames.unsafe_store(3 * UNITS + k, larger(odd + 8 * far_odd + endless + more, nothing))


@fieldwise_init
struct RoundTasks(Work):
    """The first task: the recurrent layer over some windows. Each other one: what comes before it, of
    PART windows of the next round."""

    var silero: Silero
    var samples: Floats
    var count: Int  # of all samples
    var first: Int  # of the windows of the next round
    var windows: Int  # how many there are
    var inputs: Floats  # (windows, GATES) what they become
    var waiting: Floats  # (before, GATES) of the round before
    var before: Int
    var state: Floats  # (2, UNITS) the recurrent layer's values and its cells
    var probabilities: Floats  # (before,)

    def run(self, task: Int):
        if task == 0:
            self._remember()
        else:
            self._encode((task - 1) * PART)

    def _encode(self, first: Int):
        var windows = min(PART, self.windows - first)
        var stage = Stage()
        stage.transform(self.silero.spectrum, self.samples, self.count, self.first + first, windows)
        for point in range(POINTS):
            var weight = self.silero.first.weight.unsafe_offset(point * UNITS * BINS)
            apply["none"](
                stage.points.unsafe_offset(point * UNITS),
                POINTS_ROW,
                stage.first.unsafe_offset(point * ROOM),
                FIRST_ROW,
                windows,
                Layer(weight, self.silero.first.epilogue, UNITS, BINS),
                0,
                BINS,
                stage.sums,
            )
        for w in range(windows):
            from_points(
                stage.second.unsafe_offset(w * SECOND_ROW), stage.points.unsafe_offset(w * POINTS_ROW), self.silero.first_bias
            )
        for f in range(0, FRAMES, 2):
            # Before the first frame there is nothing to multiply.
            var begin = max(0, f - 1)
            apply["relu"](
                stage.third.unsafe_offset(f // 2 * self.silero.second.N),
                THIRD_ROW,
                stage.second.unsafe_offset(begin * UNITS),
                SECOND_ROW,
                windows,
                self.silero.second,
                (begin - f + 1) * UNITS,
                3 * UNITS,
                stage.sums,
            )
        apply["relu"](
            stage.fourth, FOURTH_ROW, stage.third, THIRD_ROW, windows, self.silero.third, 0, UNITS, stage.sums
        )
        apply["relu"](
            stage.last, LAST_ROW, stage.fourth, FOURTH_ROW, windows, self.silero.fourth, 0, UNITS // 2, stage.sums
        )
        apply["none"](
            self.inputs.unsafe_offset(first * GATES), GATES, stage.last, LAST_ROW, windows, self.silero.input, 0, UNITS, stage.sums
        )
        stage.free()

    def _remember(self):
        var sums = unsafe_alloc[F32](GATES, alignment=64)
        var hidden = self.state
        var cell = self.state.unsafe_offset(UNITS)
        for w in range(self.before):
            var input = self.waiting.unsafe_offset(w * GATES)
            sweep["float32", "float32"](
                1,
                words(hidden),
                0,
                self.silero.past.weight,
                UNITS * PANEL,
                GATES // PANEL,
                UNITS,
                words(sums),
                GATES,
                True,
            )
            var spoken = Vec(0)
            for i in range(0, UNITS, WIDTH):
                var let_in = logistic(gate(sums, input, i))
                var kept = logistic(gate(sums, input, UNITS + i))
                var new = tanh(gate(sums, input, 2 * UNITS + i))
                var let_out = logistic(gate(sums, input, 3 * UNITS + i))
                var value = kept * cell.unsafe_load[width=WIDTH](i) + let_in * new
                cell.unsafe_store(i, value)
                var out = let_out * tanh(value)
                hidden.unsafe_store(i, out)
                spoken += max(out, Vec(0)) * self.silero.output.unsafe_load[width=WIDTH](i)
            var logit = spoken.reduce_add() + self.silero.output[unsafe_offset=UNITS]
            self.probabilities[unsafe_offset=w] = 1 / (1 + exp(-logit))
        sums.unsafe_free()


@always_inline
def gate(sums: Floats, input: Floats, i: Int) -> Vec:
    return sums.unsafe_load[width=WIDTH](i) + input.unsafe_load[width=WIDTH](i)


@always_inline
def logistic(x: Vec) -> Vec:
    return 1 / (1 + exp(-x))


def speech(probabilities: Floats, samples: Floats, count: Int, silero: Silero, team: Team):
    """The probability of speech in each window of a recording.

    Args:
        probabilities: One for each WINDOW samples that begins.
        samples: (count,).
        count: How many.
        silero: Weights.
        team: Who works.
    """
    var windows = ceildiv(count, WINDOW)
    var inputs = unsafe_alloc[F32](ROUND * GATES, alignment=64)
    var waiting = unsafe_alloc[F32](ROUND * GATES, alignment=64)
    var state = unsafe_alloc[F32](2 * UNITS, alignment=64)
    for i in range(2 * UNITS):
        state[unsafe_offset=i] = 0
    var before = 0
    for first in range(0, windows + ROUND, ROUND):
        var here = max(0, min(ROUND, windows - first))
        team.do(
            RoundTasks(
                silero,
                samples,
                count,
                first,
                here,
                inputs,
                waiting,
                before,
                state,
                probabilities.unsafe_offset(first - ROUND),
            ),
            1 + ceildiv(here, PART),
        )
        swap(inputs, waiting)
        before = here
    state.unsafe_free()
    waiting.unsafe_free()
    inputs.unsafe_free()
