"""The label mix over time as an SVG picture: one stacked bar per date, the latest shares in the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from textjury.report.past import Past, mix

# Okabe & Ito's colours for every kind of sight, their yellow and black replaced: both must stand out on a white card.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A6FAC", "#8C8C00")
OTHER, OTHER_COLOUR = "other labels", "#9A9A9A"
_INK, _GRID = "#24292F", "#D8DEE4"
_WIDTH, _TOP, _LEFT, _PLOT_WIDTH, _PLOT_HEIGHT = 860, 56, 52, 560, 240
_ROW = 24


def svg(past_and_now: Sequence[Past]) -> str:
    """The shares of the labels per date, oldest first. Needs no font, script or style from elsewhere.

    The card is white whatever is around it, so it reads the same in a light and a dark page. Every piece says its
    date, label, share and count as a tooltip; the description has the latest shares as a sentence.
    """
    dates = [item for item in past_and_now if sum(item.label_counts.values())]
    if not dates:
        return _page(120, "Label mix", "No labels were given yet.", _text(_LEFT, 70, "No labels were given yet."))
    labels = _shown(dates)
    height = max(_TOP + _PLOT_HEIGHT + 56, _TOP + _ROW * (len(labels) + 1) + 20)
    latest = _shares(dates[-1], labels)
    title = f"Label mix, {dates[0].date} to {dates[-1].date}"
    said = ", ".join(f"{label} {share:.0%}" for label, share in latest.items())
    parts = [_grid(), *(_bar(i, dates, labels) for i in range(len(dates)))]
    return _page(height, title, f"On {dates[-1].date}: {said}.", *parts, _legend(latest, dates[-1]))


def _shown(dates: Sequence[Past]) -> list[str]:
    """The labels in the order of the rulebook; the rarest ones are one where there are more than colours."""
    totals: dict[str, float] = {}
    for item in dates:
        for label, share in mix(item.label_counts).items():
            totals[label] = totals.get(label, 0.0) + share
    if len(totals) <= len(COLOURS):
        return list(totals)
    often = set(sorted(totals, key=lambda label: -totals[label])[: len(COLOURS) - 1])
    return [*(label for label in totals if label in often), OTHER]


def _shares(item: Past, labels: Sequence[str]) -> dict[str, float]:
    found = mix(item.label_counts)
    shares = {label: found.get(label, 0.0) for label in labels if label != OTHER or OTHER in found}
    return {**shares, OTHER: max(0.0, 1 - sum(shares.values()))} if OTHER in labels and OTHER not in shares else shares


def _colour(labels: Sequence[str], label: str) -> str:
    return OTHER_COLOUR if label == OTHER else COLOURS[list(labels).index(label) % len(COLOURS)]


def _grid() -> str:
    lines = []
    for percent in (0, 25, 50, 75, 100):
        y = _TOP + _PLOT_HEIGHT * (1 - percent / 100)
        lines.append(f'<path d="M{_LEFT} {y:g}H{_LEFT + _PLOT_WIDTH}" stroke="{_GRID}"/>')
        lines.append(_text(_LEFT - 8, y + 4, f"{percent}%", anchor="end"))
    return "".join(lines)


def _bar(position: int, dates: Sequence[Past], labels: Sequence[str]) -> str:
    """One date: its pieces from the bottom up in the labels' order, thin white lines between them."""
    item, step = dates[position], _PLOT_WIDTH / max(len(dates), 6)
    width, x = min(step * 0.78, 64), _LEFT + step * (position + 0.5)
    y, parts = float(_TOP + _PLOT_HEIGHT), []
    for label, share in _shares(item, labels).items():
        tall = _PLOT_HEIGHT * share
        if tall <= 0:
            continue
        y -= tall
        n = item.label_counts.get(label)
        tip = escape(f"{item.date}: {label} {share:.1%}" + ("" if n is None else f" ({n:,})"))
        parts.append(
            f'<rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{tall:.1f}" '
            f'fill="{_colour(labels, label)}" stroke="#fff" stroke-width="1"><title>{tip}</title></rect>'
        )
    parts.append(_text(x, _TOP + _PLOT_HEIGHT + 18, f"{item.date:%d}", anchor="middle"))
    if position == 0 or item.date.month != dates[position - 1].date.month:
        parts.append(_text(x, _TOP + _PLOT_HEIGHT + 36, f"{item.date:%b %Y}", anchor="middle"))
    return "".join(parts)


def _legend(latest: Mapping[str, float], item: Past) -> str:
    """The labels as they are stacked, from the top down, with their latest shares."""
    x, labels = _LEFT + _PLOT_WIDTH + 28, list(latest)
    rows = [_text(x, _TOP + 4, f"share on {item.date}")]
    for row, label in enumerate(reversed(labels), start=1):
        y = _TOP + _ROW * row
        rows.append(f'<rect x="{x}" y="{y - 6}" width="12" height="12" rx="2" fill="{_colour(labels, label)}"/>')
        name = label if len(label) <= 20 else label[:19] + "…"
        rows.append(_text(x + 20, y + 4, name))
        rows.append(_text(_WIDTH - 20, y + 4, f"{latest[label]:.1%}", anchor="end"))
    return "".join(rows)


def _text(x: float, y: float, said: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(said)}</text>'


def _page(height: float, title: str, description: str, *parts: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" height="{height:g}" '
        f'role="img" aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="13" fill="{_INK}">'
        f'<title id="t">{escape(title)}</title><desc id="d">{escape(description)}</desc>'
        f'<rect width="{_WIDTH}" height="{height:g}" rx="8" fill="#fff"/>'
        f'<text x="20" y="30" font-size="16" font-weight="600">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )
