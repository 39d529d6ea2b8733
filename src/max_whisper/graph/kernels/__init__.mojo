"""The custom ops that Whisper's graphs are made of. Each hands its tensors on as pointers."""

from .decoder_ops import (
    Alignment,
    Choose,
    CrossAttention,
    Embed,
    GatherRows,
    SelfAttention,
    StartTeam,
    Steps,
)
from .layer_ops import (
    AddPositions,
    Conv,
    EncoderAttention,
    KeepCross,
    LayerNorm,
    Linear,
    LinearResidual,
    PadFrames,
)
from .voice_ops import Voice
