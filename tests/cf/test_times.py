"""Tests for xstsr.cf.times."""

import cftime
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.strategies import CALENDARS, HOUR, MINUTE, split_labels, time_edges
from xstsr.cf.times import (
    DAY,
    check_calendars,
    check_increasing,
    edges_from_bounds,
    encoding_units,
    from_micros,
    infer_edges,
    is_time,
    to_micros,
)
from xstsr.errors import CFError
from xstsr.geometry.cells import LABELS, labels_from_edges


def pairs(edges):
    return np.stack([edges[:-1], edges[1:]], axis=1)


@pytest.mark.parametrize("calendar", CALENDARS)
@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=4))
def test_micros_survive_a_round_trip(calendar, values):
    micros = np.array(values)
    times = from_micros(micros, calendar)
    assert is_time(times)
    back, found = to_micros(times, "time")
    assert np.array_equal(back, micros)
    assert found == calendar


def test_datetimes_count_from_1970():
    micros, calendar = to_micros(np.array(["1970-01-02"], "M8[ns]"), "time")
    assert micros.tolist() == [DAY]
    assert calendar is None


def test_noleap_year_has_365_days():
    dates = [cftime.datetime(y, 1, 1, calendar="noleap") for y in (2000, 2001)]
    micros, calendar = to_micros(np.array(dates), "time")
    assert np.diff(micros) == [365 * DAY]
    assert calendar == "noleap"


@pytest.mark.parametrize(
    ("micros", "wanted", "got"),
    [
        (60_000_000, "s", "s"),
        (1_500_000, "s", "ms"),
        (1_500_001, "s", "us"),
        (1_500_000, "us", "us"),
        (60_000_000, "ns", "ns"),
        (9_300_000_000_000_000, "ns", "us"),  # the year 2264, beyond ns
        (60_000_000, "D", "us"),
    ],
)
def test_from_micros_takes_a_resolution_that_is_exact(micros, wanted, got):
    times = from_micros(np.array([micros]), None, wanted)
    assert np.datetime_data(times.dtype)[0] == got
    assert to_micros(times, "time")[0] == [micros]


def test_undecoded_times_raise():
    assert not is_time(np.arange(3))
    with pytest.raises(CFError, match=r"'time': dtype int64 is not decoded.*decode_cf"):
        to_micros(np.arange(3), "time")


def test_missing_times_raise():
    with pytest.raises(CFError, match=r"'time': 1 of them are missing \(NaT\).*dropna"):
        to_micros(np.array(["2001-01-01", "NaT"], "M8[s]"), "time")


@pytest.mark.parametrize(
    ("micros", "like", "units"),
    [
        (DAY, None, "days since 1970-01-01"),
        (HOUR, "days since 1850-01-01", "hours since 1850-01-01"),
        (20 * MINUTE, "days since 1850-01-01 00:00:00", "minutes since 1850-01-01 00:"),
        (1, "nonsense", "microseconds since 1970-01-01"),
        (1500, "hours since yesterday", "microseconds since 1970-01-01"),
        (2000, None, "milliseconds since 1970-01-01"),
    ],
)
def test_encoding_units_are_the_largest_exact(micros, like, units):
    assert encoding_units(np.array([0, micros]), None, like).startswith(units)


def test_encoding_units_know_the_calendar():
    units = encoding_units(np.array([HOUR]), "360_day", "days since 1850-02-30")
    assert units == "hours since 1850-02-30"


@pytest.mark.parametrize("label", LABELS)
def test_bounds_tell_the_label(label):
    edges = time_edges(3, "month", None)
    labels = labels_from_edges(edges, label)
    found, side, note = edges_from_bounds(pairs(edges), labels, "time", None)
    assert np.array_equal(found, edges)
    assert (side, note) == (label, None)


