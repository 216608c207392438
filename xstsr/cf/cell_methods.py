"""The CF attribute ``cell_methods``: parse it, ask it, write it.

Grammar (CF-1.11, section 7.3), one entry per statistic, the first applied first::

    name: [name: ...] method [where type [over type]] [within|over days|years] [(...)]

with ``(interval: value unit ... comment: text)`` or plain text in the parentheses.
cf-xarray's private parser reads neither shared names nor ``where``/``within``.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from xstsr.errors import CFError

_TOKEN = re.compile(r"\(([^()]*)\)|([^\s:()]+):(?=\s|$)|([^\s:()]+)")
_DETAIL = re.compile(r"(?:^|\s)(interval|comment):(?=\s|$)")


@dataclass(frozen=True)
class CellMethod:
    """One entry of ``cell_methods``, such as ``time: mean (interval: 1 hour)``."""

    names: tuple[str, ...]
    """Dimensions, scalar coordinates, standard names or "area"."""
    method: str
    """The statistic: "mean", "sum", "point", "maximum", ..."""
    where: str | None = None
    """Area type that the statistic covers: "land" in ``where land``."""
    where_over: str | None = None
    """Area type that it is relative to: "all" in ``where land over all``."""
    within: str | None = None
    """Climatological period inside which it was taken: "days"."""
    over: str | None = None
    """Climatological period over which it was taken: "years"."""
    intervals: tuple[str, ...] = ()
    """Spacing of the original data, one per name or one for all: "1 hour"."""
    comment: str | None = None
    """Free text."""


def parse(text: str) -> tuple[CellMethod, ...]:
    """Parse a ``cell_methods`` attribute.

    Parameters
    ----------
    text : str
        For example "area: time: mean (interval: 1 hour)".

    Returns
    -------
    tuple of CellMethod
        In the order of the text; ``parse(write(methods)) == methods``.

    Raises
    ------
    CFError
        The text does not follow the grammar.

    Examples
    --------
    >>> [(m.names, m.method) for m in parse("area: time: mean lev: sum")]
    [(('area', 'time'), 'mean'), (('lev',), 'sum')]
    """
    tokens = _tokens(text)
    methods: list[CellMethod] = []
    while tokens:
        names = []
        while tokens and tokens[0][0] == "name":
            names.append(tokens.pop(0)[1])
        if not names or not tokens or tokens[0][0] != "word":
            raise _malformed(text)
        entry = CellMethod(tuple(names), tokens.pop(0)[1])
        while tokens and tokens[0][0] == "word":
            entry = _clause(entry, tokens, text)
        if tokens and tokens[0][0] == "detail":
            entry = _detail(entry, tokens.pop(0)[1])
        methods.append(entry)
    return tuple(methods)


def write(methods: tuple[CellMethod, ...]) -> str:
    """Write entries as a ``cell_methods`` attribute.

    Parameters
    ----------
    methods : tuple of CellMethod
        Entries in the order in which they were applied.

    Returns
    -------
    str
        Text for the attribute.
    """
    return " ".join(_write_entry(entry) for entry in methods)


def method_of(methods: tuple[CellMethod, ...], names: set[str]) -> tuple[str, ...]:
    """Return the statistics that were applied over any of some dimensions.

    Parameters
    ----------
    methods : tuple of CellMethod
        Parsed entries.
    names : set of str
        Names that mean the dimension: {"time", "valid_time"}.

    Returns
    -------
    tuple of str
        Lower-case statistics in the order applied; empty when nothing is said.
    """
    return tuple(m.method.lower() for m in methods if names & set(m.names))


def is_climatological(methods: tuple[CellMethod, ...]) -> bool:
    """Tell whether any entry is a climatological statistic (``within``/``over``).

    Parameters
    ----------
    methods : tuple of CellMethod
        Parsed entries.

    Returns
    -------
    bool
    """
    return any(m.within or m.over for m in methods)


def axis_names(time: str, y: str, x: str) -> tuple[set[str], set[str]]:
    """Return the names that mean time, and those that mean the horizontal.

    Parameters
    ----------
    time, y, x : str
        Dimensions of the field.

    Returns
    -------
    tuple of set of str
    """
    area = {"area", "lat", "lon", "latitude", "longitude", y, x}
    area |= {"grid_latitude", "grid_longitude"}
    area |= {"projection_x_coordinate", "projection_y_coordinate"}
    return {"time", time}, area


def refined(
    methods: tuple[CellMethod, ...],
    statistic: str,
    time_names: set[str],
    area_names: set[str],
) -> tuple[CellMethod, ...]:
    """Return the entries of a refined field: explicit in time and area.

    Entries over other dimensions are kept. Intervals and comments of time and area are
    dropped, for they describe cells that are no more; ``where`` is kept.

    Parameters
    ----------
    methods : tuple of CellMethod
        Entries of the coarse field.
    statistic : str
        What holds in time: "mean", "sum" or "point".
    time_names, area_names : set of str
        Names that mean time, and names that mean the horizontal.

    Returns
    -------
    tuple of CellMethod
        ``time: <statistic> area: mean``, then the others.
    """
    time = CellMethod(("time",), statistic)
    area = CellMethod(("area",), "mean")
    others = []
    for entry in methods:
        if area_names & set(entry.names):
            area = replace(area, where=entry.where, where_over=entry.where_over)
        rest = tuple(n for n in entry.names if n not in time_names | area_names)
        if rest:
            # one interval may belong to a name that has gone, so none is kept then
            same = rest == entry.names
            intervals = entry.intervals if same else ()
            others.append(replace(entry, names=rest, intervals=intervals))
    return (time, area, *others)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, end = [], 0
    for match in _TOKEN.finditer(text):
        if text[end : match.start()].strip():
            raise _malformed(text)
        detail, name, word = match.groups()
        kind = "detail" if detail is not None else "name" if name else "word"
        tokens.append((kind, (detail or name or word or "").strip()))
        end = match.end()
    if text[end:].strip() or not tokens:
        raise _malformed(text)
    return tokens


def _clause(entry: CellMethod, tokens: list[tuple[str, str]], text: str) -> CellMethod:
    keyword = tokens.pop(0)[1]
    if keyword not in ("where", "over", "within") or not tokens:
        raise _malformed(text)
    kind, value = tokens.pop(0)
    if kind != "word":
        raise _malformed(text)
    # "over" after "where" names an area type; by itself it names a period
    nested = keyword == "over" and entry.where is not None and entry.where_over is None
    field = "where_over" if nested else keyword
    if getattr(entry, field) is not None:
        raise _malformed(text)
    clause: dict[str, Any] = {field: value}
    return replace(entry, **clause)


def _detail(entry: CellMethod, detail: str) -> CellMethod:
    parts = _DETAIL.split(f" {detail}")
    if parts[0].strip():
        return replace(entry, comment=" ".join(detail.split()))
    pairs = list(zip(parts[1::2], parts[2::2], strict=True))
    intervals = tuple(" ".join(v.split()) for k, v in pairs if k == "interval")
    comments = [" ".join(v.split()) for k, v in pairs if k == "comment"]
    return replace(
        entry, intervals=intervals, comment=" ".join(comments) if comments else None
    )


def _write_entry(entry: CellMethod) -> str:
    parts = [*(f"{name}:" for name in entry.names), entry.method]
    for keyword, value in (
        ("where", entry.where),
        ("over", entry.where_over),
        ("within", entry.within),
        ("over", entry.over),
    ):
        if value is not None:
            parts += [keyword, value]
    detail = [f"interval: {interval}" for interval in entry.intervals]
    if entry.comment is not None:
        # plain text needs no keyword unless standard text stands beside it
        detail.append(f"comment: {entry.comment}" if detail else entry.comment)
    if detail:
        parts.append(f"({' '.join(detail)})")
    return " ".join(parts)


def _malformed(text: str) -> CFError:
    return CFError(
        f"cannot read cell_methods {text!r}: it is not of the form 'name: method'. "
        'Set da.attrs["cell_methods"] = "time: mean" (or "time: sum", "time: point"), '
        "or pass cell_methods=."
    )
