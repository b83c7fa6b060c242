"""The measures of an evaluation as a drawing: a dot for each mean, a line between its bounds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.evaluating import Outcome
    from pipeline.judge import Estimate

ROW, PANEL, GAP, LABELS, TOP = 26, 240, 28, 190, 48
"""Pixels: of a variant's height, a measure's width, what is between two, the names' width, the head."""
LETTERS = 26
"""Of a variant's name."""
_STYLE = (
    "text{fill:#1b1f24}line{stroke:#8a929c}.bar{stroke:#2563a8;stroke-width:3}circle{fill:#2563a8}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e9ed}line{stroke:#6b737d}"
    ".bar{stroke:#7fb2ee}circle{fill:#7fb2ee}}"
)


def drawn(outcomes: Sequence[Outcome]) -> str:
    """An SVG with a panel for each measure and a row for each variant. All scales go from 0 to 1."""
    measures = list(outcomes[0].values)
    width = LABELS + len(measures) * (PANEL + GAP)
    height = TOP + len(outcomes) * ROW + 30
    said = escape(", ".join(measures), quote=True)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" '
            f'aria-label="{said}, by variant" font-family="system-ui, sans-serif" font-size="13">'
        ),
        f"<style>{_STYLE}</style>",
    ]
    for row, one in enumerate(outcomes):
        parts.append(_text(LABELS - 14, _y(row) + 4, _short(one.name), "end"))
    estimates = [one.estimates() for one in outcomes]
    for column, measure in enumerate(measures):
        left = LABELS + column * (PANEL + GAP)
        parts += _panel(left, measure, [one[measure] for one in estimates])
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: int, measure: str, estimates: Sequence[Estimate]) -> list[str]:
    bottom = TOP + len(estimates) * ROW
    parts = [_text(left + PANEL // 2, 22, measure, "middle")]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = left + tick * PANEL
        parts.append(f'<line x1="{x:g}" x2="{x:g}" y1="{TOP - 8}" y2="{bottom}" stroke-opacity=".35"/>')
        parts.append(_text(x, bottom + 18, f"{tick:g}", "middle"))
    for row, one in enumerate(estimates):
        low, mean, high = (left + value * PANEL for value in (one.low, one.mean, one.high))
        y = _y(row)
        parts.append(f'<line class="bar" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<circle cx="{mean:.1f}" cy="{y}" r="5"><title>{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]'
            "</title></circle>"
        )
    return parts


def _y(row: int) -> int:
    return TOP + row * ROW + ROW // 2


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