def test_label_off_the_middle_of_its_bounds_is_mid_with_note():
    edges = time_edges(2, "month", None)
    labels = edges[:-1] + 14 * DAY  # the 15th, as some models write
    _, side, note = edges_from_bounds(pairs(edges), labels, "time", None)
    assert side == "mid"
    assert "inside their bounds" in note
    _, side, note = edges_from_bounds(pairs(edges), labels, "time", "left")
    assert (side, note) == ("left", None)


def test_bounds_against_label_argument_raise():
    edges = time_edges(3, HOUR, None)
    with pytest.raises(CFError, match=r'label="left": by its bounds .* "right"'):
        edges_from_bounds(pairs(edges), edges[1:], "time", "left")


def test_bounds_of_another_shape_raise():
    edges = time_edges(3, HOUR, None)
    with pytest.raises(CFError, match=r"shape is \(3, 2\), not \(2, 2\)"):
        edges_from_bounds(pairs(edges), edges[:2], "time", None)


def test_bounds_of_no_width_raise():
    labels = time_edges(3, HOUR, None)
    with pytest.raises(CFError, match=r"cell 0 is 0 days wide.*time: point"):
        edges_from_bounds(np.stack([labels, labels], 1), labels, "time", None)


def test_bounds_of_every_third_hour_are_stale():
    edges = time_edges(9, HOUR, None)
    with pytest.raises(CFError, match=r"stale; cell 0 is 1 hour wide .* 3 hours later"):
        edges_from_bounds(pairs(edges)[::3], edges[:-1:3], "time", None)


def test_bounds_with_a_gap_raise_with_index():
    edges = time_edges(9, HOUR, None)
    keep = [0, 1, 2, 5, 6]
    with pytest.raises(CFError, match=r"gap or overlap at index 2;.*slice\(0, 3\)"):
        edges_from_bounds(pairs(edges)[keep], edges[:-1][keep], "time", None)


def test_labels_outside_their_bounds_raise():
    edges = time_edges(3, HOUR, None)
    with pytest.raises(CFError, match=r"label 0 lies outside its bounds.*stale"):
        edges_from_bounds(pairs(edges), edges[:-1] - DAY, "time", None)


def test_duplicated_times_raise_with_index():
    with pytest.raises(CFError, match=r"index 1 and 2 are the same.*drop_duplicates"):
        check_increasing(np.array([0, 1, 1, 2]), "time")


def test_backward_times_raise_with_index():
    with pytest.raises(CFError, match=r"backwards after index 1.*sortby\('time'\)"):
        check_increasing(np.array([0, 2, 1, 3]), "time")


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("step", [10 * MINUTE, HOUR, 3 * HOUR, DAY, "month"])
@pytest.mark.parametrize("label", ["left", "mid"])
def test_infer_edges_finds_usual_axes(calendar, step, label):
    edges = time_edges(5, step, calendar)
    labels = labels_from_edges(edges, label)
    found, side = infer_edges(labels, calendar, "time", None)
    assert side == label
    assert np.array_equal(found, edges)


@pytest.mark.parametrize("calendar", CALENDARS)
@given(st.integers(1, 31), st.sampled_from(LABELS), st.integers(2, 5))
def test_infer_edges_finds_split_months(calendar, t, label, n):
    edges = time_edges(n, "month", calendar)
    labels = split_labels(edges, t, label)
    found, _ = infer_edges(labels, calendar, "time", label)
    assert np.array_equal(found[::t], edges)


@given(
    st.integers(1, 13),
    st.sampled_from(LABELS),
    st.sampled_from((HOUR, 3 * HOUR, DAY, 5 * MINUTE)),
)
def test_infer_edges_finds_split_steps(t, label, step):
    edges = time_edges(3, step, None)
    found, _ = infer_edges(split_labels(edges, t, label), None, "time", label)
    assert np.array_equal(found[::t], edges)


def months(dates):
    return np.array(dates, "M8[us]").astype(np.int64)


