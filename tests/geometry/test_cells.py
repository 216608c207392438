"""Tests for xstsr.geometry.cells."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from xstsr.errors import GridError
from xstsr.geometry.cells import (
    EARTH_RADIUS_M,
    LABELS,
    areas_m2,
    areas_plane,
    areas_sphere,
    centers,
    coarsen_2d,
    edges_from_centers,
    edges_from_labels,
    edges_from_parts,
    labels_from_edges,
    refine_2d,
    refine_edges,
    side_lengths,
    spacing_km,
    tidy,
)

HOUR = 3_600_000_000


def test_refine_edges_of_one_hour_in_seven_telescopes():
    fine = refine_edges(np.array([0, HOUR]), 7)
    # 3.6e9 us / 7 = 514285714.28..., so steps are 514285714 or one more
    assert fine[0] == 0
    assert fine[-1] == HOUR
    assert set(np.diff(fine)) == {514_285_714, 514_285_715}


def test_refine_edges_by_one_is_the_identity():
    edges = np.array([50.125, 49.875, 49.6])
    assert np.array_equal(refine_edges(edges, 1), edges)


@given(
    hnp.arrays("int64", st.integers(2, 6), elements=st.integers(1, 10**12)),
    st.integers(1, 30),
)
def test_refine_edges_keeps_integers_exactly(widths, n):
    edges = np.cumsum(widths)
    fine = refine_edges(edges, n)
    assert fine.dtype == np.int64
    assert np.array_equal(fine[::n], edges)
    assert np.ptp(np.diff(fine).reshape(-1, n), axis=1).max() <= 1


@given(
    hnp.arrays("float64", st.integers(2, 6), elements=st.floats(1e-3, 1e4)),
    st.integers(1, 30),
    st.sampled_from((1, -1)),
)
def test_refine_edges_keeps_float_edges_bitwise(widths, n, sign):
    edges = sign * np.cumsum(widths)
    fine = refine_edges(edges, n)
    assert np.array_equal(fine[::n], edges)
    assert np.all(np.sign(np.diff(fine)) == sign)


def test_labels_from_edges_follow_convention():
    edges = np.array([0, 10, 30])
    assert labels_from_edges(edges, "left").tolist() == [0, 10]
    assert labels_from_edges(edges, "mid").tolist() == [5, 20]
    assert labels_from_edges(edges, "right").tolist() == [10, 30]
    assert centers(np.array([0.0, 1.0])).tolist() == [0.5]


@pytest.mark.parametrize("label", LABELS)
def test_edges_from_labels_inverts_labels_of_equal_cells(label):
    edges = np.arange(5) * HOUR
    assert np.array_equal(
        edges_from_labels(labels_from_edges(edges, label), label), edges
    )


def test_edges_from_centers_reach_half_a_step_out():
    edges = edges_from_centers(np.array([50.0, 49.0, 47.0]))
    assert edges.tolist() == [50.5, 49.5, 48.0, 46.0]


def test_edges_from_one_label_raise():
    with pytest.raises(GridError, match=r"from 1 label\(s\).*Pass bounds"):
        edges_from_labels(np.array([1.0]), "mid")


@pytest.mark.parametrize("s", [2, 3, 10])
@pytest.mark.parametrize(
    "edges", [[0, 1, 2, 3], [0, 1, 10, 12, 12.5], [90, 88, 84, 80]]
)
def test_edges_of_equal_parts_are_found_again(edges, s):
    fine = refine_edges(np.array(edges, float), s)
    found = edges_from_parts(centers(fine), noise=1e-12)
    np.testing.assert_allclose(found, fine, atol=1e-13)


def test_edges_of_unequal_labels_are_no_parts():
    # 50 and 49 could be two halves of a cell, 47 and 40 of another: they do not meet
    assert edges_from_parts(np.array([50.0, 49.0, 47.0, 40.0]), 1e-9) is None
    assert edges_from_parts(np.array([50.0, 49.0, 47.0]), 1e-9) is None
    gaussian = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(64)[0]))
    assert edges_from_parts(gaussian, 4 * np.spacing(np.float32(90))) is None


def test_edges_of_labels_in_float32_are_even():
    labels = (350 + np.arange(6) / 12).astype("f4").astype(float)
    edges = edges_from_parts(labels, 4 * float(np.spacing(np.float32(350))))
    np.testing.assert_allclose(np.diff(edges), 1 / 12, rtol=1e-4)
    assert np.ptp(np.diff(edges)) < 1e-12


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1 + 0.2, 0.6 - 0.1], [0.3, 0.5]),
        ([49.99999999999999, 1e-15], [50.0, 0.0]),
        ([1 / 3, 0.5], [1 / 3, 0.5]),
        ([1234567.0, 2.0], [1234567.0, 2.0]),
    ],
)
def test_tidy_rounds_all_values_or_none(values, expected):
    assert tidy(np.array(values), 1e-13).tolist() == expected


def test_tidy_takes_no_decimals_from_noise():
    values = np.array([0.12, 0.41])
    assert tidy(values, 0.01).tolist() == values.tolist()


def test_side_lengths_are_free_of_rounding():
    """At 359 degrees edges are rounded to 6e-14, a 3e-11 of 0.002 degrees."""
    x = 359 + 0.002 * np.arange(200)
    _, widths = side_lengths(np.array([0.0, 1.0]), x, "plane")
    assert np.ptp(widths) == 0
    np.testing.assert_allclose(widths, 0.002, rtol=1e-12)
    assert np.ptp(np.diff(x)) > 1e-14


def test_side_lengths_keep_what_differs():
    y = np.array([0.0, 1.0, 2.0, 4.0, 6.0, 6.5])
    heights, _ = side_lengths(y, y, "plane")
    assert heights.tolist() == [1, 1, 2, 2, 0.5]


def test_areas_of_the_globe_sum_to_four_pi():
    y, x = np.linspace(90, -90, 19), np.linspace(0, 360, 37)
    areas = areas_sphere(y, x)
    assert areas.shape == (18, 36)
    assert np.all(areas > 0)
    assert areas.sum() == pytest.approx(4 * np.pi, rel=1e-14)


@given(st.integers(1, 12))
def test_fine_areas_sum_to_coarse_area(n):
    y, x = np.array([60.0, 58.0, 55.0]), np.array([5.0, 6.0, 8.0])
    fine = areas_sphere(refine_edges(y, n), refine_edges(x, n))
    blocks = fine.reshape(2, n, 2, n).sum(axis=(1, 3))
    np.testing.assert_allclose(blocks, areas_sphere(y, x), rtol=1e-13)


def test_areas_in_the_plane_are_products_of_sides():
    y, x = np.array([3.0, 1.0, 0.0]), np.array([0.0, 5.0])
    assert areas_plane(y, x).tolist() == [[10.0], [5.0]]
    assert areas_m2(y, x, "plane", 1000.0).tolist() == [[1e7], [5e6]]


def test_area_in_m2_of_a_hemisphere():
    area = areas_m2(np.array([0.0, 90.0]), np.array([0.0, 360.0]), "sphere")
    assert area.item() == pytest.approx(2 * np.pi * EARTH_RADIUS_M**2)


def test_spacing_is_the_root_of_a_cell():
    # a 1 degree cell at the equator is 111.2 km wide and as high
    equator = np.array([-0.5, 0.5])
    assert spacing_km(equator, equator) == pytest.approx(111.19, abs=0.02)
    # at 60 degrees it is half as wide: 111.2 * sqrt(1/2) = 78.6
    assert spacing_km(equator + 60, equator) == pytest.approx(78.63, abs=0.02)
    assert spacing_km(np.arange(3.0), np.arange(3.0), "plane", 1000.0) == pytest.approx(
        1.0
    )


def test_refine_2d_of_a_regular_grid_is_regular():
    lat, lon = np.meshgrid([1.0, 0.0, -1.0], [10.0, 11.0, 12.0], indexing="ij")
    fine_lat, fine_lon = refine_2d(lat, lon, 2)
    assert fine_lat.shape == (6, 6)
    # chords instead of arcs shift a point by less than 1e-4 degrees here
    np.testing.assert_allclose(
        fine_lat[:, 2], [1.25, 0.75, 0.25, -0.25, -0.75, -1.25], atol=1e-3
    )
    np.testing.assert_allclose(
        fine_lon[2], [9.75, 10.25, 10.75, 11.25, 11.75, 12.25], atol=1e-3
    )


def test_refine_2d_with_odd_factor_keeps_centres():
    lat, lon = np.meshgrid([70.0, 69.5, 69.0], [10.0, 10.5], indexing="ij")
    fine_lat, fine_lon = refine_2d(lat, lon, 3)
    np.testing.assert_allclose(fine_lat[1::3, 1::3], lat, atol=1e-12)
    np.testing.assert_allclose(fine_lon[1::3, 1::3], lon, atol=1e-12)


@pytest.mark.parametrize("west", [179.0, 359.0])
def test_refine_2d_crosses_the_date_line_and_greenwich(west):
    lon_row = west + np.arange(3.0)
    wrapped = (lon_row + 180) % 360 - 180 if west < 180 else lon_row % 360
    lat, lon = np.meshgrid([1.0, 0.0], wrapped, indexing="ij")
    _, fine = refine_2d(lat, lon, 2)
    expected = west + np.arange(6) * 0.5 - 0.25
    np.testing.assert_allclose((fine[1] - expected + 180) % 360, 180, atol=1e-3)
    assert (fine.min() < 0) == (west < 180)


def test_coarsen_2d_inverts_refine_2d():
    lat, lon = np.meshgrid([70.0, 69.75, 69.5], [179.5, -180.0], indexing="ij")
    lat_back, lon_back = coarsen_2d(*refine_2d(lat, lon, 4), 4)
    # the mean of points on an arc lies inside it, by about (0.25 degrees)^2 / 8
    np.testing.assert_allclose(lat_back, lat, atol=1e-3)
    np.testing.assert_allclose((lon_back - lon + 180) % 360, 180, atol=1e-3)


def test_refine_2d_of_a_single_row_raises():
    with pytest.raises(GridError, match=r"shape \(1, 3\): each axis needs two cells"):
        refine_2d(np.zeros((1, 3)), np.zeros((1, 3)), 2)
