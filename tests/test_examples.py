"""Every example runs, from an empty folder, as a user would run it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
MINUTE = 60.0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_script_runs(path, tmp_path):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "out")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = {p.name for p in (tmp_path / "out").iterdir()}
    told = [word for word in done.stdout.split() if word.startswith(str(tmp_path))]
    # it says what it wrote, and wrote what it says
    assert told
    assert {Path(word).name for word in told} <= written
    assert any(name.endswith(".png") for name in written)
    assert not (tmp_path / "xstsr-example").exists()
    assert time.monotonic() - started < 5 * MINUTE  # a minute, on a quiet machine


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    book = nbformat.read(path, as_version=4)
    runner = client.NotebookClient(
        book, timeout=5 * MINUTE, resources={"metadata": {"path": str(tmp_path)}}
    )
    runner.execute()
    shown = [
        kind
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.get("data", {})
    ]
    # cards and pictures are shown without any magic command
    assert "image/png" in shown
    assert "text/html" in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_kept_without_its_results(path):
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_examples_are_numbered_without_gaps():
    numbers = [int(path.name[:2]) for path in sorted(SCRIPTS + NOTEBOOKS)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(NOTEBOOKS) == 2
