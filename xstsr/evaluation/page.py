"""The trust report as one page: HTML with everything inside, or a picture.

A page needs no network and no script. Its boxes stand side by side where there is room
and below each other where there is not: from 360 pixels up.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING

from xstsr.evaluation.recorder import Seen
from xstsr.evaluation.verdict import Verdict
from xstsr.plot.style import WIDTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure


from typing import TYPE_CHECKING, Any

from xstsr.plot.curves import (
    draw_exceedance,
    draw_ranks,
    draw_spatial,
    draw_spread_error,
    draw_temporal,
)
from xstsr.plot.panels import Column, Grid
from xstsr.plot.style import DPI, INK, SMALL, new_figure
from xstsr.verification.diagnostics import PROBABILITIES, Curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

SCORES = {  # by name in the table: what people call it
    "fair_crps": "fair CRPS",
    "rmse": "RMSE of the mean",
    "spread_skill": "spread over error",
    "log_spectral_distance": "spectrum in space, decades off",
    "temporal_spectral_distance": "spectrum in time, decades off",
    "fss_1": "FSS at 1 mm/h",
    "fss_5": "FSS at 5 mm/h",
    "fss_10": "FSS at 10 mm/h",
    "q99_ratio": "q99 over the truth's",
    "q99.9_ratio": "q99.9 over the truth's",
    "wet_area_ratio": "wet area over the truth's",
    "lag1_correlation_error": "lag-1 correlation, error",
    "seam_space": "seams between cells over the truth's",
    "seam_time": "seams between steps over the truth's",
    "largest_residual": "largest relative residual",
}
_WORDS = {True: "holds", False: "fails", None: "not judged"}
_COLOURS = {"trust": "#0b6e4f", "care": "#8a5a00", "no": "#a3231f", "unknown": "#555"}
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f5f6; color: #222;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2rem 0 .25rem;
  overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
p { margin: .25rem 0 .75rem; }
.verdict { background: #fff; border-left: 8px solid; border-radius: 4px;
  padding: 12px 16px; margin: .75rem 0; }
.verdict strong { display: block; font-size: 1.15rem; }
.basis { color: #555; font-size: .9rem; }
.boxes { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
figure, .box { margin: 0; background: #fff; border-radius: 4px; padding: 12px; }
figure img { display: block; width: 100%; max-width: 640px; height: auto;
  margin: 0 auto; }
figcaption { color: #555; font-size: .875rem; padding-top: 8px; }
.scroll { overflow-x: auto; background: #fff; border-radius: 4px; padding: 4px 12px; }
table { border-collapse: collapse; font-size: .875rem; width: 100%; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-top: 1px solid #e3e5e8;
  vertical-align: top; }
tr:first-child > * { border-top: 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
th.number { text-align: right; }
.own { font-weight: 600; }
.fails { color: #a3231f; font-weight: 600; }
footer { color: #555; font-size: .875rem; margin: 2rem 0 1rem; }
"""
_RULE = (
    "Water must be kept to 1e-5 in every coarse cell, and the fair CRPS must be below "
    "every baseline's, or the model is not to be trusted here. If spread, extremes, "
    "wet area, both spectra and the seams are in their ranges too, it is to be "
    "trusted; if one is not, to be used with care, for what does not need it. Below "
    "1000 wet pixels there is no verdict. The field was averaged to the coarse grid "
    "and refined again, so the verdict holds for fields like it, at this factor and "
    "this spacing."
)
_HALF, _TALL = WIDTH / 2, 3.1  # inches, one curve
CAPTIONS = (
    "Flat is reliable. A U is too narrow an ensemble, a hump too wide a one.",
    "On the diagonal the realizations differ by as much as they err.",
    "Beyond the coarse grid's end, detail should have the truth's power.",
    "The same in time: too much power flickers, too little freezes.",
    "Extremes at the right: how heavy is the heaviest share of the rain?",
)
_MARGIN = 40  # pixels
_HEAD_LINE, _LINE = 0.21, 0.142  # inches, a line of text


@dataclass(frozen=True, eq=False)
class Sheet:
    """One event at one factor, as it is printed.

    Parameters
    ----------
    name, where, basis : str
        Which field; factor and spacing; on how much the verdict rests.
    method : str
        Which is judged.
    verdict : Verdict
    scores : mapping of method to mapping of score to float
    seen : Seen
        For the pictures.
    """

    name: str
    where: str
    basis: str
    method: str
    verdict: Verdict
    scores: Mapping[str, Mapping[str, float]]
    seen: Seen


