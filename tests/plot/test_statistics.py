"""Figures about ensembles show the numbers they are made of, and can be read."""

import numpy as np
import pytest

from tests.strategies import make
from xstsr.errors import DataError, GridError, UnitError
from xstsr.plot import PlotError, animate, rank_histogram, receipt, spectra, spread
from xstsr.plot.style import symmetric_scale
from xstsr.verification import diagnostics
from xstsr.verification.spectra import spatial_spectrum, temporal_spectrum

pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")


def rain(shape=(6, 12, 16), seed=0, **choices):
    values = np.random.default_rng(seed).gamma(0.5, 4.0, shape)
    return make(values, **({"grid": "metres"} | choices))


@pytest.fixture(scope="module")
def trial():
    """A truth, its block means, and an ensemble made of them."""
    truth = rain()
    coarse = truth.stsr.coarsen(4, 2)
    return truth, coarse, coarse.stsr.upscale(4, 2, method="rainfarm", realizations=5)


def lines(axes):
    return {
        line.get_label(): line
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def notes(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


# diagnostics: closed forms


def test_spectrum_of_a_wave_peaks_at_its_length_and_holds_its_power():
    # amplitude 2, wavelength 16 km: variance 2, all of it in one ring of the plane
    x = np.arange(128) * 2.0
    wave = 2 * np.sin(2 * np.pi * x / 16.0) * np.ones((3, 128, 1))
    wavelength, power = spatial_spectrum(wave, spacing=2.0)
    assert wavelength[power.argmax()] == pytest.approx(16.0)
    # density times the cells of the spectrum, rings of 2 pi k, is the variance
    rings = 2 * np.pi * np.arange(1, power.size + 1)
    assert (power * rings).sum() / 256**2 == pytest.approx(2.0, rel=0.1)


def test_spectrum_in_time_peaks_at_the_period():
    t = np.arange(48) * 10.0
    series = np.sin(2 * np.pi * t / 60.0)[:, None, None] * np.ones((48, 3, 3))
    period, power = temporal_spectrum(series, step=10.0)
    assert period[power.argmax()] == pytest.approx(60.0)


def test_exceedance_finds_quantiles_and_no_more_than_pixels_tell():
    values = np.arange(1000.0).reshape(10, 10, 10)
    found = diagnostics.exceedance(values)
    half = found[0]
    assert half == pytest.approx(499.5)
    assert np.isnan(found[diagnostics.PROBABILITIES < 1e-3]).all()
    assert np.isnan(diagnostics.exceedance(np.full((2, 2), np.nan))).all()


def test_rank_histogram_of_exchangeable_fields_is_flat_where_it_rains():
    draw = np.random.default_rng(1).gamma(0.2, 2.0, (9, 5, 40, 40))
    shares = diagnostics.rank_histogram(draw[1:], draw[0], 0.1)
    np.testing.assert_allclose(shares, 1 / 9, rtol=0.1)


def test_dry_pixels_do_not_flatten_the_ranks():
    # where it rains the truth is above all realizations; the rest is dry
    truth, ensemble = np.zeros((1, 10, 10)), np.zeros((4, 1, 10, 10))
    truth[0, :2] = 5.0
    ensemble[:, 0, :2] = 1.0
    shares = diagnostics.rank_histogram(ensemble, truth, 0.1)
    np.testing.assert_array_equal(shares, [0, 0, 0, 0, 1])
    assert diagnostics.rank_histogram(ensemble, truth, None)[0] > 0.1


def test_ranks_of_dry_fields_are_unknown():
    shares = diagnostics.rank_histogram(
        np.zeros((3, 2, 4, 4)), np.zeros((2, 4, 4)), 0.1
    )
    assert np.isnan(shares).all()


def test_spread_matches_error_of_a_reliable_ensemble():
    rng = np.random.default_rng(2)
    width = np.geomspace(0.1, 10, 60)[:, None] * np.ones((60, 60))
    draw = rng.normal(size=(9, 8, 60, 60)) * width
    found, error = diagnostics.spread_error(draw[1:], draw[0], bins=5)
    np.testing.assert_allclose(error / found, 1.0, atol=0.25)
    assert found[-1] > 5 * found[0]


def test_spread_of_one_realization_is_an_error():
    with pytest.raises(DataError, match=r"spread of 1 realization.*realizations=8"):
        diagnostics.spread_error(np.zeros((1, 2, 4, 4)), np.zeros((2, 4, 4)))


# figures


def test_spectra_draw_every_source_on_its_own_grid(trial):
    truth, coarse, fine = trial
    figure = spectra(fine, coarse, truth)
    space, time = figure.axes
    drawn = lines(space)
    assert set(drawn) == {"fine", "coarse", "truth"}
    # two pixels of a kilometre; and the shorter side, of three cells of four
    assert drawn["fine"].get_xdata().min() == pytest.approx(2.0)
    assert drawn["coarse"].get_xdata().min() == pytest.approx(12.0)
    expected = spatial_spectrum(truth.values, 1.0)[1]
    np.testing.assert_allclose(drawn["truth"].get_ydata(), expected, rtol=1e-3)
    assert "mm h-1" in space.get_ylabel()
    assert time.get_xlabel() == "period"


def test_spectra_of_short_records_say_what_is_missing(trial):
    figure = spectra(trial[2][:, :3])
    assert "needs four steps or more" in notes(figure)


def test_rank_histogram_draws_the_shares(trial):
    truth, _, fine = trial
    axes = rank_histogram(fine, truth).axes[0]
    expected = diagnostics.rank_histogram(fine.values, truth.values, 0.1)
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, 6 * expected, rtol=1e-6)


def test_spread_draws_the_standard_deviation(trial):
    truth, _, fine = trial
    mesh = spread(fine, truth).axes[0].collections[0]
    expected = np.sqrt(fine.var("realization", ddof=1).mean("time"))
    np.testing.assert_allclose(mesh.get_array(), expected, rtol=1e-4)


def test_spread_without_truth_follows_the_steps(trial):
    axes = spread(trial[2]).axes[1]
    assert set(lines(axes)) == {"mean of the area", "spread, a pixel's"}
    assert lines(axes)["mean of the area"].get_ydata() == pytest.approx(
        trial[2].mean(("realization", "y", "x")).values, rel=1e-5
    )
    assert axes.get_xlabel() == "hours since 2001-01-01 00:00"


def test_receipt_shows_the_cell_that_lost_water(trial):
    _, coarse, fine = trial
    spoiled = fine.copy()
    spoiled[:, 2:4, 4:8, 8:12] *= 0.5  # one coarse cell, all realizations
    figure = receipt(spoiled, coarse)
    drawn = figure.axes[0].collections[0].get_array()
    assert np.unravel_index(np.abs(drawn).argmax(), drawn.shape) == (1, 2)
    # hourly rates over steps of two hours
    assert drawn[1, 2] == pytest.approx(-float(coarse[1, 1, 2]), rel=1e-4)
    assert "mm in a step" in figure.axes[2].get_ylabel()


def test_receipt_of_an_exact_field_says_so():
    coarse = make(np.full((2, 3, 3), 1.0), grid="metres")
    figure = receipt(coarse, coarse)
    assert "all 18 are exactly zero" in notes(figure)


def test_gains_and_losses_have_equal_colours():
    scale = symmetric_scale(np.array([-3.0, 1.0, np.nan]), "mm")
    assert (scale.norm.vmin, scale.norm.vmax) == (-3.0, 3.0)
    dry = symmetric_scale(np.zeros(3), "mm")
    assert dry.norm.vmax > 0


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_figures_of_nothing_are_drawn(tmp_path, value):
    coarse = make(np.full((4, 6, 8), value), grid="metres")
    fine = coarse.stsr.upscale(2, 2, method="rainfarm", realizations=3)
    spectra(fine, coarse, path=tmp_path / "spectra.png")
    spread(fine, path=tmp_path / "spread.png")
    receipt(fine, coarse, path=tmp_path / "receipt.svg")
    if value == 0:
        figure = rank_histogram(fine, fine[0], path=tmp_path / "ranks.pdf")
        assert "dry throughout" in notes(figure)
    assert len(list(tmp_path.iterdir())) == (4 if value == 0 else 3)


def test_spread_needs_two_realizations(trial):
    truth, _, fine = trial
    with pytest.raises(DataError, match="spread of 1 realization of 'pr'"):
        spread(fine[0], truth)
    with pytest.raises(DataError, match="realizations=8"):
        rank_histogram(fine[:1], truth)


def test_truth_on_another_grid_is_an_error(trial):
    _, coarse, fine = trial
    with pytest.raises(DataError, match=r"\(6, 12, 16\).*\(3, 3, 4\).*coarsen"):
        rank_histogram(fine, coarse)


def test_truth_of_another_quantity_is_an_error(trial):
    with pytest.raises(UnitError, match=r"'truth'.*'K'"):
        rank_histogram(trial[2], make(kind="state", shape=(6, 12, 16), grid="metres"))


def test_receipt_of_grids_that_do_not_match_is_an_error(trial):
    with pytest.raises(GridError, match="not whole multiples"):
        receipt(trial[2], rain((3, 5, 7)))


# moving pictures


def test_gif_has_a_frame_for_each_step(tmp_path, trial):
    from PIL import Image

    truth, coarse, fine = trial
    path = animate(fine[:, :3], tmp_path / "rain.gif", coarse=coarse, truth=truth)
    with Image.open(path) as image:
        assert image.n_frames == 3
        assert image.info["duration"] == 200
        frames = []
        for index in range(3):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
    assert np.abs(frames[0] - frames[2]).max() > 100
    # what does not move stays where it is: the frame's lower left corner
    np.testing.assert_array_equal(frames[0][-40:, :40], frames[2][-40:, :40])


def test_colours_of_a_gif_are_those_of_the_scale(tmp_path):
    from PIL import Image

    from xstsr.plot.style import RAIN_COLOURS

    values = np.zeros((2, 8, 8))
    values[1] = 100.0  # appears in the second frame only
    path = animate(make(values, grid="metres"), tmp_path / "rain.gif")
    with Image.open(path) as image:
        image.seek(1)
        pixels = np.asarray(image.convert("RGB"))
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 3]
    assert "#{:02x}{:02x}{:02x}".format(*middle) == RAIN_COLOURS[-1]


