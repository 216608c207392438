"""The documentation is true: its code runs, its links lead somewhere, nothing lacks.

``make docs`` builds the pages, with warnings as errors; here every cell of every page
runs as it stands, without Sphinx.
"""

import ast
import importlib
import inspect
import re
import shlex
import warnings
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import xstsr
from tests.models import write_tiny_model

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & {*path.parts}
)
RUN = [page for page in PAGES if "{code-cell}" in page.read_text(encoding="utf-8")]
# what a page needs besides the package
NEEDS = {"comephore": "rioxarray"}


def name_of(page):
    return str(page.relative_to(DOCS).with_suffix(""))


def cells(page):
    """Give the source of every cell of a page that is run when it is built."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```$", text, re.M | re.S)
    return [re.sub(r"\A(:.*\n)+", "", cell) for cell in found]


def show(value):
    """Do what a notebook does with the last value of a cell."""
    for method in ("_repr_png_", "_repr_html_"):
        if hasattr(value, method):
            getattr(value, method)()
            return
    repr(value)


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_page_runs(page, tmp_path, monkeypatch):
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem], reason=f"the page is about {page.stem}")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__page__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in cells(page):
            tree = ast.parse(source, str(page))
            last = tree.body[-1]
            if isinstance(last, ast.Expr):
                del tree.body[-1]
            exec(compile(tree, str(page), "exec"), names)
            if isinstance(last, ast.Expr):
                shown = ast.Expression(last.value)
                show(eval(compile(shown, str(page), "eval"), names))


def test_pages_that_run_are_found():
    assert {"tutorial", "howto/era5", "howto/comephore"} <= set(map(name_of, RUN))
    assert all(cells(page) for page in RUN)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_of_every_page_is_python(page):
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
        ast.parse(block)


def anchors(page):
    """Give the anchors of a page's headings, as MyST makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.md"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def hourly_rain(path, rows=16, columns=20):
    """Write what a new user may have: hours of rain in mm, and little metadata."""
    rng = np.random.default_rng(0)
    hours = np.datetime64("2020-06-01", "ns") + np.arange(6) * np.timedelta64(1, "h")
    smooth = rng.normal(size=(6, rows, columns)).cumsum(1).cumsum(2)
    rain = xr.DataArray(
        np.maximum(smooth, 0.0).astype("float32"),
        dims=("time", "lat", "lon"),
        coords={
            "time": hours,
            "lat": ("lat", 45 + 0.02 * np.arange(rows), {"units": "degrees_north"}),
            "lon": ("lon", 5 + 0.02 * np.arange(columns), {"units": "degrees_east"}),
        },
        name="rain",
        attrs={"units": "mm"},
    )
    rain.to_netcdf(path)


def test_readme_leads_a_new_user_to_a_picture_and_a_report(tmp_path, monkeypatch):
    """With the README and a file of hourly rain in mm, in a few lines."""
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    hourly_rain(tmp_path / "rain.nc")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hours are longer than the model knows
        names = {}
        exec(compile(block, "README.md", "exec"), names)
    assert names["fine"].shape == (4, 12, 64, 80)
    assert names["fine"].units == "mm"
    assert names["fine"].stsr.check(names["rain"]).relative < 1e-5
    assert (tmp_path / "fine.png").read_bytes().startswith(b"\x89PNG")
    assert "s=4, t=2" in (tmp_path / "report.html").read_text(encoding="utf-8")
    with xr.open_dataset(tmp_path / "fine.nc") as written:
        assert written.rain.shape == (4, 12, 64, 80)
    names["rain"].close()


def shell_of_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S))


def test_readme_commands_run(tmp_path, monkeypatch):
    """The very lines, with a small model in the place of the bundled one."""
    from xstsr.cli.main import main
    from xstsr.diffusion import checkpoint

    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    weights = Path(write_tiny_model(tmp_path))
    weights.rename(tmp_path / "default.safetensors")
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events").mkdir()
    hourly_rain("rain.nc", 4, 5)
    hourly_rain("rain_1.nc", 4, 5)
    hourly_rain("events/one.nc", 20, 24)
    for line in re.findall(r"^xstsr (\w+ [^|#\n]+)", shell_of_readme(), re.M):
        if line.startswith("train"):
            continue  # takes minutes: its page and its tests run it
        words = [w for word in shlex.split(line) for w in glob(word) or [word]]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, (line, done.output, done.exception)
    with xr.open_zarr("fine.zarr", consolidated=False) as fine:
        assert fine.rain.shape == (4, 18, 40, 50)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "s=4, t=2" in page
    assert "s=10, t=3" in page


