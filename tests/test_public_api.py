"""The public names: few, pinned, documented, typed."""

import importlib.metadata
import importlib.resources
import inspect

import pytest

import xstsr

PUBLIC = [
    "Recipe",
    "check",
    "coarsen",
    "conserve",
    "deaccumulate",
    "load_model",
    "open_demo",
    "regrid",
    "to_zarr",
    "train",
    "upscale",
]


def test_all_is_pinned():
    assert sorted(xstsr.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_documented_and_annotated(name):
    thing = getattr(xstsr, name)
    # xstsr.conserve is the function, although a module has the same name
    assert callable(thing)
    assert inspect.getdoc(thing)
    assert all(
        parameter.annotation is not parameter.empty
        for parameter in inspect.signature(thing).parameters.values()
    )


def test_dir_offers_public_names():
    assert set(PUBLIC) <= set(dir(xstsr))


def test_version_is_that_of_the_distribution(repository):
    assert xstsr.__version__ == importlib.metadata.version("xstsr")
    changes = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{xstsr.__version__}]" in changes or "## [Unreleased]" in changes


def test_type_hints_ship_with_the_package():
    assert (importlib.resources.files("xstsr") / "py.typed").is_file()
