"""The plan: windows in absolute time, tiles, and weights that add up to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xstsr.errors import PlanError
from xstsr.plan import Span, blend_weights, make_plan, spans, tile_halo, windows


@given(
    first=st.integers(-100, 100),
    count=st.integers(1, 60),
    core=st.integers(1, 12),
    halo=st.integers(0, 6),
)
def test_windows_cover_each_frame_once(first, count, core, halo):
    found = windows(range(first, first + count), core, halo)
    owned = [i for w in found for i in range(w.core_start, w.core_stop)]
    assert owned == list(range(count))
    for w in found:
        assert w.start == max(0, w.core_start - halo)
        assert w.stop == min(count, w.core_stop + halo)
        assert w.core_stop - w.core_start <= core


def test_windows_of_a_part_are_those_of_the_whole():
    whole = windows(range(3, 40), core=6, halo=2)
    part = windows(range(9, 40), core=6, halo=2)
    ends = {w.core_stop + 3 for w in whole}
    assert {w.core_stop + 9 for w in part} <= ends


@given(
    cells=st.integers(1, 80),
    s=st.integers(1, 25),
    side=st.integers(225, 700),
)
def test_weights_of_all_tiles_add_up_to_one(cells, s, side):
    blend = tile_halo(s) // 2 or 1
    total = np.zeros(cells * s)
    for span in spans(cells, s, side):
        weights = np.array(blend_weights(span, s, blend, cells))
        total[span.start * s : span.stop * s] += weights
    assert total == pytest.approx(1.0)


def test_blend_weights_are_a_half_at_the_boundary():
    # two cells to either side, n = 2: depths -1.5 .. 1.5 over a reach of 4 fine cells
    span = Span(start=3, stop=6, core_start=4, core_stop=6)
    weights = blend_weights(span, n=2, blend=1, cells=6)
    assert weights == pytest.approx([0.125, 0.375, 0.625, 0.875, 1.0, 1.0])


def test_spans_fit_the_side():
    for span in spans(100, 10, 300):
        assert (span.stop - span.start) * 10 <= 300


def test_plan_takes_short_windows_where_long_ones_do_not_fit():
    small = make_plan(range(40), (10, 10), (3, 10, 10), halo=2, core=12, short_core=6)
    large = make_plan(range(40), (90, 90), (3, 10, 10), halo=2, core=12, short_core=6)
    assert len(small.windows) < len(large.windows)
    assert len(small.rows) == 1
    assert len(large.rows) > 1


def test_plan_refuses_a_core_that_cannot_hold_its_blends():
    with pytest.raises(PlanError, match="windows of 2 frames over a halo of 6"):
        make_plan(range(9), (4, 4), (1, 2, 2), halo=6, core=2)


def test_spans_refuse_a_side_without_room():
    with pytest.raises(PlanError, match="into tiles of 120 pixels"):
        spans(40, 25, 120)
