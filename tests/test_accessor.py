"""The accessors `.stsr`: thin, registered without side effects, every option passed."""

import ast
import inspect
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import xstsr
from tests.strategies import make, make_dataset
from xstsr import accessor, pipeline
from xstsr.accumulations import amounts
from xstsr.conservation import balance
from xstsr.regridding import frontend
from xstsr.storage import store

ARRAY, DATASET = accessor.DataArrayAccessor, accessor.DatasetAccessor
DELEGATES = [  # accessor, method, module, function, arguments
    (ARRAY, "upscale", pipeline, "upscale", (2, 3)),
    (ARRAY, "coarsen", balance, "coarsen", (2, 3)),
    (ARRAY, "conserve", balance, "conserve", ("coarse",)),
    (ARRAY, "check", balance, "check", ("coarse",)),
    (ARRAY, "plan", pipeline, "plan", (2, 3)),
    (ARRAY, "regrid", frontend, "regrid", ("target",)),
    (ARRAY, "deaccumulate", amounts, "deaccumulate", ()),
    (ARRAY, "to_zarr", store, "to_zarr", ("fine.zarr", 2, 3)),
    (DATASET, "upscale", pipeline, "upscale_dataset", ("pr", 2, 3)),
    (DATASET, "coarsen", balance, "coarsen_dataset", ("pr", 2, 3)),
    (DATASET, "conserve", balance, "conserve_dataset", ("pr", "coarse")),
    (DATASET, "check", balance, "check_dataset", ("pr", "coarse")),
    (DATASET, "plan", pipeline, "plan_dataset", ("pr", 2, 3)),
    (DATASET, "regrid", frontend, "regrid_dataset", ("pr", "target")),
    (DATASET, "deaccumulate", amounts, "deaccumulate_dataset", ("pr",)),
]
NAMES = [f"{c.__name__}.{m}" for c, m, *_ in DELEGATES]


def public_methods(cls):
    return {
        name
        for name, thing in vars(cls).items()
        if not name.startswith("_") and inspect.isfunction(thing)
    }


