"""Parts of a self-contained HTML page: tables that screen readers follow, embedded pictures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from openeo_cloudmask.classes import NODATA_CLASS, ClassScheme

STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #586373; --paper: #ffffff;
  --panel: #f4f6f9; --line: #d7dde5; --accent: #0b63b0; --shade: 11, 99, 176; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf2; --soft: #a7b1bf; --paper: #14181e;
  --panel: #1e242c; --line: #363f4b; --accent: #7fbcf2; --shade: 127, 188, 242; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 36px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 1.25rem; margin: 44px 0 10px; padding-top: 14px;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 26px 0 8px; overflow-wrap: anywhere; }
p { margin: 6px 0 12px; max-width: 78ch; }
.soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 14px;
  margin: 20px 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--panel); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
.tiles .value { display: block; font-size: 1.9rem; font-weight: 650; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.tiles .label { display: block; font-weight: 600; }
.tiles .note { display: block; color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; margin: 0 0 8px; }
.scroll:focus-visible, a:focus-visible, summary:focus-visible { outline: 3px solid var(--accent);
  outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; min-width: 100%;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 14px 0 4px; }
th, td { padding: 6px 12px; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: baseline; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom;
  white-space: normal; }
th:first-child { text-align: left; }
tbody th { font-weight: 500; text-align: left; }
tbody th.wrap { white-space: normal; min-width: 17em; overflow-wrap: anywhere; }
td.text { text-align: left; white-space: normal; min-width: 20em; overflow-wrap: anywhere; }
td small { color: var(--soft); display: block; } td[style] small { color: inherit; }
thead th.text { text-align: left; }
td.best { font-weight: 700; }
.pictures { display: grid; gap: 14px; margin: 10px 0 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border: 1px solid var(--line);
  border-radius: 6px; image-rendering: auto; }
figcaption { font-size: .875rem; color: var(--soft); margin-top: 4px; }
ul.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 10px 0; padding: 0;
  list-style: none; font-size: .875rem; }
ul.legend i { display: inline-block; width: 14px; height: 14px; border-radius: 3px;
  border: 1px solid var(--soft); margin-right: 6px; vertical-align: -2px; }
details { margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
footer { color: var(--soft); font-size: .875rem; padding: 34px 24px 48px; }
.skip { position: absolute; left: -999px; } .skip:focus { left: 12px; top: 12px; }
@media print { .scroll { overflow: visible; } details > * { display: block; } }
"""


UNDEFINED = "\u2013"
"""What a table shows where a number is not defined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table."""

    text: str
    note: str = ""
    """A second, smaller line."""
    shade: float = 0.0
    """0-1: how strongly the cell is tinted."""
    best: bool = False
    prose: bool = False
    """True: text that wraps, to the left."""


def page(title: str, lead: str, body: Iterable[str], *, foot: str) -> str:
    """Return a whole page; ``lead`` and ``foot`` are plain text, ``body`` is HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">Skip to the numbers</a>\n'
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="soft">{escape(lead)}</p>\n</header>\n'
        f'<main id="content">\n{"".join(body)}</main>\n'
        f"<footer>{escape(foot)}</footer>\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """Return a section with a heading; ``parts`` are HTML."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{''.join(parts)}</section>\n"


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>\n"


def details(summary: str, *parts: str) -> str:
    """Return parts that are shown on demand."""
    return f"<details>\n<summary>{escape(summary)}</summary>\n{''.join(parts)}</details>\n"


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Return large numbers: ``(value, label, note)`` each."""
    rows = [
        f'<li><span class="value">{escape(value)}</span>'
        f'<span class="label">{escape(label)}</span><span class="note">{escape(note)}</span></li>\n'
        for value, label, note in items
    ]
    return f'<ul class="tiles">\n{"".join(rows)}</ul>\n'


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> str:
    """Return a table; the first cell of each row is its heading."""
    rows = list(rows)
    prose = {
        index
        for row in rows
        for index, cell in enumerate(row)
        if isinstance(cell, Cell) and cell.prose
    }
    head = "".join(
        f"<th scope='col' class='{'text' if index in prose else 'number'}'>{escape(name)}</th>"
        for index, name in enumerate(columns)
    )
    body = "".join(f"<tr>{''.join(_cells(row))}</tr>\n" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n<table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def picture(pixels: NDArray[np.uint8], *, alt: str, caption: str) -> str:
    """Return a figure with the picture inside the page; ``pixels`` are (y, x, 3) uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if len(np.unique(pixels.reshape(-1, 3), axis=0)) <= 64:  # class colours: a palette is exact
        image = image.quantize(64, dither=Image.Dither.NONE)
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}" '
        f'width="{pixels.shape[1]}" height="{pixels.shape[0]}" loading="lazy">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def pictures(items: Iterable[str]) -> str:
    """Return figures side by side."""
    return f'<div class="pictures">\n{"".join(items)}</div>\n'


def legend(scheme: ClassScheme) -> str:
    """Return the colours of a scheme and what they mean."""
    rows = "".join(
        f'<li><i style="background:#{item.color}"></i>{escape(item.title)}</li>'
        for item in scheme.classes
    )
    rows += f'<li><i style="background:#{NODATA_CLASS.color}"></i>Not compared</li>'
    return f'<ul class="legend" aria-label="Colours">{rows}</ul>\n'


def number(value: float, digits: int = 3) -> str:
    """Return a number for a table; a dash where it is not defined."""
    return UNDEFINED if not math.isfinite(value) else f"{value:.{digits}f}"


def percent(value: float, *, sign: bool = False) -> str:
    """Return a share, 0-1, in percent."""
    if not math.isfinite(value):
        return UNDEFINED
    text = f"{100 * value:+.1f} %" if sign else f"{100 * value:.1f} %"
    return text.replace("-", "\u2212")  # a minus is as wide as the plus above it


def count(value: float) -> str:
    """Return a number of pixels with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def thumbnail(pixels: NDArray[np.uint8], *, longest_px: int = 420) -> NDArray[np.uint8]:
    """Return every n-th pixel of a picture, so that it is at most so long; colours stay pure."""
    step = max(1, math.ceil(max(pixels.shape[:2]) / longest_px))
    return pixels[::step, ::step]


def _cells(row: Sequence[str | Cell]) -> Iterable[str]:
    for position, item in enumerate(row):
        cell = item if isinstance(item, Cell) else Cell(text=item)
        if position == 0:
            wrap = ' class="wrap"' if len(cell.text) > 28 else ""
            yield f'<th scope="row"{wrap}>{escape(cell.text)}</th>'
            continue
        names = [name for name, on in (("best", cell.best), ("text", cell.prose)) if on]
        kind = f' class="{" ".join(names)}"' if names else ""
        tint = f' style="background:rgba(var(--shade),{cell.shade:.2f})"' if cell.shade else ""
        note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
        yield f"<td{kind}{tint}>{escape(cell.text)}{note}</td>"
