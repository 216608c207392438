"""The trust report: it tells the scores it was given, and can be read anywhere."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from tests.models import write_tiny_model
from tests.strategies import make
from xstsr.cli.main import main
from xstsr.errors import DataError
from xstsr.evaluation import report
from xstsr.evaluation.protocol import Protocol, score_methods
from xstsr.plot import PlotError

pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")

METHODS = ("rainfarm", "linear", "nearest")


def event(frames=8, side=24, seed=0, **choices):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(frames, side, side)).cumsum(1).cumsum(2)
    return make(np.maximum(smooth, 0), **({"grid": "metres"} | choices))


@pytest.fixture(scope="module")
def judged():
    return event().stsr.evaluate(4, 2, realizations=4, methods=METHODS)


@pytest.fixture(scope="module")
def page(judged, tmp_path_factory):
    return judged.to_html(tmp_path_factory.mktemp("page") / "report.html")


class Reader(HTMLParser):
    """Collect what a browser would show, and what it would fetch."""

    def __init__(self):
        super().__init__()
        self.text, self.sources, self.open, self.alts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[key] for key in ("src", "href") if key in attrs]
        self.alts += [attrs["alt"]] if tag == "img" else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


# what is evaluated


def test_scores_are_those_of_the_evaluation(judged):
    protocol = Protocol(realizations=4, methods=METHODS)
    expected = score_methods(event(), 4, 2, protocol=protocol)
    xr.testing.assert_identical(judged.scores, expected)
    xr.testing.assert_identical(judged["fair_crps"], expected.fair_crps)


def test_text_tells_verdict_checks_and_scores(judged):
    text = repr(judged)
    assert judged.verdict.sentence in text
    crps = float(judged.scores.fair_crps.sel({"method": "rainfarm"}))
    assert f"rainfarm {crps:.3g}" in text
    assert "4 realizations" in text
    assert judged.verdict.headline in judged._repr_html_()


def test_place_is_told_with_units(judged):
    assert judged.where == "s=4, t=2 (4 km to 1 km, 2 h to 1 h)"
    flat = event().stsr.evaluate(4, 1, realizations=2, methods=METHODS)
    assert flat.where == "s=4, t=1 (4 km to 1 km)"


def test_wet_pixels_of_the_truth_are_counted(judged):
    assert judged.seen.pixels == int((event().values >= 0.1).sum())


def test_curves_of_every_source_are_kept(judged):
    curves = judged.seen.curves
    assert set(curves.space) == {"truth", "coarse", *METHODS}
    assert set(curves.exceedance) == {"truth", *METHODS}
    assert curves.ranks.shape == (5,)
    assert curves.ranks.sum() == pytest.approx(1.0)
    assert curves.limits == pytest.approx((8.0, 240.0))


def test_example_is_the_wettest_moment(judged):
    titles = [column.title for column in judged.seen.example]
    assert titles == ["coarse", "mean", "realization 0", "truth"]
    wettest = event().mean(("y", "x")).values.argmax()
    np.testing.assert_allclose(
        judged.seen.example[-1].fields[0], event()[wettest], rtol=1e-6
    )


def test_diffusion_is_judged_where_it_is_among_the_methods(tmp_path):
    model = write_tiny_model(tmp_path)
    found = event().stsr.evaluate(4, 2, realizations=3, model=model)
    assert found.method == "diffusion"
    assert "model 'tiny0'" in found.basis
    assert set(found.scores.method.values) == set(Protocol().methods)


def test_state_is_judged_without_wet_area():
    values = 280 + event(seed=3).values
    state = make(values, kind="state", grid="metres")
    found = state.stsr.evaluate(4, 2, realizations=3, methods=METHODS[1:])
    assert found.method == "linear"
    assert found.seen.pixels == values.size
    assert "wet area" not in {check.name for check in found.verdict.checks}
    assert found.seen.curves.units == "K"


def test_daily_rain_is_judged_in_the_units_of_the_scores():
    daily = event(step=86_400_000_000, kind="amount", units="mm")
    found = daily.stsr.evaluate(4, 2, realizations=3, methods=METHODS)
    assert found.seen.curves.units == "mm h-1"


def test_dry_field_gives_no_verdict(tmp_path):
    dry = make(np.zeros((4, 16, 16)), grid="metres")
    found = dry.stsr.evaluate(4, 2, realizations=2, methods=METHODS)
    assert found.verdict.grade == "unknown"
    assert found.to_html(tmp_path / "dry.html").stat().st_size > 10_000


def test_field_too_small_for_the_factor_is_refused():
    with pytest.raises(DataError, match=r"less than two coarse cells.*smaller factors"):
        event(side=6).stsr.evaluate(4, 2, methods=METHODS)


def test_unknown_choice_is_refused():
    with pytest.raises(TypeError, match="members"):
        event().stsr.evaluate(4, 2, members=3)


def test_choices_take_the_place_of_the_protocols():
    protocol = Protocol(realizations=2, methods=METHODS, seed=5)
    found = event().stsr.evaluate(4, 2, protocol=protocol, realizations=3)
    assert (found.protocol.realizations, found.protocol.seed) == (3, 5)
    assert found.seen.curves.ranks.shape == (4,)
    assert "realizations" in inspect.signature(event().stsr.evaluate).parameters


# what is written


def test_page_tells_what_the_evaluation_tells(judged, page):
    reader = read(page)
    text = " ".join(reader.text)
    assert judged.verdict.sentence in text
    assert judged.where in text
    for check in judged.verdict.checks:
        assert check.told in text
    for method in METHODS:
        assert f"{float(judged['fair_crps'].sel({'method': method})):.3g}" in text
    for label, value in judged.seen.receipt:
        assert label in text
        assert value in text


def test_page_needs_no_network_and_no_script(page):
    reader = read(page)
    assert len(reader.sources) == 6
    assert all(s.startswith("data:image/png;base64,") for s in reader.sources)
    assert all(len(alt) > 20 for alt in reader.alts)
    assert "<script" not in page.read_text(encoding="utf-8")


def test_same_evaluation_gives_the_same_page(judged, page, tmp_path):
    again = judged.to_html(tmp_path / "again.html")
    assert again.read_bytes() == page.read_bytes()


def test_names_cannot_break_the_page(tmp_path):
    da = event().assign_attrs(long_name="<script>alert(1)</script> & rain")
    found = da.stsr.evaluate(4, 2, realizations=2, methods=METHODS)
    text = found.to_html(tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; rain" in text


def test_picture_is_written(judged, tmp_path):
    from PIL import Image

    with Image.open(judged.to_png(tmp_path / "report.png")) as image:
        assert image.width == 1680
        assert image.height > image.width


def test_report_of_several_events_links_to_each(tmp_path):
    protocol = Protocol(realizations=2, methods=METHODS, side=12, frames=4, boxes=2)
    events = [("one", event()), ("two", event(seed=1))]
    found = report.evaluate_events(events, [(3, 2)], protocol, str)
    assert found.scores.fair_crps.shape == (2, 1, 3)
    told = [(e.name, e.s, e.t) for e in found.evaluations]
    assert told == [("one", 3, 2), ("two", 3, 2)]
    # an evaluation is the mean of its event's boxes
    own = found.scores.fair_crps.sel({"event": "two", "factor": "3x2"})
    np.testing.assert_array_equal(found.evaluations[1]["fair_crps"], own)
    reader = read(report.write(found.evaluations, tmp_path / "all.html"))
    links = [s for s in reader.sources if s.startswith("#")]
    assert links == ["#sheet0", "#sheet1"]
    assert "of 2 cases" in " ".join(reader.text)


def test_report_to_another_format_is_refused(judged, tmp_path):
    with pytest.raises(DataError, match=r"'\.pdf'. Name an \.html or a \.png"):
        report.write([judged], tmp_path / "report.pdf")


def test_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no evaluations, \[\]"):
        report.write([], tmp_path / "report.html")


def test_report_to_no_folder_is_refused(judged, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/report\.html.*Choose a folder"):
        judged.to_html(tmp_path / "file" / "report.html")


def test_report_without_matplotlib_names_the_extra(judged, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"pip install 'xstsr\[plot\]'"):
        judged.to_html(tmp_path / "report.html")


# the command line


def test_command_writes_reports_and_tells_verdicts(tmp_path):
    path, model = tmp_path / "event.nc", write_tiny_model(tmp_path)
    event().to_dataset(name="pr").to_netcdf(path)
    done = CliRunner().invoke(
        main,
        [
            *("evaluate", str(path), "--model", model, "--factors", "3x2"),
            *("--realizations", "2", "--side", "12", "--frames", "4"),
            *(
                "--report",
                str(tmp_path / "r.html"),
                "--report",
                str(tmp_path / "r.png"),
            ),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "at s=3, t=2 (3 km to 1 km, 2 h to 1 h)" in done.stdout
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "3 km to 1 km" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_command_refuses_a_report_before_the_work(tmp_path):
    path = tmp_path / "event.nc"
    event().to_dataset(name="pr").to_netcdf(path)
    done = CliRunner().invoke(
        main, ["evaluate", str(path), "--report", str(tmp_path / "r.doc")]
    )
    assert done.exit_code == 2
    assert "Name an .html or a .png file" in done.output
    assert "fair CRPS" not in done.output


def test_command_refuses_an_unwritable_report_before_the_work(tmp_path):
    path = tmp_path / "event.nc"
    event().to_dataset(name="pr").to_netcdf(path)
    done = CliRunner().invoke(
        main, ["evaluate", str(path), "--report", str(path / "r.html")]
    )
    assert done.exit_code == 2
    assert "Choose a folder that you may write to" in done.output
    assert "fair CRPS" not in done.output


def test_disk_that_fills_leaves_the_older_report(judged, page, monkeypatch):
    def fail(self, data):
        raise OSError(28, "No space left on device")

    before = page.read_bytes()
    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(DataError, match=r"report\.html.*No space left.*Choose"):
        judged.to_html(page)
    monkeypatch.undo()
    assert page.read_bytes() == before


# in a browser


def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [360, 1400])
def test_page_fits_the_window(page, tmp_path, width):
    """Nothing is wider than the window, and no picture is too small to read."""
    probe = """<script>
    window.onload = () => {
      const wide = document.documentElement.scrollWidth;
      const images = [...document.images].map(i => Math.round(i.width));
      const tables = [...document.querySelectorAll('.scroll')].map(
        b => b.getBoundingClientRect().right <= window.innerWidth);
      document.title = JSON.stringify(
        [window.innerWidth, wide, Math.min(...images), tables.every(x => x)]);
    };
    </script>"""
    # a frame, because a window of the browser itself is never so narrow
    copy = tmp_path / "probe.html"
    text = page.read_text(encoding="utf-8").replace("</head>", probe + "</head>")
    copy.write_text(text, encoding="utf-8")
    outer = tmp_path / "outer.html"
    outer.write_text(
        f"<iframe id=f src=probe.html style='width:{width}px;height:900px;border:0'>"
        "</iframe><script>window.onload = () => setTimeout(() => {document.title ="
        "document.getElementById('f').contentDocument.title}, 300)</script>",
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            browser(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--window-size=1600,1200",
            "--virtual-time-budget=5000",
            "--dump-dom",
            outer.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    found = re.search(r"<title>\[(.*?)\]</title>", done.stdout)
    assert found, done.stdout[:500] + done.stderr[-500:]
    inner, wide, narrowest, fits = found.group(1).split(",")
    assert int(inner) == width
    assert int(wide) <= width
    assert int(narrowest) >= 280
    assert fits == "true"