def options_of(function):
    """Keyword-only options of a function or method, each with a value of its own."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: object() for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("case", DELEGATES, ids=NAMES)
def test_every_option_arrives_unchanged(monkeypatch, case):
    cls, method, module, function, arguments = case
    options = options_of(getattr(cls, method))
    own = {"regrid": {"spacing", "weights"}, "deaccumulate": {"resets", "rate"}}
    assert own.get(method, {"cell_methods", "label"}) <= set(options)
    seen = {}

    def record(*args, **kwargs):
        seen.update(args=args, kwargs=kwargs)
        return "the result"

    monkeypatch.setattr(module, function, record)
    field = make() if cls is ARRAY else make_dataset()
    assert getattr(cls(field), method)(*arguments, **options) == "the result"
    assert seen["args"][0] is field
    assert seen["args"][1:] == arguments
    assert seen["kwargs"] == options


@pytest.mark.parametrize("case", DELEGATES, ids=NAMES)
def test_unknown_option_is_refused(case):
    cls, method, _, _, arguments = case
    field = make() if cls is ARRAY else make_dataset()
    if arguments == ("coarse",):
        arguments = (make(),)
    with pytest.raises(TypeError, match="unexpected keyword argument 'scale'"):
        getattr(cls(field), method)(*arguments, scale=2)


@pytest.mark.parametrize(
    ("cls", "method"), [(ARRAY, "upscale"), (ARRAY, "coarsen"), (ARRAY, "plan")]
)
def test_time_factor_is_one_by_default(cls, method):
    signature = inspect.signature(getattr(cls, method))
    assert signature.parameters["t"].default == 1
    assert signature.parameters["s"].default is inspect.Parameter.empty


@pytest.mark.parametrize("cls", [ARRAY, DATASET])
def test_every_public_method_is_documented(cls):
    listed = {m for c, m, *_ in DELEGATES if c is cls}
    assert listed <= public_methods(cls)
    for name in public_methods(cls):
        assert inspect.getdoc(getattr(cls, name))


def test_variable_of_a_dataset_is_handed_to_the_store(monkeypatch):
    seen = {}
    monkeypatch.setattr(store, "to_zarr", lambda *a, **k: seen.update(args=a, kwargs=k))
    ds = make_dataset()
    ds.stsr.to_zarr("pr", "fine.zarr", 2, 3, seed=1)
    assert seen == {
        "args": (ds, "fine.zarr", 2, 3),
        "kwargs": {"name": "pr", "seed": 1},
    }


def test_options_of_a_dataset_reach_the_work():
    """`upscale_dataset` takes most of them on trust: a wrong turn would be silent."""
    recipe = xstsr.Recipe(0.02, 5, taper=0.1)
    options = {"seed": 9, "realizations": 4, "conserve": "window", "recipe": recipe}
    for field, name in ((make(), ()), (make_dataset(), ("pr",))):
        job = field.stsr.plan(*name, 2, 3, method="rainfarm", **options).job
        assert (job.request.factor, job.request.method) == ((3, 2, 2), "rainfarm")
        assert (job.request.seed, job.request.realizations) == (9, (0, 1, 2, 3))
        assert (job.mode, job.request.recipe) == ("window", recipe)


def _body(cls, name):
    """Statements of a method, without its docstring."""
    source = inspect.getsource(accessor)
    (found,) = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    )
    (method,) = (n for n in found.body if getattr(n, "name", "") == name)
    return method.body[1:]


@pytest.mark.parametrize("cls", [ARRAY, DATASET])
def test_methods_only_delegate(cls):
    """Late imports apart, one return statement: logic belongs below."""
    for name in public_methods(cls):
        rest = [n for n in _body(cls, name) if not isinstance(n, ast.ImportFrom)]
        assert len(rest) == 1, name
        assert isinstance(rest[0], ast.Return), name
        assert isinstance(rest[0].value, ast.Call), name


def test_accessor_is_offered_by_dir():
    assert "stsr" in dir(make())
    assert "stsr" in dir(make_dataset())
    assert {"upscale", "coarsen", "conserve", "check", "plan"} <= set(dir(make().stsr))
    assert {"upscale", "coarsen", "plan"} <= set(dir(make_dataset().stsr))


def test_accessor_takes_any_field_without_reading_it(no_compute):
    """An error here would surface as a RuntimeError without its text."""
    for strange in (xr.DataArray(), xr.DataArray([1, 2]), xr.DataArray(["a"])):
        assert isinstance(strange.stsr, ARRAY)
    assert isinstance(xr.Dataset().stsr, DATASET)
    with no_compute():
        assert isinstance(make().chunk(time=1).stsr, ARRAY)


def test_accessor_holds_nothing_but_its_field():
    assert ARRAY.__slots__ == ("_da",)
    assert DATASET.__slots__ == ("_ds",)
    with pytest.raises(AttributeError, match="remembered"):
        make().stsr.remembered = 1


def test_accessor_sees_a_field_that_was_changed():
    da = make(grid="metres")
    before = da.stsr.upscale(2, method="nearest")
    da[:] = 7.0
    np.testing.assert_array_equal(da.stsr.upscale(2, method="nearest"), 7.0)
    assert not np.allclose(before, 7.0)


def test_accessors_and_functions_agree():
    da, ds = make(grid="metres"), make_dataset("metres")
    np.testing.assert_array_equal(
        da.stsr.upscale(2, 3, method="rainfarm", seed=5),
        xstsr.upscale(da, 2, 3, method="rainfarm", seed=5),
    )
    fine = ds.stsr.upscale("pr", 2, 3, method="linear")
    np.testing.assert_array_equal(
        fine.pr, ds["pr"].stsr.upscale(2, 3, method="linear", label="mid")
    )


def test_import_registers_once_and_changes_nothing_else():
    """No warning about an overwritten accessor, no registry, no option, no torch."""
    code = """
import sys, warnings
import xarray as xr
before = dict(xr.get_options())
warnings.simplefilter("error")
import xstsr
assert dict(xr.get_options()) == before
assert not {"torch", "dask.array", "pint"} & set(sys.modules), "imported too much"
import xstsr.accessor
assert xr.DataArray([1]).stsr.__class__ is xstsr.accessor.DataArrayAccessor
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
