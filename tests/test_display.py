"""Cards: aligned text for terminals, escaped tables for notebooks."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from xstsr.display import html, text

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"))
)


class Cells(HTMLParser):
    """Collect what a browser would show in the cells of a table."""

    def __init__(self):
        super().__init__()
        self.cells, self.tags, self.inside = [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("th", "td", "b"):
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self.tags.append("/" + tag)
        self.inside = self.inside and tag not in ("th", "td", "b")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_text_aligns_values_behind_the_longest_label():
    card = text("Plan", [("s", "10"), ("windows", "3"), ("note", "a b")])
    assert card.splitlines() == [
        "Plan",
        "  s        10",
        "  windows  3",
        "  note     a b",
    ]


def test_text_without_rows_is_the_title():
    assert text("Plan", []) == "Plan"


def test_html_escapes_what_could_be_markup():
    page = html("a & b", [("<i>", "1 < 2"), ('"', "</table>")])
    for raw in ("<i>", "1 < 2", "</table><", "a & b"):
        assert raw not in page.replace("</table></div>", "")
    assert "&lt;i&gt;" in page
    assert "1 &lt; 2" in page


@given(title=WORDS, rows=st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_html_shows_exactly_what_was_said(title, rows):
    parser = Cells()
    parser.feed(html(title, rows))
    parser.close()
    assert parser.cells == [title, *(word for row in rows for word in row)]
    assert parser.tags.count("tr") == parser.tags.count("/tr") == len(rows)


@given(title=WORDS, rows=st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_text_has_a_line_for_each_row(title, rows):
    lines = text(title, rows).split("\n")
    assert lines[0] == title
    assert len(lines) == len(rows) + 1
    width = max((len(name) for name, _ in rows), default=0)
    for line, (name, value) in zip(lines[1:], rows, strict=True):
        assert line[2 : 2 + width].rstrip() == name.rstrip()
        assert line[4 + width :] == value
