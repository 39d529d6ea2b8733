"""The op of the graph that hears where somebody speaks."""

from .tensors import f32, i32, reached, untracked
from .voice import Silero, speech

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext


@extensibility.register("whisper_voice")
struct Voice:
    """The probability of speech in each window of a recording; see voice.mojo."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        probabilities: OutputTensor[dtype=f32, rank=1, ...],
        samples: InputTensor[dtype=f32, rank=1, ...],
        weights: InputTensor[dtype=DType.int64, rank=1, ...],
        windows: InputTensor[dtype=i32, rank=1, ...],
        team: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        speech(
            untracked(probabilities.unsafe_ptr()),
            untracked(samples.unsafe_ptr()),
            Int(samples.dim_size(0)),
            Silero(untracked(weights.unsafe_ptr())),
            reached(team),
        )
