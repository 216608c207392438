"""What ``doctor`` and ``models`` tell."""

import importlib.metadata
import sys

from xstsr.cli import doctor
from xstsr.diffusion import card


def test_survey_names_versions_and_devices():
    found = doctor.survey()
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert "threads" in found["devices"]["cpu"]
    assert set(found["regridding"]) == {"esmpy", "xesmf"}
    assert found["caches"]["disk"].startswith("none")


def test_absent_package_is_none(monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package"))
    assert doctor.survey()["packages"]["no-such-package"] is None


def test_absent_regridder_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "xesmf", None)
    assert doctor.survey()["regridding"]["xesmf"] == "not installed"


def test_regridder_without_esmf_is_broken(monkeypatch, tmp_path):
    # xesmf can be installed from PyPI, but esmpy cannot: importing it then fails
    (tmp_path / "xesmf.py").write_text("import ESMF_that_is_absent\n")
    (tmp_path / "esmpy.py").write_text("raise KeyError('ESMFMKFILE')\n")
    for name in ("xesmf", "esmpy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    found = doctor.survey()["regridding"]
    assert found["xesmf"].startswith("broken: No module named 'ESMF_that_is_absent'")
    assert found["esmpy"] == "broken: KeyError('ESMFMKFILE')"


def test_models_carry_hash_and_card():
    for row in card.models():
        assert len(row["sha256"]) == 64
        assert row["card"]
