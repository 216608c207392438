"""Small cards of labelled values: text for terminals, HTML for notebooks."""

from collections.abc import Sequence
from html import escape

Rows = Sequence[tuple[str, str]]


def text(title: str, rows: Rows) -> str:
    """Write a card as aligned lines.

    Examples
    --------
    >>> print(text("Plan", [("s", "10"), ("windows", "3")]))
    Plan
      s        10
      windows  3
    """
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def html(title: str, rows: Rows) -> str:
    """Write a card as a table."""
    cell = "text-align:left;vertical-align:top;white-space:normal"
    lines = "".join(
        f"<tr><th style='{cell}'>{escape(name)}</th>"
        f"<td style='{cell}'>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<div><b>{escape(title)}</b><table>{lines}</table></div>"