@pytest.mark.parametrize(
    ("dates", "label", "side", "first", "last"),
    [
        (["2001-01-31", "2001-02-28"], None, "right", "2001-01-01", "2001-03-01"),
        (["2001-01-15", "2001-02-15"], None, "mid", "2001-01-01", "2001-03-01"),
        (["2001-01-16T12", "2001-02-15"], None, "mid", "2001-01-01", "2001-03-01"),
        (["2001-02-01", "2001-03-01"], "right", "right", "2001-01-01", "2001-03-01"),
        (["2001-12-01", "2002-03-01"], None, "left", "2001-12-01", "2002-06-01"),
        (["2001-01-15", "2002-01-15"], "left", "left", "2001-01-15", "2003-01-15"),
        (["2001-01-01", "2002-01-01"], None, "left", "2001-01-01", "2003-01-01"),
        (["2001-07-02", "2002-07-02"], None, "mid", "2001-01-01", "2003-01-01"),
        (["2001-04-16", "2001-07-16"], None, "mid", "2001-03-01", "2001-09-01"),
        (["2001-10-01", "2002-10-01"], None, "left", "2001-10-01", "2003-10-01"),
    ],
)
def test_infer_edges_reads_months_seasons_years(dates, label, side, first, last):
    edges, found = infer_edges(months(dates), None, "time", label)
    assert found == side
    assert edges[[0, -1]].tolist() == months([first, last]).tolist()


@pytest.mark.parametrize(
    ("first", "step", "side"),
    [
        (0, HOUR, "left"),
        (0, 30 * DAY, "left"),
        (30 * MINUTE, HOUR, "mid"),
        (15 * MINUTE, HOUR, "left"),
        (12 * HOUR, DAY, "mid"),
        (6 * HOUR, DAY, "left"),
        (0, 7 * HOUR, "left"),  # does not tile a day
        (3 * HOUR + 30 * MINUTE, 7 * HOUR, "left"),
        (2 * DAY + 12 * HOUR, 5 * DAY, "mid"),
        (DAY, 2 * DAY, "left"),  # two-day steps labelled at midnight are ambiguous
    ],
)
def test_infer_edges_tells_left_from_mid(first, step, side):
    labels = first + np.arange(4) * step
    assert infer_edges(labels, None, "time", None)[1] == side


def test_infer_edges_forgives_jitter_of_float_days():
    labels = np.arange(4) * HOUR + np.array([0, 400, -300, 0])
    edges, _ = infer_edges(labels, None, "time", None)
    assert edges.shape == (5,)


def test_irregular_axis_raises_with_index_and_steps():
    labels = np.array([0, 1, 2, 4, 5]) * HOUR
    match = (
        r"irregular at index 2: a step of 2 hours .* usual step is 1 hour.*slice\(3\)"
    )
    with pytest.raises(CFError, match=match):
        infer_edges(labels, None, "time", None)


def test_months_at_their_start_are_not_mid():
    labels = time_edges(3, "month", None)
    with pytest.raises(CFError, match="irregular at index 1: a step of 28 days"):
        infer_edges(labels, None, "time", "mid")


def test_times_of_several_calendars_are_refused():
    times = np.array(
        [cftime.DatetimeNoLeap(2001, 1, 1), cftime.Datetime360Day(2001, 1, 2)]
    )
    with pytest.raises(CFError, match=r"'time'.*\['360_day', 'noleap'\].*convert_cal"):
        to_micros(times, "time")


@pytest.mark.parametrize(
    ("one", "other"), [("noleap", "360_day"), (None, "noleap"), ("julian", "standard")]
)
def test_calendars_that_differ_are_refused(one, other):
    told = rf"match a and b.*'{one or 'standard'}' and '{other}'.*convert_calendar"
    with pytest.raises(CFError, match=told):
        check_calendars(one, other, "a and b")


def test_calendars_that_agree_are_not():
    for other in (None, "gregorian", "proleptic_gregorian"):
        check_calendars("standard", other, "a and b")
    check_calendars("noleap", "noleap", "a and b")