def html(sheets: Sequence[Sheet]) -> bytes:
    """Write the page.

    Parameters
    ----------
    sheets : sequence of Sheet
        One at least.

    Returns
    -------
    bytes
        UTF-8, complete in itself.
    """
    title = "Trust report" if len(sheets) > 1 else f"Trust report: {sheets[0].name}"
    overview = _overview(sheets) if len(sheets) > 1 else ""
    body = "\n".join(_section(sheet, index) for index, sheet in enumerate(sheets))
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{overview}
{body}
<footer><b>The rule.</b> {escape(_RULE)}</footer>
</main>
</body>
</html>
"""
    return text.encode("utf-8")


def png(sheets: Sequence[Sheet]) -> bytes:
    """Draw the page as one picture, a part below the other.

    Parameters
    ----------
    sheets : sequence of Sheet
        One at least.

    Returns
    -------
    bytes
        Of a PNG file.
    """
    rows = [row for sheet in sheets for row in _rows(sheet)]
    buffer = BytesIO()
    stacked([*rows, [text_figure("", wrap("The rule. " + _RULE, 104))]]).save(
        buffer, format="PNG"
    )
    return buffer.getvalue()


def _rows(sheet: Sheet) -> list[list["Figure"]]:
    """Draw one sheet, as figures in rows."""
    checks = [
        f"{check.name:<10}{_WORDS[check.passed]:<12}{check.told}"
        for check in sheet.verdict.checks
    ]
    methods = list(sheet.scores)
    wide = max(len(label) for _, label in _printed(sheet))
    table = [" " * wide + "".join(f"{method:>12}" for method in methods)]
    for score, label in _printed(sheet):
        values = (_number(sheet.scores[method][score]) for method in methods)
        table.append(f"{label:<{wide}}" + "".join(f"{value:>12}" for value in values))
    receipt = [f"{label:<{wide}}{value}" for label, value in sheet.seen.receipt]
    head = [f"{sheet.name}: judged on {sheet.basis}", "", *checks]
    curves = list(curve_figures(sheet.seen.curves).values())
    pairs = [curves[i : i + 2] for i in range(0, len(curves), 2)]
    return [
        [text_figure(sheet.verdict.sentence, head)],
        [example_figure(sheet.seen.example, 4, WIDTH)],
        *pairs,
        [text_figure("Scores", table)],
        [text_figure("Mass receipt", receipt)],
    ]


def _overview(sheets: Sequence[Sheet]) -> str:
    """Write a table of all verdicts, which links to them."""
    counts = sum(sheet.verdict.grade == "trust" for sheet in sheets)
    rows = "".join(
        f"<tr><td><a href='#sheet{i}'>{escape(sheet.name)}</a></td>"
        f"<td>{escape(sheet.where)}</td>"
        f"<td><b style='color:{_COLOURS[sheet.verdict.grade]}'>"
        f"{sheet.verdict.headline}</b></td></tr>"
        for i, sheet in enumerate(sheets)
    )
    return (
        f"<p>The rule says to trust the model in {counts} of {len(sheets)} cases.</p>"
        "<div class='scroll'><table><tr><th>event</th><th>factor</th><th>verdict</th>"
        f"</tr>{rows}</table></div>"
    )


def _section(sheet: Sheet, index: int) -> str:
    verdict = sheet.verdict
    colour = _COLOURS[verdict.grade]
    example = example_figure(sheet.seen.example, 2, WIDTH / 2)
    drawn = {"The wettest moment of the truth, and what was made of it.": example}
    drawn |= curve_figures(sheet.seen.curves)
    boxes = "\n".join(
        _figure(png_bytes(figure, 170), text) for text, figure in drawn.items()
    )
    return f"""<section id="sheet{index}">
