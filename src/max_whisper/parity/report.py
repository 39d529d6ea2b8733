"""One self-contained HTML page; nothing in it comes from a network."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from max_whisper.errors import OutputError
from max_whisper.parity.comparing import Report
from max_whisper.parity.hybrids import STEPS, Hybrid, Hybrids
from max_whisper.parity.inspection import Inspection
from max_whisper.parity.pictures import attention_map, curve, deviation_chart
from max_whisper.parity.stages import Row, Table, parent
from max_whisper.parity.transcripts import Comparison, marked

_STYLE = Path(__file__).with_name("report.css")


def inspection_page(inspection: Inspection, title: str, command: str) -> str:
    """The page of an inspection.

    Args:
        inspection: What was found.
        title: What was examined.
        command: How to do it again.
    """
    parts = [_verdict(inspection.passed, inspection.verdict)]
    if inspection.table:
        parts += _stages(inspection.table)
    if inspection.comparison and inspection.comparison.text is not None:
        parts += _transcripts(
            inspection.reference_text or "", [inspection.comparison], inspection.plan.reference
        )
    parts += _attention(inspection)
    parts += _details(inspection)
    if inspection.hybrids:
        parts += _hybrids(inspection.hybrids)
    return _page(title, parts, command)


def comparison_page(report: Report, title: str, command: str) -> str:
    """The page of a comparison of engines; the arguments as those of :func:`inspection_page`."""
    parts = [_verdict(report.passed, report.verdict), "<h2>Engines</h2>", _engines(report)]
    if report.reference_text is not None:
        others = [row for row in report.rows if row.text is not None and row.backend != report.reference]
        parts += _transcripts(report.reference_text, others, report.reference)
    return _page(title, parts, command)


def write_page(path: Path, page: str) -> None:
    """Writes a page.

    Raises:
        OutputError: If that cannot be done.
    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _page(title: str, parts: Iterable[str], command: str) -> str:
    name, style = html.escape(title), _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{style}</style></head><body><main><h1>{name}</h1>\n"
        + "\n".join(parts)
        + f"\n<h2>Again</h2><pre>{html.escape(command)}</pre></main></body></html>\n"
    )


def _verdict(passed: bool, verdict: str) -> str:
    kind, word = ("good", "Parity") if passed else ("bad", "Divergence")
    return f'<p class="verdict {kind}"><b>{word}</b> {html.escape(verdict)}</p>'


class _Wide(str):
    """A cell over several columns."""

    columns: int

    def __new__(cls, text: str, columns: int) -> _Wide:
        cell = super().__new__(cls, text)
        cell.columns = columns
        return cell


def _cell(cell: str) -> str:
    span = f' colspan="{cell.columns}"' if isinstance(cell, _Wide) else ""
    return f"<td{span}>{cell}</td>"


def _table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Rows are (class, cells); cells are HTML."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f'<tr class="{kind}">{"".join(map(_cell, cells))}</tr>' for kind, cells in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: float | None, form: str = ".3g") -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def _stages(table: Table) -> list[str]:
    heads = (
        "stage",
        "max",
        "mean",
        "relative",
        "cosine",
        "mean, sd (ours)",
        "mean, sd (reference)",
        "max / sd",
        "",
    )
    shown = {row.name for row in table.shown()}
    hidden = [row for row in table.rows if row.name not in shown]
    about = (
        f"<h2>Stages</h2><p>Tolerance: {html.escape(str(table.tolerance))} (standard deviations of the "
        "reference's array, or of the position's channels where greater). Where a stage "
        "diverges, its inside is shown.</p>"
    )
    parts = [
        about,
        f'<figure class="chart">{deviation_chart(table)}</figure>',
        _table(heads, (_stage(row, table) for row in table.shown())),
    ]
    if hidden:
        rows = _table(heads, (_stage(row, table) for row in hidden))
        parts.append(
            f"<details><summary>{len(hidden)} details inside the other stages</summary>{rows}</details>"
        )
    if table.absent:
        absent = html.escape(", ".join(table.absent))
        count = f"{len(table.absent)} stages that one side alone gives, and that were not compared"
        parts.append(f'<details><summary>{count}</summary><p class="note">{absent}</p></details>')
    return parts


def _stage(row: Row, table: Table) -> tuple[str, Sequence[str]]:
    kind = "good" if row.passed else "bad"
    if table.first is not None and row.name == table.first.name:
        kind += " first"
    name = f'<span class="{"inside" if parent(row.name) else ""}">{html.escape(row.name)}</span>'
    mark = "✓" if row.passed else "✗"
    d = row.difference
    if d is None:
        return kind, (name, _Wide(html.escape(row.error or "equal"), 7), mark)
    sides = (f"{mean:.4f}, {spread:.4f}" for mean, spread in (d.ours, d.reference))
    numbers = (_number(value, ".2e") for value in (d.max_abs, d.mean_abs, d.relative))
    return kind, (name, *numbers, f"{d.cosine:.9f}", *sides, _number(d.deviation, ".2e"), mark)


