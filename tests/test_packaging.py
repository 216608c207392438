"""pyproject.toml, constraints.txt and environment.yml must tell the same story."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# what conda-forge calls them
CONDA = {
    "cf-xarray": "cf_xarray",
    "dask": "dask-core",
    "lightning-fabric": "lightning",
    "matplotlib": "matplotlib-base",
    "netcdf4": "netcdf4",
    "torch": "pytorch",
}


@pytest.fixture(scope="module")
def pyproject(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins(repository) -> dict[str, Version]:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def _users(pyproject: dict) -> list[Requirement]:
    """What ``make`` installs for users: the core and the extras in ``all``."""
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    (everything,) = extras["all"]
    listed = project["dependencies"] + [
        line
        for extra in sorted(Requirement(everything).extras)
        for line in extras[extra]
    ]
    return [Requirement(line) for line in listed]


def test_every_dependency_is_pinned_above_its_floor(pyproject, pins):
    tools = [Requirement(line) for line in pyproject["dependency-groups"]["dev"]]
    for requirement in _users(pyproject) + tools:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), requirement


def test_conda_environment_names_every_dependency(repository, pyproject):
    text = (repository / "environment.yml").read_text(encoding="utf-8")
    conda = dict(re.findall(r"^  - ([\w.-]+) >=([\w.]+)$", text, re.MULTILINE))
    for requirement in _users(pyproject):
        name = requirement.name.lower()
        assert str(requirement.specifier) == f">={conda[CONDA.get(name, name)]}"
    assert {"esmpy", "xesmf"} <= set(conda)


def test_no_dependency_has_an_upper_cap(pyproject):
    assert pyproject["project"]["requires-python"] == ">=3.11"
    for requirement in _users(pyproject):
        assert "<" not in str(requirement.specifier)
        assert "==" not in str(requirement.specifier)


def test_precommit_runs_the_pinned_linters(repository, pins):
    text = (repository / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for repo, name in (("ruff-pre-commit", "ruff"), ("codespell", "codespell")):
        (revision,) = re.findall(rf"{repo}\n    rev: v(\S+)", text)
        assert Version(revision) == pins[name]
