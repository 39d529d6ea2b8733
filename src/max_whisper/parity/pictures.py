"""Heat maps and curves as SVG, without a plotting library."""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from max_whisper.parity.measure import Array
from max_whisper.parity.stages import Table, parent

#: From dark to light, evenly spaced; a perceptually even ramp.
_RAMP = ((13, 8, 45), (84, 15, 109), (187, 55, 84), (249, 142, 9), (252, 255, 164))


def png(values: Array) -> bytes:
    """A colour picture of values between 0 and 1, one pixel a value, the first row on top."""
    positions = np.clip(values, 0.0, 1.0) * (len(_RAMP) - 1)
    low = np.minimum(positions.astype(int), len(_RAMP) - 2)
    ramp = np.array(_RAMP, dtype=np.float64)
    part = (positions - low)[..., None]
    pixels = (ramp[low] * (1 - part) + ramp[low + 1] * part).round().astype(np.uint8)
    height, width = values.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def attention_map(weights: Array, labels: Sequence[str], seconds: float, title: str) -> str:
    """Cross-attention (tokens, frames of 20 ms) with the tokens on one axis and seconds on the other."""
    frames = max(1, min(weights.shape[1], math.ceil(seconds * 50)))
    # Frames in fours: a pixel is narrower than a frame of a whole window anyway.
    groups = -(-frames // 4)
    padded = np.zeros((len(weights), groups * 4))
    padded[:, :frames] = weights[:, :frames]
    shown = padded.reshape(len(weights), groups, 4).max(axis=2)
    shown = np.sqrt(shown / max(float(shown.max()), 1e-9))
    row, left, top, width = 13, 110, 6, 600
    height = row * len(labels)
    image = base64.b64encode(png(shown)).decode()
    parts = [
        _open(left + width + 10, top + height + 34, title),
    ]
    parts.append(
        f'<image x="{left}" y="{top}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{image}"/>'
    )
    for n, label in enumerate(labels):
        text = label if len(label) <= 16 else label[:15] + "…"
        parts.append(_text(left - 6, top + row * n + 10, text, "end"))
    step = next(s for s in (0.5, 1, 2, 5, 10) if seconds / s <= 12)
    for tick in np.arange(0.0, seconds + 1e-9, step):
        x = left + width * float(tick) / (groups * 4 / 50)
        if x <= left + width:
            parts.append(f'<path class="axis" d="M{x:.1f} {top + height}v5"/>')
            parts.append(_text(x, top + height + 17, f"{tick:g}", "middle"))
    parts.append(_text(left + width / 2, top + height + 31, "seconds", "middle"))
    return "".join([*parts, "</svg>"])


def deviation_chart(table: Table) -> str:
    """Every measured stage's deviation on a logarithmic scale, with the tolerance as a line."""
    rows = [row for row in table.rows if row.difference is not None]
    width, height, left, top = 700, 190, 44, 10
    low, high = -8.0, 2.0

    def y(value: float) -> float:
        exponent = math.log10(value) if value > 0 and math.isfinite(value) else (high if value else low)
        return top + height * (high - min(max(exponent, low), high)) / (high - low)

    limit = min(table.tolerance.greatest, table.tolerance.rms)
    by_rms = table.tolerance.rms < table.tolerance.greatest
    parts = [_open(left + width + 10, top + height + 30, "Deviation of every stage")]
    for exponent in range(int(low), int(high) + 1, 2):
        at = y(10.0**exponent)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{left + width}"/>')
        parts.append(_text(left - 5, at + 4, f"1e{exponent}", "end"))
    parts.append(f'<path class="limit" d="M{left} {y(limit):.1f}H{left + width}"/>')
    first = table.first
    for n, row in enumerate(rows):
        assert row.difference is not None
        value = row.difference.rms if by_rms else row.difference.deviation
        x = left + width * (n + 0.5) / len(rows)
        kind = "good" if row.passed else "bad"
        size = 2.0 if parent(row.name) else 3.5
        name = html.escape(f"{row.name}: {value:.3g}")
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y(value):.1f}" r="{size}">'
            f"<title>{name}</title></circle>"
        )
        if first is not None and row.name == first.name:
            anchor = "start" if x < left + width / 2 else "end"
            shift = 8 if anchor == "start" else -8
            parts.append(_text(x + shift, y(value) + 4, row.name, anchor, "first"))
    parts.append(
        _text(left + width / 2, top + height + 22, "stages, in the order of the computation", "middle")
    )
    return "".join([*parts, "</svg>"])


def curve(points: Sequence[tuple[float, float]], title: str, horizontal: str) -> str:
    """Values (in per cent) over t from 0 to 1."""
    width, height, left, top = 300, 120, 44, 10
    most = max(1.0, *(value for _, value in points))
    placed = [(left + width * t, top + height * (1 - value / most)) for t, value in points]
    parts = [_open(left + width + 20, top + height + 34, title)]
    parts += [_text(left - 5, top + 8, f"{most:.0f} %", "end"), _text(left - 5, top + height, "0 %", "end")]
    parts.append(
        f'<path class="grid" d="M{left} {top + height}H{left + width}M{left} {top}H{left + width}"/>'
    )
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
    parts.append(f'<path class="curve" d="M{line}"/>')
    parts += [f'<circle class="good" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
    parts += [_text(left + width * t, top + height + 14, f"{t:g}", "middle") for t, _ in points]
    parts.append(_text(left + width / 2, top + height + 29, horizontal, "middle"))
    return "".join([*parts, "</svg>"])


def _open(width: float, height: float, title: str) -> str:
    name = html.escape(title)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}"><title>{name}</title>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{html.escape(text)}</text>'
