"""Silero VAD: the probability of speech in windows of 32 ms that follow each other.

The semantics are those of `max_whisper.transcribe.silero`. What does not depend on the windows before
is computed for some windows a task, while one task takes the windows of the round before through the
recurrent layer.
"""

from std.math import exp, sqrt, tanh
from std.memory.alloc import unsafe_alloc

from .epilogue import Layer, Scales, finish
from .panels import Packed, multiply
from .team import Team, Work
from .tile import F32, Floats, PANEL, Vec, WIDTH, ceildiv, sweep, words

comptime WINDOW = 512
comptime CONTEXT = 64  # samples before a window that are heard with it
comptime MIRRORED = 64  # samples that follow it: its last ones, backwards
comptime FRAME = 256  # samples that one spectrum is of
comptime HOP = 128
comptime FRAMES = 4  # of a window
comptime BINS = FRAME // 2 + 1
comptime QUARTER = FRAME // 4
comptime UNITS = 128
comptime GATES = 4 * UNITS
comptime Addresses = Pointer[Int64, MutUntrackedOrigin]
comptime PART = 24  # windows of a task: whole tiles of rows
comptime ROUND = 8 * PART  # windows that are under way together

# Distances between rows, of which no power of two falls into the same cache sets again and again.
comptime FOLDED = QUARTER + 8
comptime FIRST_ROW = FRAMES * BINS + 4
comptime SECOND_ROW = FRAMES * UNITS + 16
comptime THIRD_ROW = UNITS + 16
comptime FOURTH_ROW = UNITS // 2 + 16
comptime LAST_ROW = UNITS + 16


