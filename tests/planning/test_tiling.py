"""The plan: windows in absolute time, tiles, and that little is computed twice."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xstsr.errors import PlanError
from xstsr.methods.task import Reach
from xstsr.planning import tiling as plans
from xstsr.planning.tiling import (
    Plan,
    Span,
    blend_weights,
    computed,
    make_plan,
    tiles,
    windows,
)

NETWORK = Reach(frames=4, pixels=30, stride=16)


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
    first=st.integers(-9, 9),
    count=st.integers(1, 60),
    core=st.integers(2, 12),
    blend=st.integers(0, 1),
    length=st.integers(1, 20),
)
def test_chunks_know_their_windows(first, count, core, blend, length):
    found = windows(range(first, first + count), core, halo=blend)
    plan = Plan(found, (), (), blend, length)
    assert [i for frames in plan.chunks for i in frames] == list(range(count))
    assert {len(frames) for frames in plan.chunks[:-1]} <= {length}
    for frames in plan.chunks:
        owners = [
            i
            for i, w in enumerate(found)
            if set(frames) & set(range(w.core_start, w.core_stop))
        ]
        sources = [
            i
            for i, w in enumerate(found)
            if set(frames) & set(range(w.core_start - blend, w.core_stop + blend))
        ]
        assert list(plan.owners(frames)) == owners
        assert list(plan.sources(frames)) == sources


@given(
    cells=st.integers(1, 80),
    s=st.integers(1, 25),
    pitch=st.integers(1, 80),
    stride=st.sampled_from([1, 8, 64]),
    halo=st.integers(0, 60),
)
def test_tiles_cover_each_cell_once_and_see_their_halo(cells, s, pitch, stride, halo):
    found = tiles(cells, s, pitch, Reach(1, halo, stride))
    assert [i for x in found for i in range(x.core_start, x.core_stop)] == [
        *range(cells)
    ]
    assert len({x.core_stop - x.core_start for x in found[:-1]}) <= 1
    for x in found:
        assert x.start == 0 or (x.core_start - x.start) * s >= halo
        assert x.stop == cells or (x.stop - x.core_stop) * s >= halo
        # no more is seen than the padding up to the pattern, and a cell
        assert (x.core_start - x.start) * s < halo + stride + s
        # what lies between the pattern's start and the tile's is less than a cell
        assert x.start * s % stride < s or len(found) == 1


def test_blend_weights_are_a_half_at_the_boundary():
    # two cells to either side, n = 2: depths -1.5 .. 1.5 over a reach of 4 fine cells
    span = Span(start=3, stop=6, core_start=4, core_stop=6)
    weights = blend_weights(span, n=2, blend=1, cells=6)
    assert weights == pytest.approx([0.125, 0.375, 0.625, 0.875, 1.0, 1.0])


@given(
    frames=st.integers(2, 60),
    n=st.integers(1, 6),
    core=st.integers(2, 12),
    blend=st.integers(1, 3),
)
def test_weights_of_all_windows_add_up_to_one(frames, n, core, blend):
    assume(core >= 2 * blend)
    total = np.zeros(frames * n)
    # the last window may be shorter than its blend, and then it is normalised later
    assume(frames % core == 0 or frames % core >= blend)
    for span in windows(range(frames), core, halo=blend):
        weights = np.array(blend_weights(span, n, blend, frames))
        total[span.start * n : span.stop * n] += weights
    assert total == pytest.approx(1.0)


def sizes(plan, factor):
    """Pixels that a network sees at once in the largest window and tile."""
    spans = zip((plan.windows, plan.rows, plan.columns), factor, strict=True)
    return [max(x.stop - x.start for x in found) * n for found, n in spans]


@given(
    cells=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    s=st.integers(1, 25),
    t=st.integers(1, 6),
    frames=st.integers(2, 8),
)
def test_windows_and_tiles_fit(cells, s, t, frames):
    near = Reach(frames, 30, 16)
    plan = make_plan(range(200), cells, (t, s, s), near)
    most = plans.WORKING_SET / near.bytes_per_pixel
    assert np.prod([float(n) for n in sizes(plan, (t, s, s))]) <= most
    assert plan.blend == 1


@given(cells=st.integers(2, 100), s=st.integers(1, 12), t=st.integers(1, 6))
def test_plan_knows_neither_the_record_nor_the_shape_of_its_parts(cells, s, t):
    short, long = (
        make_plan(range(n), (cells, cells), (t, s, s), NETWORK) for n in (10, 5000)
    )
    assert (short.rows, short.columns) == (long.rows, long.columns)
    ends = {w.core_stop for w in long.windows}
    assert {w.core_stop for w in short.windows[:-1]} <= ends
    assert short.length <= long.length


def cost(cells, s, t, near=NETWORK):
    """Pixels computed for each pixel that is kept."""
    plan = make_plan(range(5000), (cells, cells), (t, s, s), near)
    window = plan.windows[5]
    area = [
        sum(computed(x, s, near) for x in spans) / (cells * s)
        for spans in (plan.rows, plan.columns)
    ]
    return (window.stop - window.start) / plan.length * area[0] * area[1]


@pytest.mark.parametrize(
    ("cells", "most"), [(10, 1.5), (20, 1.3), (40, 1.7), (150, 2.1), (400, 2.1)]
)
def test_little_is_computed_twice(cells, most):
    """At (10, 3), from 100 x 100 pixels to 4000 x 4000."""
    assert cost(cells, 10, 3) < most


def test_whole_frames_are_not_cut():
    plan = make_plan(range(60), (900, 900), (3, 10, 10), Reach(3))
    assert len(plan.rows) == len(plan.columns) == 1
    assert plan.length == 6  # as short as windows get


def test_methods_that_look_at_nothing_else_are_cut_into_squares():
    plan = make_plan(range(60), (300, 300), (3, 10, 10), Reach(0, 0))
    height, width = (x[0].core_stop for x in (plan.rows, plan.columns))
    assert plan.blend == 0
    assert 0.5 < height / width < 2
    assert len(plan.rows) < 30


def test_realizations_of_small_windows_are_drawn_together():
    small = make_plan(range(60), (10, 10), (3, 10, 10), NETWORK)
    assert small.group == plans.GROUP
    large = make_plan(range(60), (300, 300), (3, 10, 10), Reach(3))
    assert large.group == 1


def test_pixels_may_be_chosen():
    plan = make_plan(range(99), (90, 90), (1, 4, 4), NETWORK, pixels=500_000)
    assert np.prod(sizes(plan, (1, 4, 4))) <= 500_000


def test_factor_too_large_for_any_tile_is_refused():
    with pytest.raises(PlanError, match=r"40 x 40 cells into tiles with s=900, t=3"):
        make_plan(range(9), (40, 40), (3, 900, 900), NETWORK)