def _engines(report: Report) -> str:
    heads = (
        *("engine", "characters", "of reference", "WER to reference", "WER to transcript", "tokens"),
        *("seconds", "RTFx", "load s", "peak MB"),
    )

    def cells(row: Comparison) -> tuple[str, Sequence[str]]:
        name = html.escape(row.backend) + (" (reference)" if row.backend == report.reference else "")
        if row.error:
            return "bad", (name, _Wide(html.escape(row.error), len(heads) - 1))
        same = "–" if row.same_tokens is None else "equal" if row.same_tokens else str(row.difference)
        percent = [None if r is None else 100 * r for r in (row.length_ratio, row.word_error_rate)]
        said = None if row.transcript_error_rate is None else 100 * row.transcript_error_rate
        peak = None if row.peak_bytes is None else row.peak_bytes / 2**20
        return "", (
            *(
                name,
                str(row.characters),
                _number(percent[0], ".1f") + " %",
                _number(percent[1], ".2f") + " %",
            ),
            _number(said, ".2f") + (" %" if said is not None else ""),
            html.escape(same),
            *(_number(row.seconds, ".2f"), _number(row.rtfx, ".1f")),
            *(_number(row.load_seconds, ".2f"), _number(peak, ".0f")),
        )

    return _table(heads, (cells(row) for row in report.rows))


def _transcripts(reference: str, rows: Sequence[Comparison], name: str) -> list[str]:
    parts = ["<h2>Transcripts</h2>"]
    for row in rows:
        assert row.text is not None
        words = []
        for kind, expected, found in marked(reference, row.text):
            if kind == "equal":
                words.append(html.escape(expected))
            else:
                words += [f"<del>{html.escape(expected)}</del>"] if expected else []
                words += [f"<ins>{html.escape(found)}</ins>"] if found else []
        rate = (
            f", word error rate {100 * row.word_error_rate:.2f} %" if row.word_error_rate is not None else ""
        )
        parts.append(f"<h3>{html.escape(row.backend)} against {html.escape(name)}{rate}</h3>")
        parts.append(f'<p class="transcript">{" ".join(words)}</p>')
    return parts


def _attention(inspection: Inspection) -> list[str]:
    parts: list[str] = []
    if picture := inspection.picture:
        parts.append("<h2>Where the decoder listens</h2><p>Mean of the alignment heads; a row a token.</p>")
        for title, weights in (("ours", picture.ours), ("reference", picture.reference)):
            labels = picture.labels[: len(weights)]
            drawn = attention_map(weights, labels, picture.seconds, f"Cross-attention, {title}")
            parts.append(f'<figure class="map"><figcaption>{title}</figcaption>{drawn}</figure>')
    if inspection.heads:
        rows = [
            (
                "",
                (
                    f"{head.side} {head.layer}.{head.head}",
                    _number(head.distance, ".2e"),
                    *(_number(value, ".3f") for value in head.entropy),
                    *(
                        _number(value, ".2f")
                        for value in (head.monotonic if head.monotonic is not None else (None, None))
                    ),
                ),
            )
            for head in sorted(inspection.heads, key=lambda head: -head.distance)
        ]
        heads = ("head", "distance", "entropy, ours", "reference", "monotonic, ours", "reference")
        table = _table(heads, rows)
        parts.append(
            f"<details><summary>{len(rows)} heads, the farthest apart first</summary>{table}</details>"
        )
    return parts


def _details(inspection: Inspection) -> list[str]:
    parts: list[str] = []
    if inspection.convolutions:
        rows = [
            (
                "",
                (
                    each.name,
                    f"{each.worst_channel[0]}: {each.worst_channel[1]:.2e}",
                    f"{each.worst_position[0]}: {each.worst_position[1]:.2e}",
                    f"{each.inside:.2e}",
                    f"{each.edges[0]:.2e}, {each.edges[1]:.2e}",
                ),
            )
            for each in inspection.convolutions
        ]
        parts.append("<h2>Convolutions</h2><p>Greatest errors in the reference's standard deviations.</p>")
        parts.append(_table(("", "worst channel", "worst position", "inside", "first, last position"), rows))
    if inspection.positions:
        found = inspection.positions
        parts.append(
            f"<h2>Position table</h2><p>The stored table is within {found.stored:.1e} of the sinusoids; "
            f"ours adds it within {found.ours:.1e}"
            + (
                f", the reference within {found.reference:.1e}.</p>"
                if found.reference is not None
                else ".</p>"
            )
        )
    return parts


def _hybrids(hybrids: Hybrids) -> list[str]:
    def cells(hybrid: Hybrid) -> tuple[str, Sequence[str]]:
        rate = f"{100 * hybrid.word_error_rate:.1f} %"
        kind = "" if hybrid.word_error_rate == 0 else "bad"
        return kind, (hybrid.decoder, hybrid.encoder, rate, html.escape(hybrid.text))

    parts = [
        "<h2>Hybrids</h2><p>Features mixed as (1 − t) · ours + t · reference, decoded by either side.</p>"
    ]
    for decoder in dict.fromkeys(hybrid.decoder for hybrid in hybrids.mixed):
        rates = [100 * h.word_error_rate for h in hybrids.mixed if h.decoder == decoder]
        drawn = curve(
            list(zip(STEPS, rates)), f"Word error rate over t, {decoder}", f"t, decoded by {decoder}"
        )
        parts.append(f'<figure class="small">{drawn}</figure>')
    rows = (cells(hybrid) for hybrid in (*hybrids.mixed, *hybrids.grafted))
    parts.append(_table(("decoder", "encoder", "WER", "text"), rows))
    return parts
