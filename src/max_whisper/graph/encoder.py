"""Whisper's encoder, and the cross-attention keys and values that the decoder reads."""

from __future__ import annotations

from max.dtype import DType
from max.graph import BufferType, BufferValue, DeviceRef, Dim, TensorType, TensorValue

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.graph.layers import Layers, packed_positions
from max_whisper.graph.module import GraphModule
from max_whisper.graph.precision import Precision
from max_whisper.graph.stages import Stages


def add_encoder(graphs: GraphModule, dims: ModelDimensions, precision: Precision, stages: Stages) -> None:
    """Log-mel (n_mels, 2 * positions) -> features, kept as a window of the cross cache.

    Inputs: mel, window (1,), cache, team (2,), and an int32 (positions,) of which only the length
    counts. Outputs: features (positions, n_audio_state), and every stage that is kept.
    """
    device = graphs.device
    types = [
        TensorType(DType.float32, (dims.n_mels, "frames"), device),
        one_int(device),
        cross_cache_type(dims, device, precision),
        team_type(device),
        TensorType(DType.int32, ("positions",), device),
    ]
    with graphs.graph("encoder", types) as graph:
        layers = Layers(device, precision, graph.inputs[3].tensor)
        positions = graph.inputs[4].tensor.shape[0]
        x = _stem(layers, dims, graph.inputs[0].tensor, positions, stages)
        for i in range(dims.n_audio_layer):
            x = _block(layers, dims, x, f"encoder.blocks.{i}", stages)
        x = stages.keep("ln_post", layers.layer_norm(x, "encoder.ln_post"))
        _keep_window(layers, dims, x, graph.inputs[1].tensor, graph.inputs[2].buffer, stages)
        graph.output(x, *stages.values())


def add_attend(graphs: GraphModule, dims: ModelDimensions, precision: Precision) -> None:
    """Given features, kept as a window: inputs features, window (1,), cache, team (2,)."""
    device = graphs.device
    features = TensorType(DType.float32, (dims.n_audio_ctx, dims.n_audio_state), device)
    types = [features, one_int(device), cross_cache_type(dims, device, precision), team_type(device)]
    with graphs.graph("attend", types) as graph:
        layers = Layers(device, precision, graph.inputs[3].tensor)
        x, window = (value.tensor for value in graph.inputs[:2])
        _keep_window(layers, dims, x, window, graph.inputs[2].buffer, Stages(False))
        graph.output()


def _stem(
    layers: Layers, dims: ModelDimensions, mel: TensorValue, positions: Dim, stages: Stages
) -> TensorValue:
    width = dims.n_audio_state
    x = layers.pad_frames(mel)
    x = layers.conv(x, "encoder.conv1", width, mel.shape[1], stride=1, border=1)
    stages.keep("conv1", x)
    x = layers.conv(x, "encoder.conv2", width, positions, stride=2, border=0)
    stages.keep("conv2", x)
    x = layers.add_positions(x, "encoder.positional_embedding", dims.n_audio_ctx)
    return stages.keep("positions", x)


def _block(layers: Layers, dims: ModelDimensions, x: TensorValue, name: str, stages: Stages) -> TensorValue:
    width = dims.n_audio_state
    normed = stages.keep(f"{name}.attn_ln", layers.layer_norm(x, f"{name}.attn_ln"))
    qkv = stages.keep(f"{name}.qkv", layers.linear(normed, f"{name}.attn.qkv", 3 * width))
    heads = stages.keep(f"{name}.attention", layers.encoder_attention(qkv, dims.n_audio_head))
    x = stages.keep(f"{name}.attended", layers.linear(heads, f"{name}.attn.out", width, residual=x))
    normed = stages.keep(f"{name}.mlp_ln", layers.layer_norm(x, f"{name}.mlp_ln"))
    hidden = layers.linear(normed, f"{name}.mlp.0", 4 * width, activation="gelu")
    stages.keep(f"{name}.mlp_hidden", hidden)
    return stages.keep(name, layers.linear(hidden, f"{name}.mlp.2", width, residual=x))


def _keep_window(
    layers: Layers,
    dims: ModelDimensions,
    features: TensorValue,
    window: TensorValue,
    cache: BufferValue,
    stages: Stages,
) -> None:
    """Every decoder layer's cross-attention keys and values: once a window, read at each step."""
    for i in range(dims.n_text_layer):
        kv = layers.linear(features, f"decoder.blocks.{i}.cross_attn.kv", 2 * dims.n_text_state)
        layers.keep_cross(cache, stages.keep(f"cross.{i}.kv", kv), window, i, dims.n_text_head)


def one_int(device: DeviceRef) -> TensorType:
    """A single int32."""
    return TensorType(DType.int32, (1,), device)


def team_type(device: DeviceRef) -> TensorType:
    """The threads that work: a team's address, and how many there are."""
    return TensorType(DType.int64, (2,), device)


def cross_cache_type(dims: ModelDimensions, device: DeviceRef, precision: Precision) -> BufferType:
    """(windows, layers, heads, words of a head): packed keys, then packed values."""
    return BufferType(DType.int32, ("windows", *cross_cache_shape(dims, precision)), device)


def cross_cache_shape(dims: ModelDimensions, precision: Precision) -> tuple[int, int, int]:
    """The cache's shape for one window."""
    head_size = dims.n_text_state // dims.n_text_head
    words = precision.attention_words(packed_positions(dims.n_audio_ctx), head_size)
    return dims.n_text_layer, dims.n_text_head, words
