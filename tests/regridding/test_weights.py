"""Overlap weights as arrays: analytic answers, and what holds for all edges."""

import importlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xstsr.errors import GridError
from xstsr.geometry import polygons
from xstsr.geometry.cells import areas_plane, areas_sphere
from xstsr.regridding.weights import (
    AxisWeights,
    Weights,
    axis_weights,
    cells_in_polygons,
    link,
    means,
    xesmf_weights,
)

ROW = np.array([0.0, 1.0])


def line(source, target, geometry="plane"):
    """Weights of one row, as a dense matrix."""
    edges = (ROW, np.array(source, float)), (ROW, np.array(target, float))
    return axis_weights(*edges, geometry).x.toarray()


# closed form


def test_part_of_a_cell_is_its_weight():
    """Target 1..5 of source cells 0..3, 3..6: two quarters each."""
    expected = [[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]
    np.testing.assert_array_equal(line([0, 3, 6, 9], [1, 5, 9]), expected)


def test_uncovered_part_has_no_weight():
    """Half of the first target cell lies outside."""
    np.testing.assert_array_equal(line([0, 2], [-1, 1, 2]), [[0.5], [1.0]])


def test_directions_of_axes_are_free():
    up = line([0, 3, 6, 9], [1, 5, 9])
    np.testing.assert_array_equal(line([9, 6, 3, 0], [1, 5, 9]), up[:, ::-1])
    np.testing.assert_array_equal(line([0, 3, 6, 9], [9, 5, 1]), up[::-1])
    np.testing.assert_array_equal(line([9, 6, 3, 0], [9, 5, 1]), up[::-1, ::-1])


def test_latitudes_are_weighted_by_their_sines():
    """From 0 to 90 degrees in halves: sin 30 is one half of the area."""
    weights = axis_weights(
        (np.array([0.0, 30.0, 90.0]), ROW), (np.array([0.0, 90.0]), ROW), "sphere"
    )
    np.testing.assert_allclose(weights.y.toarray(), [[0.5, 0.5]], rtol=1e-15)


def test_longitudes_repeat():
    """Cells 0..90..180..270..360; the target's -180..0 is 180..360."""
    found = line([0, 90, 180, 270, 360], [-180, 0, 180], "sphere")
    np.testing.assert_array_equal(found, [[0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0]])


def test_cell_across_the_date_line_takes_from_both_ends():
    found = line([0, 90, 180, 270, 360], [315, 405], "sphere")
    np.testing.assert_array_equal(found, [[0.5, 0, 0, 0.5]])


def test_edges_that_rounding_moved_are_the_same_edges():
    edges = np.arange(11) / 10
    moved = edges + 1e-14 * np.array([1, -1, 0, 1, -1, 0, 1, -1, 0, 1, -1])
    np.testing.assert_array_equal(line(edges, moved), np.eye(10))


def test_missing_cells_are_left_out_of_the_mean():
    """Of three quarters known the mean is theirs; of one quarter there is none."""
    weights = axis_weights((ROW, np.arange(9.0)), (ROW, np.array([0.0, 4, 8])), "plane")
    field = np.array([[1.0, 2.0, 6.0, np.nan, 5.0, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(means(weights, field, 0.5), [[3.0, np.nan]])
    np.testing.assert_array_equal(means(weights, field, 0.25), [[3.0, 5.0]])
    np.testing.assert_array_equal(means(weights, field, 0.0), [[3.0, 5.0]])
    np.testing.assert_array_equal(means(weights, field, 0.76), [[np.nan, np.nan]])


def test_area_outside_the_source_counts_as_missing():
    weights = axis_weights(
        (ROW, np.array([0.0, 1])), (ROW, np.array([0.4, 1.4])), "plane"
    )
    field = np.array([[7.0]])
    np.testing.assert_allclose(means(weights, field, 0.5), [[7.0]], rtol=1e-15)
    np.testing.assert_array_equal(means(weights, field, 0.7), [[np.nan]])


def test_means_keep_leading_dimensions_and_dtype():
    weights = axis_weights((ROW, np.arange(5.0)), (ROW, np.array([0.0, 2, 4])), "plane")
    field = np.arange(24, dtype="float32").reshape(2, 3, 1, 4)
    made = means(weights, field, 0.5)
    assert (made.shape, made.dtype) == ((2, 3, 1, 2), np.float32)
    np.testing.assert_array_equal(made[..., 0], field[..., :2].mean(axis=-1))


def test_axis_weights_equal_their_full_matrix():
    rng = np.random.default_rng(0)
    y, x = np.sort(rng.uniform(-60, 60, 7)), np.sort(rng.uniform(0, 50, 9))
    target = np.linspace(y[0] - 5, y[-1], 4), np.linspace(x[0], x[-1] + 9, 6)
    separate = axis_weights((y, x), target, "sphere")
    field = rng.random((2, 6, 8))
    field[1, 2:4, 3] = np.nan
    whole = separate.full()
    assert isinstance(separate, AxisWeights)
    assert isinstance(whole, Weights)
    assert whole.full() is whole
    assert whole.source_shape == (6, 8)
    assert whole.target_shape == separate.target_shape == (3, 5)
    np.testing.assert_allclose(
        means(separate, field, 0.3), means(whole, field, 0.3), rtol=1e-13
    )
    np.testing.assert_allclose(separate.covered, whole.covered, rtol=1e-13)


def test_grids_apart_are_refused():
    with pytest.raises(
        GridError, match=r"no area in common\. Along x the source spans 0"
    ):
        line([0, 1, 2], [5, 6])
    with pytest.raises(GridError, match=r"Along y .* target 70 to 80"):
        axis_weights((ROW, ROW), (np.array([70.0, 80.0]), ROW), "sphere")


# properties


@st.composite
def edges(draw, low=-80.0, high=80.0, most=12):
    """Strictly monotone edges of unequal cells, in either direction."""
    widths = draw(
        hnp.arrays(float, st.integers(1, most), elements=st.floats(0.05, 1.0))
    )
    start = draw(st.floats(0.0, 0.3))
    stop = draw(st.floats(0.5, 1.0))
    share = np.concatenate([[0.0], np.cumsum(widths)])
    share = start + (stop - start) * share / share[-1]
    found = low + (high - low) * share
    return found[::-1].copy() if draw(st.booleans()) else found


def cell_areas(y, x, geometry):
    return areas_sphere(y, x) if geometry == "sphere" else areas_plane(y, x)


@given(st.data(), st.sampled_from(["sphere", "plane"]))
def test_constants_and_integrals_are_kept(data, geometry):
    source = data.draw(edges()), data.draw(edges(-170, 170))
    target = data.draw(edges()), data.draw(edges(-170, 170))
    try:
        weights = axis_weights(source, target, geometry)
    except GridError:
        return
    shape = source[0].size - 1, source[1].size - 1
    made = means(weights, np.full(shape, 3.7), 0.0)
    np.testing.assert_allclose(made[~np.isnan(made)], 3.7, rtol=1e-14)
    # what lies in the region of both is the same, counted on either grid
    field = np.random.default_rng(1).random(shape)
    inside = np.nan_to_num(means(weights, field, 0.0)) * weights.covered
    received = (inside * cell_areas(*target, geometry)).sum()
    back = axis_weights(target, source, geometry).covered
    assert received == pytest.approx(
        (field * back * cell_areas(*source, geometry)).sum(), rel=1e-12
    )


@given(edges(), edges(-180, 180), st.integers(-720, 720))
def test_turning_the_globe_changes_nothing(y, x, turn):
    """A ring of cells, begun at another longitude, in another range."""
    ring = np.linspace(0.0, 360.0, 25)
    field = np.random.default_rng(2).random((4, 24))
    source = np.linspace(-90, 90, 5)
    there = means(axis_weights((source, ring), (y, x), "sphere"), field, 0.0)
    turned = means(
        axis_weights((source, ring + turn), (y, x + turn), "sphere"), field, 0.0
    )
    np.testing.assert_allclose(there, turned, rtol=1e-9)
    moved = means(
        axis_weights((source, ring - 180), (y, x), "sphere"), np.roll(field, 12, 1), 0.0
    )
    np.testing.assert_allclose(there, moved, rtol=1e-12)


@given(st.data())
def test_means_lie_between_the_least_and_the_greatest(data):
    source = data.draw(edges()), data.draw(edges())
    target = data.draw(edges()), data.draw(edges())
    shape = source[0].size - 1, source[1].size - 1
    field = data.draw(hnp.arrays(float, shape, elements=st.floats(-1e3, 1e3)))
    try:
        made = means(axis_weights(source, target, "plane"), field, 0.0)
    except GridError:
        return
    known = made[~np.isnan(made)]
    assert np.all(known >= field.min() - 1e-9)
    assert np.all(known <= field.max() + 1e-9)


# polygons


def star(rng, corners, u, v, size):
    """A star-shaped polygon, convex or not, round a point."""
    angle = (np.arange(corners) + rng.uniform(0, 0.9, corners)) * 2 * np.pi / corners
    radius = rng.uniform(0.2, 1.0, corners) * size
    return u + radius * np.cos(angle), v + radius * np.sin(angle)


def test_areas_inside_cells_equal_those_of_shapely():
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    rng = np.random.default_rng(0)
    u_edges, v_edges = np.sort(rng.uniform(0, 10, 12)), np.sort(rng.uniform(-3, 5, 9))
    stars = [star(rng, 7, *rng.uniform(-2, 10, 2), 4.0) for _ in range(120)]
    assert all(shapely.Polygon(np.transpose(s)).is_valid for s in stars)
    u, v = (np.stack(a) for a in zip(*stars, strict=True))
    u[::2], v[::2] = u[::2, ::-1], v[::2, ::-1]  # either way round
    polygon, cell, area = polygons.shared_areas(u, v, u_edges, v_edges)
    found = np.zeros((len(u), 8 * 11))
    np.add.at(found, (polygon, cell), area)
    boxes = [
        shapely.box(u_edges[i], v_edges[j], u_edges[i + 1], v_edges[j + 1])
        for j in range(8)
        for i in range(11)
    ]
    for k, (a, b) in enumerate(zip(u, v, strict=True)):
        whole = shapely.Polygon(np.stack([a, b], axis=1))
        expected = shapely.area(shapely.intersection(whole, boxes))
        np.testing.assert_allclose(found[k], expected, atol=1e-12)
    own = shapely.area([shapely.Polygon(np.transpose(s)) for s in stars])
    np.testing.assert_allclose(polygons.polygon_areas(u, v), own, rtol=1e-12)


@given(st.integers(0, 10_000), st.integers(3, 9))
def test_areas_inside_a_covering_grid_add_up(seed, corners):
    rng = np.random.default_rng(seed)
    u, v = star(rng, corners, 5.0, 5.0, 4.9)
    lines = np.concatenate([[0.0], np.sort(rng.uniform(0, 10, 6)), [10.0]])
    _, _, area = polygons.shared_areas(u[None], v[None], lines, lines)
    assert area.sum() == pytest.approx(polygons.polygon_areas(u[None], v[None])[0])


def test_sides_along_grid_lines_are_counted_once():
    box = np.array([[2.0, 5.0, 5.0, 2.0]]), np.array([[1.0, 1.0, 3.0, 3.0]])
    lines = np.arange(8.0)
    _, cell, area = polygons.shared_areas(*box, lines, lines)
    np.testing.assert_array_equal(area, 1.0)
    assert sorted(cell.tolist()) == [9, 10, 11, 16, 17, 18]


def test_polygon_without_a_place_shares_nothing():
    u, v = np.array([[0.0, np.nan, 1.0]]), np.array([[0.0, 0.0, 1.0]])
    lines = np.array([0.0, 1.0])
    assert polygons.shared_areas(u, v, lines, lines)[2].size == 0
    assert cells_in_polygons(u, v, lines, lines, "sphere")[2].size == 0


def test_unwrapped_polygons_keep_their_areas():
    """A box across the date line, and a cap round the pole in four corners."""
    u = np.array([[170.0, 190.0, 190.0, 170.0], [0.0, 90.0, 180.0, 270.0]])
    v = np.array([[0.0, 0.0, 0.5, 0.5], [0.9, 0.9, 0.9, 0.9]])
    wrapped = (u + 180) % 360 - 180
    areas = polygons.polygon_areas(*polygons.unwrap(wrapped, v))
    np.testing.assert_allclose(areas, [20 * 0.5, 360 * 0.1], rtol=1e-12)
    south = polygons.polygon_areas(*polygons.unwrap(wrapped, -v))
    np.testing.assert_allclose(south, areas, rtol=1e-12)


def test_boxes_as_polygons_have_the_weights_of_axes():
    rng = np.random.default_rng(3)
    y, x = np.sort(rng.uniform(20, 70, 6)), np.sort(rng.uniform(-30, 40, 7))
    target = np.linspace(70, 15, 5), np.linspace(-40, 45, 8)
    row, column = np.divmod(np.arange(30), 6)
    lat, lon = polygons.boxes(
        np.stack([y[row], y[row + 1]], 1), np.stack([x[column], x[column + 1]], 1), 3
    )
    u, v = polygons.unwrap(lon % 360, np.sin(np.deg2rad(lat)))
    polygon, cell, area = cells_in_polygons(u, v, *target, "sphere")
    whole = np.rad2deg(areas_sphere(*target)).ravel()
    found = link(area / whole[cell], cell, polygon, (28, 30)).toarray()
    expected = axis_weights((y, x), target, "sphere").full().matrix.toarray()
    np.testing.assert_allclose(found, expected, atol=1e-13)


# outlines


def test_corners_lie_half_way_between_centres():
    lat, lon = np.meshgrid([0.0, 1.0, 2.0], [10.0, 11.0], indexing="ij")
    corner_lat, corner_lon = polygons.corners_from_centers(lat, lon)
    np.testing.assert_allclose(corner_lat[1, 0], [0.5, 0.5, 1.5, 1.5], atol=1e-3)
    np.testing.assert_allclose(corner_lon[1, 0], [9.5, 10.5, 10.5, 9.5], atol=1e-3)
    shared = polygons.corners_of_grid(corner_lat)
    assert shared.shape == (4, 3)
    np.testing.assert_allclose(shared[:, 0], [-0.5, 0.5, 1.5, 2.5], atol=1e-3)


def test_one_row_has_no_corners():
    with pytest.raises(GridError, match=r"shape \(1, 5\): each axis needs two cells"):
        polygons.corners_from_centers(np.zeros((1, 5)), np.zeros((1, 5)))


def test_corners_that_do_not_meet_are_refused():
    corners = np.zeros((2, 2, 4))
    corners[1, 0, 1] = 0.5
    with pytest.raises(
        GridError, match=r"those of cell \(1, 0\).*are 0.5 degrees apart"
    ):
        polygons.corners_of_grid(corners)


def test_sides_of_curvilinear_cells_are_great_circles():
    """Half-way between 10 and 50 E on 60 N the great circle is further north."""
    lat, lon = np.array([[60.0, 60, 70, 70]]), np.array([[10.0, 50, 50, 10]])
    lats, lons = polygons.great_circles(lat, lon, 2)
    np.testing.assert_allclose(
        lats[0, 1],
        np.rad2deg(np.arctan(np.tan(np.deg2rad(60)) / np.cos(np.deg2rad(20)))),
    )
    np.testing.assert_allclose(lons[0, 1], 30.0)


def test_region_tells_what_may_lie_in_it():
    region = np.array([50.0, 55.0]), np.array([5.0, 15.0])
    places = np.array([52.0, -52.0, 52.0]), np.array([10.0, 190.0, 190.0])
    np.testing.assert_array_equal(polygons.near(*places, *region), [True, False, False])
    ring = np.zeros(36), np.arange(0.0, 360, 10)
    assert polygons.circle(*ring)[2] == 180.0
    assert polygons.near(*places, *ring).all()


# xesmf


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'ESMF'"),
        KeyError("ESMFMKFILE"),
        OSError("libesmf.so"),
    ],
)
def test_broken_esmpy_is_explained(monkeypatch, error):
    """What importing raised where esmpy was missing, moved or half installed."""

    def fail(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(
        GridError, match=r"conda install -c conda-forge xesmf esmpy"
    ) as caught:
        xesmf_weights({}, {})
    assert type(error).__name__ in str(caught.value)
    assert "weights=" in str(caught.value)


def test_missing_esmpy_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "esmpy", None)
    with pytest.raises(GridError, match=r"cannot be imported \(ModuleNotFoundError"):
        xesmf_weights({}, {})