struct Silero(ImplicitlyCopyable, Movable):
    """The weights, in the order in which `graph/voice.py` gives their addresses; all are float32.

    Fields:
        window: (FRAME / 2 + 1,) what samples are multiplied by, from a frame's ends to its middle.
        even_cosines: What `Stage.fold` makes of a frame to the real parts of bins 0, 2 and so on, but the last.
        odd_cosines: To the real parts of bins 1, 3 and so on.
        even_sines: To the imaginary parts of bins 0, 2 and so on, but the last.
        odd_sines: To the imaginary parts of bins 1, 3 and so on.
        first: The convolutions over three neighbouring frames. This one's bins are the even ones, then
            the odd ones.
        second: Takes every other frame.
        third: Of the two frames that are left.
        fourth: Of the one frame that is left.
        input: The recurrent layer's, of what the convolutions find.
        past: The recurrent layer's, of its own values.
        output: (UNITS + 1,) of its rectified values, and what is added.
    """

    var window: Floats
    var even_cosines: Layer
    var odd_cosines: Layer
    var even_sines: Layer
    var odd_sines: Layer
    var first: Layer
    var second: Layer
    var third: Layer
    var fourth: Layer
    var input: Layer
    var past: Layer
    var output: Floats

    def __init__(out self, arrays: Addresses):
        self.window = floats_at(arrays, 0)
        self.even_cosines = layer_at(arrays, 1, QUARTER + 1, QUARTER)
        self.odd_cosines = layer_at(arrays, 3, QUARTER, QUARTER)
        self.even_sines = layer_at(arrays, 5, QUARTER, QUARTER)
        self.odd_sines = layer_at(arrays, 7, QUARTER, QUARTER)
        self.first = layer_at(arrays, 9, 3 * BINS, UNITS)
        self.second = layer_at(arrays, 11, 3 * UNITS, UNITS // 2)
        self.third = layer_at(arrays, 13, UNITS, UNITS // 2)
        self.fourth = layer_at(arrays, 15, UNITS // 2, UNITS)
        self.input = layer_at(arrays, 17, UNITS, GATES)
        self.past = layer_at(arrays, 19, UNITS, GATES)
        self.output = floats_at(arrays, 21)


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
    """Room for what a task's windows become."""

    var heard: Floats
    var folded: Floats  # four of (frames, FOLDED)
    var spectra: Floats  # and what they become
    var first: Floats
    var second: Floats
    var third: Floats
    var fourth: Floats
    var last: Floats
    var sums: Floats

    def __init__(out self):
        comptime HEARD = CONTEXT + WINDOW + MIRRORED + 2 * WIDTH
        comptime PARTS = 4 * PART * FRAMES * FOLDED
        comptime ROW = FIRST_ROW + SECOND_ROW + THIRD_ROW + FOURTH_ROW + LAST_ROW
        self.heard = unsafe_alloc[F32](HEARD + 2 * PARTS + PART * ROW + PART * FRAMES * PANEL, alignment=64)
        self.folded = self.heard.unsafe_offset(HEARD)
        self.spectra = self.folded.unsafe_offset(PARTS)
        self.first = self.spectra.unsafe_offset(PARTS)
        self.second = self.first.unsafe_offset(PART * FIRST_ROW)
        self.third = self.second.unsafe_offset(PART * SECOND_ROW)
        self.fourth = self.third.unsafe_offset(PART * THIRD_ROW)
        self.last = self.fourth.unsafe_offset(PART * FOURTH_ROW)
        self.sums = self.last.unsafe_offset(PART * LAST_ROW)

    def part(self, of: Floats, index: Int) -> Floats:
        """One of the four parts: even and odd bins' cosines, even and odd bins' sines."""
        return of.unsafe_offset(index * PART * FRAMES * FOLDED)

    def hear(self, samples: Floats, count: Int, window: Int):
        """The samples of a window, those before it, and its last ones mirrored; there is silence around all."""
        var start = window * WINDOW - CONTEXT
        var first = max(0, -start)
        var stop = min(CONTEXT + WINDOW, count - start)
        for i in range(first):
            self.heard[unsafe_offset=i] = 0
        for i in range(first, stop):
            self.heard[unsafe_offset=i] = samples[unsafe_offset=start + i]
        for i in range(stop, CONTEXT + WINDOW):
            self.heard[unsafe_offset=i] = 0
        for i in range(MIRRORED):
            self.heard[unsafe_offset=CONTEXT + WINDOW + i] = self.heard[unsafe_offset=CONTEXT + WINDOW - 2 - i]

    def fold(self, x: Floats, row: Int, window: Floats):
        """The four parts of a frame, each of what one kind of bins multiplies by the same numbers.

        Cosines are even about a frame's middle and sines odd; those of even bins are so about its
        quarters, too, and those of odd bins the other way round.
        """
        var both = self.part(self.folded, 0).unsafe_offset(row * FOLDED)
        var apart = self.part(self.folded, 1).unsafe_offset(row * FOLDED)
        var odd_apart = self.part(self.folded, 2).unsafe_offset(row * FOLDED)
        var odd_both = self.part(self.folded, 3).unsafe_offset(row * FOLDED)
        comptime HALF = 2 * QUARTER
        for n in range(0, QUARTER, WIDTH):
            var a = x.unsafe_load[width=WIDTH](n)
            var b = backwards(x, FRAME - n)
            var c = backwards(x, HALF - n)
            var d = x.unsafe_load[width=WIDTH](HALF + n)
            var outer = window.unsafe_load[width=WIDTH](n)
            var inner = backwards(window, HALF - n)
            both.unsafe_store(n, outer * (a + b) + inner * (c + d))
            apart.unsafe_store(n, outer * (a + b) - inner * (c + d))
            odd_apart.unsafe_store(n, outer * (a - b) - inner * (c - d))
            odd_both.unsafe_store(n, outer * (a - b) + inner * (c - d))
        # The ends and the middle have no other that mirrors them. Sines multiply both by 0.
        var ends = window[] * x[]
        var middle = window[unsafe_offset=HALF] * x[unsafe_offset=HALF]
        both[] = ends + middle
        apart[] = ends - middle
        var quarter = window[unsafe_offset=QUARTER]
        var one = x[unsafe_offset=QUARTER]
        var other = x[unsafe_offset=FRAME - QUARTER]
        both[unsafe_offset=QUARTER] = quarter * (one + other)
        odd_both[] = quarter * (one - other)

    def magnitudes(self, windows: Int):
        """The bins of all frames, from the four parts of their spectra: even ones, then odd ones."""
        for w in range(windows):
            for f in range(FRAMES):
                var row = (w * FRAMES + f) * FOLDED
                var x = self.first.unsafe_offset(w * FIRST_ROW + f * BINS)
                for odd in range(2):
                    var real = self.part(self.spectra, odd).unsafe_offset(row)
                    var imaginary = self.part(self.spectra, 2 + odd).unsafe_offset(row)
                    for k in range(0, QUARTER, WIDTH):
                        var a = real.unsafe_load[width=WIDTH](k)
                        var b = imaginary.unsafe_load[width=WIDTH](k)
                        x.unsafe_store(odd * (QUARTER + 1) + k, sqrt(a * a + b * b))
                # The cosines of the last bin are 1 and -1 in turns.
                var folded = self.part(self.folded, 0).unsafe_offset(row)
                var sum = folded[unsafe_offset=QUARTER]
                for n in range(0, QUARTER, 2):
                    sum += folded[unsafe_offset=n] - folded[unsafe_offset=n + 1]
                x[unsafe_offset=QUARTER] = abs(sum)

    def free(self):
        self.heard.unsafe_free()


@always_inline
def backwards(x: Floats, last: Int) -> Vec:
    """x[last], x[last - 1] and so on."""
    return x.unsafe_load[width=WIDTH](last - (WIDTH - 1)).reversed()


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
        var rows = windows * FRAMES
        var stage = Stage()
        for w in range(windows):
            stage.hear(self.samples, self.count, self.first + first + w)
            for f in range(FRAMES):
                stage.fold(stage.heard.unsafe_offset(f * HOP), w * FRAMES + f, self.silero.window)
        comptime for i in range(4):
            var layer = self._spectrum[i]()
            apply["none"](
                stage.part(stage.spectra, i), FOLDED, stage.part(stage.folded, i), FOLDED, rows, layer, 0, layer.K, stage.sums
            )
        stage.magnitudes(windows)
        self._convolve(stage.second, SECOND_ROW, stage.first, FIRST_ROW, windows, self.silero.first, FRAMES, 1, stage.sums)
        self._convolve(stage.third, THIRD_ROW, stage.second, SECOND_ROW, windows, self.silero.second, FRAMES, 2, stage.sums)
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

    def _spectrum[index: Int](self) -> Layer:
        comptime if index == 0:
            return self.silero.even_cosines
        comptime if index == 1:
            return self.silero.odd_cosines
        comptime if index == 2:
            return self.silero.even_sines
        return self.silero.odd_sines

    def _convolve(
        self, result: Floats, result_row: Int, x: Floats, x_row: Int, windows: Int, layer: Layer, frames: Int, step: Int, sums: Floats
    ):
        """The rectified convolution of each window's frames, at every `step`-th one."""
        var channels = layer.K // 3
        for f in range(0, frames, step):
            # Before the first frame and after the last there is nothing to multiply.
            var begin = max(0, f - 1)
            var stop = min(frames, f + 2)
            apply["relu"](
                result.unsafe_offset(f // step * layer.N),
                result_row,
                x.unsafe_offset(begin * channels),
                x_row,
                windows,
                layer,
                (begin - f + 1) * channels,
                (stop - f + 1) * channels,
                sums,
            )

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