<h2>{escape(sheet.name)}, {escape(sheet.where)}</h2>
<div class="verdict" style="border-color:{colour}">
<strong style="color:{colour}">{verdict.headline}</strong>
{escape(verdict.sentence)}
<div class="basis">Judged on {escape(sheet.basis)}.</div>
</div>
<div class="scroll">{_checks(verdict)}</div>
<h3>Pictures</h3>
<div class="boxes">
{boxes}
</div>
<h3>Scores against the baselines</h3>
<div class="scroll">{_scores(sheet)}</div>
<h3>Mass receipt of {escape(sheet.method)}</h3>
<div class="scroll">{_table(sheet.seen.receipt)}</div>
</section>"""


def _figure(image: bytes, caption: str) -> str:
    data = base64.b64encode(image).decode("ascii")
    return (
        f"<figure><img alt='{escape(caption)}' src='data:image/png;base64,{data}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _checks(verdict: Verdict) -> str:
    rows = "".join(
        f"<tr><th>{escape(check.name)}</th>"
        f"<td class='{'fails' if check.passed is False else ''}'>"
        f"{_WORDS[check.passed]}</td><td>{escape(check.told)}</td>"
        f"<td>{escape(check.allowed)}</td></tr>"
        for check in verdict.checks
    )
    head = "<tr><th>part</th><th></th><th>found</th><th>allowed</th></tr>"
    return f"<table>{head}{rows}</table>"


def _scores(sheet: Sheet) -> str:
    methods = list(sheet.scores)
    head = "".join(
        f"<th class='number {'own' if method == sheet.method else ''}'>"
        f"{escape(method)}</th>"
        for method in methods
    )
    rows = []
    for score, label in _printed(sheet):
        cells = "".join(
            f"<td class='number {'own' if method == sheet.method else ''}'>"
            f"{_number(sheet.scores[method][score])}</td>"
            for method in methods
        )
        rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _printed(sheet: Sheet) -> list[tuple[str, str]]:
    """List the scores that the sheet has, as names and labels."""
    own = sheet.scores[sheet.method]
    units = sheet.seen.curves.units
    with_units = {"fair_crps", "rmse"}
    return [
        (name, f"{label} [{units}]" if name in with_units else label)
        for name, label in SCORES.items()
        if name in own
    ]


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3g}"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{lines}</table>"


def example_figure(columns: Sequence[Column], across: int, width: float) -> "Figure":
    """Draw fields of one moment.

    Parameters
    ----------
    columns : sequence of Column
        One field each; the last one says where and when.
    across : int
        How many in a row.
    width : float
        Inches.
    """
    grid = Grid(list(columns), columns[-1].series, 1, across, width)
    grid.draw(0)
    grid.finish([0])
    return grid.figure


def curve_figures(curves: Curves) -> dict[str, "Figure"]:
    """Draw ranks, spread and error, spectra and exceedance, each as a figure.

    Parameters
    ----------
    curves : Curves

    Returns
    -------
    dict of caption to Figure
        The caption says what to look for.
    """
    drawn = {caption: new_figure(_TALL, _HALF) for caption in CAPTIONS}
    axes = [figure.subplots() for figure in drawn.values()]
    draw_ranks(axes[0], curves.ranks)
    draw_spread_error(axes[1], curves.spread, curves.error, curves.units)
    draw_spatial(axes[2], curves.space, curves.units, limit=curves.limits[0])
    draw_temporal(axes[3], curves.time, curves.units, limit=curves.limits[1])
    draw_exceedance(axes[4], PROBABILITIES, curves.exceedance, curves.units)
    return drawn


def text_figure(title: str, lines: Sequence[str]) -> "Figure":
    """Write a heading and lines of fixed width as a figure.

    Parameters
    ----------
    title : str
        Wrapped.
    lines : sequence of str
        Kept as they are.
    """
    head = wrap(title, 92)
    below = 0.06 + (len(head) + 0.5) * _HEAD_LINE
    height = below + len(lines) * _LINE + 0.2
    figure = new_figure(height)
    figure.set_layout_engine("none")
    style: dict[str, Any] = {
        "va": "top",
        "ha": "left",
        "color": INK,
        "linespacing": 1.35,
    }
    figure.text(0.03, 1 - 0.06 / height, "\n".join(head), fontsize=10.5, **style)
    figure.text(
        0.03,
        1 - below / height,
        "\n".join(lines),
        fontsize=SMALL,
        family="monospace",
        **style,
    )
    return figure


def stacked(rows: Sequence[Sequence["Figure"]]) -> "Image":
    """Put figures below each other, and those of a row side by side.

    Parameters
    ----------
    rows : sequence of sequence of Figure

    Returns
    -------
    PIL Image
    """
    from PIL import Image

    made = [[Image.open(BytesIO(png_bytes(figure))) for figure in row] for row in rows]
    height = sum(max(image.height for image in row) for row in made)
    page = Image.new("RGB", (round(WIDTH * DPI) + 2 * _MARGIN, height), "white")
    top = 0
    for row in made:
        left = _MARGIN
        for image in row:
            page.paste(image, (left, top))
            left += image.width
        top += max(image.height for image in row)
    return page


def png_bytes(figure: "Figure", dpi: int = DPI) -> bytes:
    """Draw a figure as the bytes of a PNG, without any date or version in it."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
