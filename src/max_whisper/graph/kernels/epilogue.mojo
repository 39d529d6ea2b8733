"""Sums of products to a layer's output: scales, bias, activation, residual."""

from std.collections import Array
from std.math import erf

from .pack import Scale, larger, smaller
from .tile import Floats, Ints, MIDDLE, PANEL, Vec, WIDTH, Words, ceildiv, floats, multiplied, quantised, words

comptime Scales = Pointer[Scale, MutUntrackedOrigin]


@fieldwise_init
struct Layer(ImplicitlyCopyable, Movable):
    """A packed linear layer.

    Fields:
        weight: Panels (ceil(N / 32), words, 32).
        epilogue: Rows of ceil(N / 32) * 32: bias; of integers also each column's scale and, as
            int32, its sum.
        N: Columns.
        K: Inner dimension.
    """

    var weight: Ints
    var epilogue: Floats
    var N: Int
    var K: Int


@always_inline
def gelu[mode: StaticString](x: Vec) -> Vec:
    """The erf form, as openai-whisper's; where it is rounded to eight bits next, to 2e-4.

    There the normal distribution is a half and an odd polynomial up to 4, fitted to x times it.
    """
    comptime if mode == "float32" or mode == "float16":
        return x * Vec(0.5) * (Vec(1) + erf(x * Vec(0.7071067811865476)))
    var t = smaller(larger(x, Vec(-4)), Vec(4))
    var u = t * t
    var y = Vec(2.25881269e-08)
    y = y.fma(u, Vec(-1.58882267e-06))
    y = y.fma(u, Vec(4.77637914e-05))
    y = y.fma(u, Vec(-0.00081218651))
    y = y.fma(u, Vec(0.00876368582))
    y = y.fma(u, Vec(-0.0645544007))
    y = y.fma(u, Vec(0.397870272))
    return x * t.fma(y, Vec(0.5))


@always_inline
def finish[
    mode: StaticString, activation: StaticString, has_residual: Bool, has_bias: Bool
](
    c: Ints,
    c_row: Int,
    scales: Scales,
    rows: Int,
    columns: Int,
    layer: Layer,
    n: Int,
    result: Floats,
    result_row: Int,
    residual: Floats,
):
    """Moves finished sums of columns from n on to the output: scales, bias, activation, residual.

    A layer without bias has one of zeros, which is not read. Rows of the output, and of what is added
    to it, are `result_row` apart.
    """
    comptime VECS = PANEL // WIDTH
    var padded = ceildiv(layer.N, PANEL) * PANEL
    for first in range(0, columns, PANEL):
        var epilogue = layer.epilogue.unsafe_offset(n + first)
        var bias = Array[Vec, VECS](fill=Vec(0))
        var scale = Array[Vec, VECS](fill=Vec(0))
        var offset = Array[Vec, VECS](fill=Vec(0))  # of a zero of 1
        comptime for v in range(VECS):
            comptime if has_bias:
                bias[v] = epilogue.unsafe_load[width=WIDTH](v * WIDTH)
            comptime if quantised[mode]():
                scale[v] = epilogue.unsafe_load[width=WIDTH](padded + v * WIDTH)
                var sums = words(epilogue).unsafe_load[width=WIDTH](2 * padded + v * WIDTH)
                offset[v] = sums.cast[DType.float32]() * scale[v]
        for r in range(rows):
            comptime for v in range(VECS):
                var i = first + v * WIDTH
                var x: Vec
                comptime if quantised[mode]():
                    var given = scales[unsafe_offset=r]
                    var products = c.unsafe_load[width=WIDTH](r * c_row + i)
                    comptime if mode == "int4":
                        products -= Words(MIDDLE * given.sum)
                    x = products.cast[DType.float32]() * scale[v]
                    comptime if multiplied[mode]() != "int16":
                        var zero = given.zero.cast[DType.float32]() * given.step
                        x = x.fma(Vec(given.step), offset[v].fma(Vec(-zero), bias[v]))
                    else:
                        x = x.fma(Vec(given.step), bias[v])
                else:
                    x = floats(c).unsafe_load[width=WIDTH](r * c_row + i) + bias[v]
                comptime if activation == "gelu":
                    x = gelu[mode](x)
                comptime if activation == "relu":
                    x = larger(x, Vec(0))
                if i + WIDTH <= columns:
                    comptime if has_residual:
                        x += residual.unsafe_load[width=WIDTH](r * result_row + i)
                    result.unsafe_store(r * result_row + i, x)
                else:
                    for lane in range(columns - i):
                        var y = x[lane]
                        comptime if has_residual:
                            y += residual[unsafe_offset=r * result_row + i + lane]
                        result[unsafe_offset=r * result_row + i + lane] = y
