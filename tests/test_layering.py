"""Which room may import which, read from the source with ast.

An import counts wherever it stands, also inside a function, unless a test says
"at module level".
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "xstsr"
ARRAY_ROOMS = {
    "baselines",
    "blocks",
    "cell_methods",
    "conserve",
    "factors",
    "globe",
    "grid",
    "increments",
    "outlines",
    "plan",
    "polygons",
    "projections",
    "recipe",
    "regrid",
    "verify",
    "weight_files",
}
# these stand on the pipeline; everything else stands under it
UPPER_ROOMS = {
    "accessor",
    "batch",
    "cli",
    "demo",
    "evaluation",
    "observer",
    "page",
    "plot",
    "report",
    "store",
    "together",
    "training",
    "water",
}
DASK_ROOMS = {"lazy", "store"}
THE_BRIDGE = "xstsr.pipeline"


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
            # "from xstsr import cf" imports the module cf, not a name of xstsr
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= whole if whole <= set(MODULES) else whole | {node.module or ""}
    return named & set(MODULES)


def _room(module: str) -> str:
    """``xstsr.diffusion.noise`` lies in the room ``diffusion``."""
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


@pytest.mark.parametrize("module", [m for m in MODULES if _room(m) in ARRAY_ROOMS])
def test_array_room_knows_no_labels(module):
    assert not _outside(module) & {"xarray", "cf_xarray", "dask", "torch"}


@pytest.mark.parametrize("module", [m for m in MODULES if _room(m) == "diffusion"])
def test_diffusion_room_knows_no_labels(module):
    assert not _outside(module) & {"xarray", "cf_xarray", "dask"}


def test_only_pipeline_imports_xarray_and_torch():
    both = {m for m in MODULES if {"xarray", "torch"} <= _outside(m)}
    assert both <= {THE_BRIDGE}


def test_lower_rooms_import_no_upper_room():
    wrong = {
        module: sorted(names)
        for module in MODULES
        if module not in ("xstsr", THE_BRIDGE) and _room(module) not in UPPER_ROOMS
        if (names := {n for n in _inside(module) if _room(n) in UPPER_ROOMS})
        or (names := _inside(module) & {THE_BRIDGE})
    }
    assert not wrong


def test_pipeline_imports_no_upper_room():
    if THE_BRIDGE in MODULES:
        assert not {_room(n) for n in _inside(THE_BRIDGE)} & UPPER_ROOMS


def test_only_entry_points_import_cli_and_accessor():
    for module in MODULES:
        ours = {_room(name) for name in _inside(module)}
        assert "cli" not in ours, module
        assert "accessor" not in ours or module == "xstsr", module


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


def test_dask_is_imported_late():
    eager = {
        _room(module)
        for module, tree in MODULES.items()
        if "dask" in {n.split(".")[0] for n in _imports(_at_module_level(tree))}
    }
    assert eager <= DASK_ROOMS


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