def test_readme_commands_exist():
    from xstsr.cli.main import main

    blocks = shell_of_readme()
    named = set(re.findall(r"^xstsr (\w+)", blocks, re.M))
    named |= set(re.findall(r"\| (\w+)", blocks))
    assert named <= set(main.commands)
    assert {"upscale", "plan", "evaluate", "train"} <= named
    for command, options in re.findall(r"^xstsr (\w+) ([^#\n]*)", blocks, re.M):
        known = {o for p in main.commands[command].params for o in p.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z]+", options)) <= known


def test_every_page_is_in_a_table_of_contents():
    listed = {DOCS / "index.md"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.M | re.S):
            for line in tree.splitlines():
                entry = re.sub(r".*<(.*)>", r"\1", line.strip())
                if entry and not entry.startswith(":"):
                    listed |= set(page.parent.glob(f"{entry}.md"))
    assert {p.resolve() for p in PAGES} == {p.resolve() for p in listed}


def reference():
    """Give the dotted names of the reference by the module they are listed under."""
    text = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    module, names = "", []
    for line in text.splitlines():
        if match := re.match(r"\.\. currentmodule:: (\w+)", line):
            module = match.group(1)
        if match := re.match(r"   ([\w.]+)$", line):
            names.append((module, match.group(1)))
    return names


def thing_of(module, name):
    if module == "xarray":
        return inspect.getattr_static(importlib.import_module("xarray"), "DataArray")
    thing, path = importlib.import_module(module), module
    for part in name.split("."):
        path = f"{path}.{part}"
        if not hasattr(thing, part):
            importlib.import_module(path)
        thing = getattr(thing, part)
    return thing


def test_every_public_name_is_in_the_reference():
    listed = {name for module, name in reference() if module == "xstsr"}
    assert set(xstsr.__all__) <= listed
    from xstsr import errors, plot

    assert {f"plot.{n}" for n in plot.__all__ if n != "RAIN_LEVELS"} <= listed
    own = {n for n, c in vars(errors).items() if inspect.isclass(c)}
    assert {f"errors.{n}" for n in own} <= listed


def test_every_accessor_method_is_in_the_reference():
    from xstsr import accessor, plot

    listed = {name for module, name in reference() if module == "xarray"}
    for prefix, cls in (
        ("DataArray.stsr", accessor.DataArrayAccessor),
        ("Dataset.stsr", accessor.DatasetAccessor),
    ):
        methods = {n for n, f in vars(cls).items() if inspect.isfunction(f)}
        public = {f"{prefix}.{n}" for n in methods if not n.startswith("_")}
        assert public <= listed
    assert "DataArray.stsr.plot" in listed
    pictures = {n for n in vars(accessor.PlotAccessor) if not n.startswith("_")}
    assert pictures < set(plot.__all__)


@pytest.mark.parametrize(
    ("module", "name"), [r for r in reference() if r[0] == "xstsr"], ids=str
)
def test_reference_lists_what_is_there(module, name):
    assert inspect.getdoc(thing_of(module, name))


# `train` takes minutes: its page and its tests run it
@pytest.mark.parametrize(
    "name", [n for module, n in reference() if module == "xstsr" and n != "train"]
)
def test_every_name_of_the_reference_has_an_example(name):
    """The examples themselves are run with the tests of the package."""
    assert ">>>" in (inspect.getdoc(thing_of("xstsr", name)) or "")


def test_rule_of_trust_is_written_as_it_is_applied():
    from xstsr.evaluation import verdict

    text = (DOCS / "explanation" / "scores.md").read_text(encoding="utf-8")
    scores = {
        "a": dict.fromkeys(
            ("fair_crps", "largest_residual", "spread_skill", "q99.9_ratio"), 1.0
        )
        | {"wet_area_ratio": 1.0},
        "b": {"fair_crps": 2.0},
    }
    found = verdict.judge(scores, "a", ["b"], where="", pixels=5000)
    limits = {check.name: (check.low, check.high) for check in found.checks}
    for score, name in (
        ("spread_skill", "spread"),
        ("q99.9_ratio", "extremes"),
        ("wet_area_ratio", "wet area"),
    ):
        low, high = limits[name]
        assert re.search(rf"`{score}` (is )?{low:g} to {high:g}", text), score
    assert limits["space"] == limits["time"] == (0.0, 0.5)
    assert f"`seam_time` at most {verdict.LARGEST_SEAM:g}" in text
    assert f"{verdict.LEAST_PIXELS} pixels" in text
