"""Which folder may import which, read from the source with ast.

An import counts wherever it stands, also inside a function, unless a test says
"at module level".
"""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "xstsr"
# Each line imports only what stands below it; neighbours do not import each other.
LAYERS = """
accessor | cli
evaluation | storage | joint
pipeline
execution | training
planning
methods | plot
verification
conservation | regridding | accumulations | files
cf | diffusion
geometry
factors | atomic
errors | typing | display | memory | data
"""
RANKS = {
    name: -rank
    for rank, line in enumerate(LAYERS.split("\n"))
    for name in line.split(" | ")
}
ARRAYS_ONLY = {"geometry", "verification", "methods", "execution", "diffusion"}
WITH_TORCH = {"diffusion", "training"}
WITH_TORCH |= {"methods.neural", "methods.devices", "cli.doctor"}


def _modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


MODULES = _modules()


def _imports(nodes: Iterator[ast.AST]) -> set[str]:
    """Full dotted names; ``from a import b`` gives both ``a`` and ``a.b``."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _outside(module: str) -> set[str]:
    return {name.split(".")[0] for name in _imports(ast.walk(MODULES[module]))}


def _inside(module: str) -> set[str]:
    """The package's own modules that ``module`` imports."""
    named = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # "from xstsr.cf import read" imports the module, not a name of the folder
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= whole if whole <= set(MODULES) else whole | {node.module or ""}
    return named & set(MODULES)


def _place(module: str) -> str:
    """``xstsr.diffusion.noise`` stands in ``diffusion``, ``xstsr.joint`` alone."""
    return module.partition(".")[2].partition(".")[0]


def _at_module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that run at import: not in a function, not under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _at_module_level(node)


def test_reader_sees_every_kind_of_import():
    source = "import a.b\nfrom c import d\nif 1:\n    def f():\n        import e\n"
    tree = ast.parse(source)
    assert _imports(ast.walk(tree)) == {"a.b", "c", "c.d", "e"}
    assert _imports(_at_module_level(tree)) == {"a.b", "c", "c.d"}
    assert "xstsr.errors" in MODULES


def test_every_file_and_folder_has_a_layer():
    assert {_place(module) for module in MODULES} == set(RANKS)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "xstsr"])
def test_module_imports_only_from_layers_below(module):
    own = _place(module)
    wrong = {
        name
        for name in _inside(module)
        if _place(name) != own and RANKS[_place(name)] >= RANKS[own]
    }
    assert not wrong


@pytest.mark.parametrize("module", [m for m in MODULES if _place(m) in ARRAYS_ONLY])
def test_folders_of_arrays_know_no_labels(module):
    assert not _outside(module) & {"xarray", "cf_xarray"}


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_imported_in_few_places(module):
    name = module.removeprefix("xstsr.")
    if "torch" in _outside(module):
        assert {name, _place(module)} & WITH_TORCH


def test_no_module_reaches_itself_through_imports():
    graph = {m: _inside(m) for m in MODULES}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph[module]
        return seen

    assert [m for m in graph if m in reached(m)] == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_are_absolute(module):
    levels = [
        n.level for n in ast.walk(MODULES[module]) if isinstance(n, ast.ImportFrom)
    ]
    assert not any(levels)


@pytest.mark.parametrize("module", [m for m in MODULES if "__main__" not in m])
def test_path_of_a_module_gives_the_module(module):
    """No name of a folder hides one of its files."""
    importlib.import_module(module)
    thing = sys.modules["xstsr"]
    for part in module.split(".")[1:]:
        thing = getattr(thing, part)
    assert isinstance(thing, ModuleType)


def test_few_files_stand_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= 12


def test_dask_is_imported_late():
    eager = {
        module
        for module, tree in MODULES.items()
        if "dask" in {n.split(".")[0] for n in _imports(_at_module_level(tree))}
    }
    assert eager == set()


def test_import_is_fast_and_loads_neither_torch_nor_dask():
    code = (
        "import json, sys, time\n"
        "start = time.process_time()\n"
        "import xstsr\n"
        "spent = time.process_time() - start\n"
        "heavy = {'torch', 'dask', 'matplotlib'} & set(sys.modules)\n"
        "print(json.dumps([spent, sorted(heavy)]))\n"
    )
    runs = []
    for _ in range(3):
        # seconds of this process, so that a busy machine does not fail the test
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        runs.append(json.loads(done.stdout))
    assert runs[0][1] == []
    assert min(seconds for seconds, _ in runs) < 1.0


def test_layers_are_those_of_the_contributors_page():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.search(re.escape(LAYERS.strip()), text)
