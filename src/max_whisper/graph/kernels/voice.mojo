"""Silero VAD: the probability of speech in windows of 32 ms that follow each other.

The semantics are those of `max_whisper.transcribe.silero`. What does not depend on the windows before
is computed for some windows a task, while one task takes the windows of the round before through the
recurrent layer.
"""

from std.math import exp, sqrt, tanh
from std.memory.alloc import unsafe_alloc

from .linear import Layer, linear
from .team import Team, Work
from .tile import F32, Floats, PANEL, Vec, WIDTH, ceildiv, sweep, words

comptime WINDOW = 512
comptime CONTEXT = 64  # samples before a window that are heard with it
comptime FRAME = 256  # samples that one spectrum is of
comptime HOP = 128
comptime FRAMES = 4  # of a window
comptime EVEN = FRAME // 2 + 1  # cosines that a frame is divided into; also the bins of its spectrum
comptime ODD = FRAME // 2 - 1  # sines
comptime UNITS = 128
comptime GATES = 4 * UNITS
comptime Addresses = Pointer[Int64, MutUntrackedOrigin]
comptime PART = 24  # windows of a task
comptime ROUND = 8 * PART  # windows that are under way together


struct Silero(ImplicitlyCopyable, Movable):
    """The weights, in the order in which `graph/voice.py` gives their addresses; all are float32.

    Fields:
        cosines: From a frame's even part to the spectrum's real part.
        sines: From its odd part to the imaginary part, which the first and the last bin do not have.
        first: The convolutions over three neighbouring frames.
        second: Takes every other frame.
        third: Takes every other frame.
        fourth: Of the one frame that is left.
        input: The recurrent layer's, of what the convolutions find.
        past: The recurrent layer's, of its own values.
        output: (UNITS + 1,) of its rectified values, and what is added.
    """

    var cosines: Layer
    var sines: Layer
    var first: Layer
    var second: Layer
    var third: Layer
    var fourth: Layer
    var input: Layer
    var past: Layer
    var output: Floats

    def __init__(out self, weights: Addresses):
        self.cosines = packed_layer(weights, 0, EVEN, EVEN)
        self.sines = packed_layer(weights, 2, ODD, ODD)
        self.first = packed_layer(weights, 4, UNITS, 3 * EVEN)
        self.second = packed_layer(weights, 6, UNITS // 2, 3 * UNITS)
        self.third = packed_layer(weights, 8, UNITS // 2, 3 * UNITS // 2)
        self.fourth = packed_layer(weights, 10, UNITS, 3 * UNITS // 2)
        self.input = packed_layer(weights, 12, GATES, UNITS)
        self.past = packed_layer(weights, 14, GATES, UNITS)
        self.output = floats_at(weights, 16)


def floats_at(weights: Addresses, index: Int) -> Floats:
    return Floats(unsafe_from_address=Int(weights[unsafe_offset=index]))


def packed_layer(weights: Addresses, index: Int, N: Int, K: Int) -> Layer:
    """The layer whose panels and epilogue have that index and the next."""
    return Layer(words(floats_at(weights, index)), floats_at(weights, index + 1), N, K)


def layer(a: Floats, layer: Layer, result: Floats, rows: Int):
    """result (rows, N) = a (rows, K) @ W + bias, on this thread."""
    linear["float32", "none", False](result, a, layer.K, layer, result, rows, Team(0, 1))


@fieldwise_init
struct Stage(ImplicitlyCopyable, Movable):
    """Room for what a task's windows become."""

    var frames: Floats
    var odd: Floats
    var real: Floats
    var imaginary: Floats
    var x: Floats
    var neighbours: Floats

    def __init__(out self):
        comptime ROWS = PART * FRAMES
        self.frames = unsafe_alloc[F32](ROWS * (2 * EVEN + 2 * ODD + EVEN + 3 * EVEN), alignment=64)
        self.odd = self.frames.unsafe_offset(ROWS * EVEN)
        self.real = self.odd.unsafe_offset(ROWS * ODD)
        self.imaginary = self.real.unsafe_offset(ROWS * EVEN)
        self.x = self.imaginary.unsafe_offset(ROWS * ODD)
        self.neighbours = self.x.unsafe_offset(ROWS * EVEN)

    def fold(self, samples: Floats, count: Int, first: Int, windows: Int):
        """The even and odd part of each frame of some windows from the `first` on.

        There is silence around all `count` samples; behind a window's end, its samples are mirrored.
        """
        for w in range(windows):
            var start = (first + w) * WINDOW - CONTEXT
            var heard = samples.unsafe_offset(start)
            if start < 0 or start + CONTEXT + WINDOW > count:
                heard = self.x
                for i in range(CONTEXT + WINDOW):
                    var inside = start + i >= 0 and start + i < count
                    heard[unsafe_offset=i] = samples[unsafe_offset=start + i] if inside else F32(0)
            for f in range(FRAMES):
                var frame = heard.unsafe_offset(f * HOP)
                var even = self.frames.unsafe_offset((w * FRAMES + f) * EVEN)
                var odd = self.odd.unsafe_offset((w * FRAMES + f) * ODD)
                var stop = CONTEXT + WINDOW - f * HOP  # samples from the frame's start that there are
                even[] = frame[]
                even[unsafe_offset=FRAME // 2] = frame[unsafe_offset=FRAME // 2]
                for n in range(1, FRAME // 2):
                    var other = FRAME - n
                    if other >= stop:
                        other = 2 * (stop - 1) - other
                    var a = frame[unsafe_offset=n]
                    var b = frame[unsafe_offset=other]
                    even[unsafe_offset=n] = a + b
                    odd[unsafe_offset=n - 1] = a - b

    def magnitudes(self, rows: Int):
        """x (rows, EVEN) from the spectrum's two parts."""
        for r in range(rows):
            var real = self.real.unsafe_offset(r * EVEN)
            var imaginary = self.imaginary.unsafe_offset(r * ODD)
            var x = self.x.unsafe_offset(r * EVEN)
            x[] = abs(real[])
            x[unsafe_offset=ODD + 1] = abs(real[unsafe_offset=ODD + 1])
            var whole = ODD - ODD % WIDTH
            for k in range(0, whole, WIDTH):
                var a = real.unsafe_load[width=WIDTH](k + 1)
                var b = imaginary.unsafe_load[width=WIDTH](k)
                x.unsafe_store(k + 1, sqrt(a * a + b * b))
            for k in range(whole, ODD):
                var a = real[unsafe_offset=k + 1]
                var b = imaginary[unsafe_offset=k]
                x[unsafe_offset=k + 1] = sqrt(a * a + b * b)

    def convolve(self, convolution: Layer, windows: Int, frames: Int, step: Int):
        """x (windows * frames, channels), rectified, becomes its convolution, at every `step`-th frame."""
        var channels = convolution.K // 3
        var rows = 0
        for w in range(windows):
            for f in range(0, frames, step):
                for i in range(3):
                    var target = self.neighbours.unsafe_offset((rows * 3 + i) * channels)
                    var at = f + i - 1
                    var inside = at >= 0 and at < frames
                    var source = self.x.unsafe_offset((w * frames + (at if inside else 0)) * channels)
                    for c in range(channels):
                        target[unsafe_offset=c] = max(source[unsafe_offset=c], 0) if inside else F32(0)
                rows += 1
        layer(self.neighbours, convolution, self.x, rows)

    def rectify(self, count: Int):
        for i in range(0, count, WIDTH):
            self.x.unsafe_store(i, max(self.x.unsafe_load[width=WIDTH](i), Vec(0)))

    def free(self):
        self.frames.unsafe_free()


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
        stage.fold(self.samples, self.count, self.first + first, windows)
        layer(stage.frames, self.silero.cosines, stage.real, rows)
        layer(stage.odd, self.silero.sines, stage.imaginary, rows)
        stage.magnitudes(rows)
        stage.convolve(self.silero.first, windows, FRAMES, 1)
        stage.convolve(self.silero.second, windows, FRAMES, 2)
        stage.convolve(self.silero.third, windows, FRAMES // 2, 2)
        stage.convolve(self.silero.fourth, windows, 1, 1)
        stage.rectify(windows * UNITS)
        layer(stage.x, self.silero.input, self.inputs.unsafe_offset(first * GATES), windows)
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
