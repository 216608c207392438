"""Tests for xstsr.cf.cell_methods."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from xstsr.cf.cell_methods import (
    CellMethod,
    axis_names,
    is_climatological,
    method_of,
    parse,
    refined,
    write,
)
from xstsr.errors import CFError

WORDS = st.sampled_from(("land", "sea_ice", "all", "days", "years", "mean", "x1", "°"))
TEXT = st.lists(st.sampled_from(("1", "hour", "0.1", "at", "00", "UTC,")), min_size=1)


@st.composite
def cell_methods(draw):
    intervals = draw(st.lists(TEXT.map(" ".join), max_size=2))
    where = draw(st.none() | WORDS)
    return CellMethod(
        names=tuple(draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=3))),
        method=draw(st.sampled_from(("mean", "sum", "point", "standard_deviation"))),
        where=where,
        where_over=draw(st.none() | WORDS) if where else None,
        within=draw(st.none() | WORDS),
        intervals=tuple(intervals),
        comment=draw(st.none() | TEXT.map(" ".join)),
    )


@given(st.lists(cell_methods(), min_size=1, max_size=3).map(tuple))
def test_parse_inverts_write(methods):
    assert parse(write(methods)) == methods


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time: mean", CellMethod(("time",), "mean")),
        ("area: time: mean", CellMethod(("area", "time"), "mean")),
        (
            "time: mean (interval: 1 hour)",
            CellMethod(("time",), "mean", intervals=("1 hour",)),
        ),
        (
            "lat: lon: variance (interval: 0.1 degree_N interval: 0.2 degree_E)",
            CellMethod(
                ("lat", "lon"), "variance", intervals=("0.1 degree_N", "0.2 degree_E")
            ),
        ),
        (
            "time: sum (interval: 1 hr comment: sampled instantaneously)",
            CellMethod(
                ("time",),
                "sum",
                intervals=("1 hr",),
                comment="sampled instantaneously",
            ),
        ),
        ("time: mean (daily)", CellMethod(("time",), "mean", comment="daily")),
        (
            "area: mean where land over all",
            CellMethod(("area",), "mean", where="land", where_over="all"),
        ),
        ("time: mean over years", CellMethod(("time",), "mean", over="years")),
        (
            "time: maximum within days",
            CellMethod(("time",), "maximum", within="days"),
        ),
    ],
)
def test_parse_reads_examples_of_cf(text, expected):
    assert parse(text) == (expected,)
    assert write((expected,)) == text


def test_parse_keeps_order_of_entries():
    methods = parse("time: maximum within days time: mean over days")
    assert [m.method for m in methods] == ["maximum", "mean"]
    assert is_climatological(methods)
    assert not is_climatological(parse("time: mean where land over all"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "time",
        "mean",
        "time mean",
        "time:mean",
        "time: mean foo",
        "time: mean foo bar",
        "time: mean (a (b))",
        "time: mean where",
        "time: mean where (a)",
        "time: mean over a over b",
        "time:",
        "(a)",
        "time: mean )",
        ") time: mean",
    ],
)
def test_parse_of_malformed_text_raises(text):
    with pytest.raises(CFError, match=r"not of the form 'name: method'.*cell_methods="):
        parse(text)


def test_method_of_finds_shared_entries():
    methods = parse("area: time: mean lev: Maximum")
    assert method_of(methods, {"time", "valid_time"}) == ("mean",)
    assert method_of(methods, {"lev"}) == ("maximum",)
    assert method_of(methods, {"height"}) == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "time: mean area: mean"),
        ("time: mean (interval: 5 min)", "time: mean area: mean"),
        ("area: time: mean", "time: mean area: mean"),
        ("area: mean where land time: mean", "time: mean area: mean where land"),
        ("lev: time: mean (interval: 1 m)", "time: mean area: mean lev: mean"),
        ("lev: sum (interval: 1 m)", "time: mean area: mean lev: sum (interval: 1 m)"),
        ("lat: lon: mean", "time: mean area: mean"),
    ],
)
def test_refined_states_time_and_area(before, after):
    methods = parse(before) if before else ()
    assert write(refined(methods, "mean", *axis_names("time", "y", "x"))) == after
