"""The architecture as a test: who may import whom, what an ``__init__.py`` may hold, and no pickle anywhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# A layer may import from itself and from those after it.
LAYERS = (
    ("nas.cli",),
    ("nasbench", "experiments"),
    ("nas.export",),
    ("nas.search",),
    ("predictors",),
    ("latency_tables",),
    ("nas.compression",),
    ("supernets",),
    ("search_spaces",),
    ("nas.errors", "nas.registry", "nas.defaults", "nas.files", "nas.lock", "nas.writing", "nas.__init__"),
)
TOPS = ("nas", "nasbench", "experiments", "predictors", "latency_tables", "supernets", "search_spaces")
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
HARMLESS = {"Parallel", "delayed", "parallel_config"}  # of joblib
TARGET = re.compile(rf"({'|'.join(TOPS)})(\.\w+)*:\w+")  # "module:attribute", as registries hold it


def modules(repository: Path) -> Iterator[tuple[str, Path]]:
    for top in TOPS:
        for path in sorted((repository / top).rglob("*.py")):
            yield ".".join(path.relative_to(repository).with_suffix("").parts), path


def layer(module: str) -> int:
    """Return the place of a module among the layers; ``nas`` itself (the version) belongs to the base."""
    module = "nas.__init__" if module == "nas" else module
    places = [i for i, names in enumerate(LAYERS) if any(f"{module}.".startswith(f"{name}.") for name in names)]
    assert places, f"{module} has no layer; give it a place among LAYERS"
    return places[0]


def imported(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield every import of ours with its line, wherever it stands, also those that a registry writes as strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*package, *([node.module] if node.module else [])])
            names = [f"{source}.{alias.name}" if source == "nas" else source for alias in node.names]
            names = ["nas" if name == "nas.__version__" else name for name in names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and TARGET.fullmatch(node.value):
            names = [node.value.partition(":")[0]]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in TOPS)


def leftward(module: str, source: str) -> list[str]:
    found = imported(module, ast.parse(source))
    return [f"{module}:{line} imports {name}" for line, name in found if layer(name) < layer(module)]


def test_no_module_imports_leftward(repository: Path) -> None:
    assert [fault for module, path in modules(repository) for fault in leftward(module, path.read_text())] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("supernets.graph", "import latency_tables.device"),
        ("nas.files", "from nas import search"),
        ("nas.search.evolution", "def f():\n    from nas.export import load_bundle"),
        ("nas.compression.qdq", "from ..search import search"),
        ("search_spaces.catalogue", "r.register('x', 'supernets.supernet:Supernet', 'y')"),
    ],
)
def test_a_leftward_import_is_seen(module: str, source: str) -> None:
    assert len(leftward(module, source)) == 1


def test_the_version_and_what_stands_to_the_right_may_be_imported() -> None:
    assert leftward("nas.cli.main", "from nas import __version__\nfrom nas.search import search\nimport torch") == []


def test_packages_need_neither_the_tests_nor_a_changed_path(repository: Path) -> None:
    for module, path in modules(repository):
        for node in ast.walk(ast.parse(path.read_text())):
            roots = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            roots += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(root.split(".")[0] in {"tests", "conftest"} for root in roots), module
            changes_path = isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"
            assert not changes_path or module.startswith("experiments."), f"{module}:{node.lineno} changes sys.path"


def test_nas_itself_holds_a_docstring_and_the_version(repository: Path) -> None:
    body = ast.parse((repository / "nas/__init__.py").read_text()).body
    assert len(body) == 2 and isinstance(body[0], ast.Expr)
    assert ast.unparse(body[1]).startswith("__version__ = ")


def test_packages_only_re_export(repository: Path) -> None:
    for module, path in modules(repository):
        if path.name != "__init__.py" or module == "nas.__init__":
            continue
        docstring, *body = ast.parse(path.read_text()).body
        assert isinstance(docstring, ast.Expr), f"{module} has no docstring"
        imports = [node for node in body if isinstance(node, ast.ImportFrom)]
        rest = [ast.unparse(node) for node in body if not isinstance(node, ast.ImportFrom)]
        names = sorted(alias.asname or alias.name for node in imports for alias in node.names)
        package = module.removesuffix(".__init__")
        foreign = [node.module for node in imports if not f"{node.module}.".startswith(f"{package}.")]
        assert not foreign, f"{module} re-exports from {foreign}"
        if not imports:
            assert rest == [], f"{module} holds {rest}"
            continue
        assert len(rest) == 1 and rest[0].startswith("__all__ = "), f"{module} holds {rest}"
        assert sorted(ast.literal_eval(rest[0].removeprefix("__all__ = "))) == names, module


def faults(source: str) -> list[str]:
    """Return the star imports and the ways to read or write pickle in a source text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in PICKLERS]
        elif isinstance(node, ast.ImportFrom):
            foreign = node.level == 0 and (node.module or "").split(".")[0] in PICKLERS
            found += [
                f"{node.module}.{a.name}" for a in node.names if (foreign and a.name not in HARMLESS) or a.name == "*"
            ]
        elif isinstance(node, ast.Call):
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            name = ast.unparse(node.func)
            unsafe_load = name in {"torch.load", "load_url", "torch.hub.load"} and options.get("weights_only") != "True"
            if unsafe_load or name == "torch.save" or options.get("allow_pickle", "False") != "False":
                found.append(f"{name} at line {node.lineno}")
    return found


def test_no_star_imports_and_no_pickle(repository: Path) -> None:
    places = {module: faults(path.read_text()) for module, path in modules(repository)}
    assert {module: found for module, found in places.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from torch import *",
        "import pickle",
        "from joblib import load",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.save(x, p)",
        "np.load(p, allow_pickle=True)",
    ],
)
def test_a_forbidden_call_is_seen(source: str) -> None:
    assert len(faults(source)) == 1


def test_a_safe_load_is_allowed() -> None:
    assert (
        faults("torch.load(p, weights_only=True)\nnp.load(p, allow_pickle=False)\nfrom joblib import Parallel, delayed")
        == []
    )