def test_mp4_is_written_without_a_system_codec(tmp_path, trial, monkeypatch):
    pytest.importorskip("imageio_ffmpeg", reason="the extra 'video' is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg but the packaged one
    path = animate(trial[2][:, :3], tmp_path / "rain.mp4")
    assert path.read_bytes()[4:8] == b"ftyp"


def test_long_records_are_thinned_in_time(tmp_path, monkeypatch):
    from PIL import Image

    from xstsr.plot import animation

    monkeypatch.setattr(animation, "MOST_FRAMES", 4)
    path = animate(rain((9, 4, 4)), tmp_path / "rain.gif")
    with Image.open(path) as image:
        assert image.n_frames == 3


def test_animation_to_another_format_is_refused(tmp_path, trial):
    with pytest.raises(DataError, match=r"'\.avi'.*\.gif or an \.mp4"):
        animate(trial[2], tmp_path / "rain.avi")


@pytest.mark.parametrize("choice", [{"fps": 0}, {"realizations": 0}])
def test_animation_of_nothing_is_refused(tmp_path, trial, choice):
    with pytest.raises(DataError, match=r"must be positive. Try realizations=2"):
        animate(trial[2], tmp_path / "rain.gif", **choice)


def test_mp4_without_ffmpeg_names_the_extra(tmp_path, trial, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(PlotError, match=r"pip install 'xstsr\[video\]'.*\.gif"):
        animate(trial[2], tmp_path / "rain.mp4")


def test_animation_to_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlotError, match="Choose a folder"):
        animate(rain((2, 4, 4)), tmp_path / "file" / "rain.gif")
