"""Everything between the products: layer norm, embedding, padding, gathering."""

from std.math import sqrt

from .team import Team, Work
from .tile import F32, Floats, Ints, Vec, WIDTH
from .vocabulary import Vocabulary


@always_inline
def layer_norm_row(
    result: Floats,
    x: Floats,
    weight: Floats,
    bias: Floats,
    K: Int,
):
    """result = (x - mean) / sqrt(variance + 1e-5) * weight + bias over K, a multiple of WIDTH."""
    var total = Vec(0)
    for k in range(0, K, WIDTH):
        total += x.unsafe_load[width=WIDTH](k)
    var mean = Vec(total.reduce_add() / F32(K))
    var squares = Vec(0)
    for k in range(0, K, WIDTH):
        var d = x.unsafe_load[width=WIDTH](k) - mean
        squares = d.fma(d, squares)
    var scale = Vec(1 / sqrt(squares.reduce_add() / F32(K) + 1e-5))
    for k in range(0, K, WIDTH):
        var d = (x.unsafe_load[width=WIDTH](k) - mean) * scale
        result.unsafe_store(
            k, d.fma(weight.unsafe_load[width=WIDTH](k), bias.unsafe_load[width=WIDTH](k))
        )


@fieldwise_init
struct NormTasks(Work):
    """Some rows a task."""

    var result: Floats
    var x: Floats
    var weight: Floats
    var bias: Floats
    var M: Int
    var K: Int
    var share: Int

    def run(self, task: Int):
        for m in range(task * self.share, min(self.M, (task + 1) * self.share)):
            layer_norm_row(
                self.result.unsafe_offset(m * self.K), self.x.unsafe_offset(m * self.K), self.weight, self.bias, self.K
            )


def layer_norm(result: Floats, x: Floats, weight: Floats, bias: Floats, M: Int, K: Int, team: Team):
    """Layer norm of M rows of K."""
    comptime SHARE = 32
    team.do(NormTasks(result, x, weight, bias, M, K, SHARE), (M + SHARE - 1) // SHARE)


def embed[
    V: Vocabulary
](result: Floats, tokens: Ints, positions: Ints, vocabulary: V, positional: Floats, N: Int, K: Int):
    """result (N, K) = the tokens' embedding + their positions' rows of (n_text_ctx, K)."""
    for n in range(N):
        var row = result.unsafe_offset(n * K)
        vocabulary.embed(row, Int(tokens[unsafe_offset=n]))
        add(row, row, positional.unsafe_offset(Int(positions[unsafe_offset=n]) * K), K)


def pad_frames(result: Floats, x: Floats, channels: Int, frames: Int):
    """Transposes (channels, frames) to (1 + frames + 1, channels), the border rows zero."""
    for c in range(channels):
        result[unsafe_offset=c] = 0
        result[unsafe_offset=(frames + 1) * channels + c] = 0
    comptime BLOCK = 16  # columns of a block stay in cache while its rows are written
    for f in range(0, frames, BLOCK):
        for c in range(channels):
            for i in range(f, min(f + BLOCK, frames)):
                result[unsafe_offset=(i + 1) * channels + c] = x[unsafe_offset=c * frames + i]


def add(result: Floats, x: Floats, y: Floats, count: Int):
    """result = x + y, of `count` values, a multiple of WIDTH."""
    for i in range(0, count, WIDTH):
        result.unsafe_store(i, x.unsafe_load[width=WIDTH](i) + y.unsafe_load[width=WIDTH](i))
