"""Who may import whom, and what no file may hold. The sources are parsed, never run."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hidamari"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL = SOURCES + sorted(f for room in ("tests", "benchmarks", "examples") for f in (ROOT / room).rglob("*.py"))

# Each module or room, and what of the package it may import besides itself.
MAY_IMPORT = {
    "parameters": set(),
    "estimator": set(),
    "arrays": set(),
    "results": {"arrays"},
    "plotting": set(),
    "statespace": {"parameters"},
    "inference": {"parameters", "statespace"},
    "datasets": {"statespace", "arrays", "results"},
    "models": {"parameters", "statespace", "inference", "datasets", "estimator", "arrays", "results"},
    "batch": {"estimator", "arrays", "results"},
    "cli": {"estimator", "arrays", "results", "batch"},
}
MAY_COMPILE = {
    "statespace/kalman.py",
    "statespace/_forms.py",
    "statespace/_bank.py",
    "statespace/_matern.py",
    "inference/segments.py",
    "models/ar_net.py",
}
PICKLES = {"pickle", "_pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


def name(path):
    return path.relative_to(ROOT).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name)


@cache  # so that the nodes of a file are the same objects in every walk over it
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Yield every imported dotted name of a file, relative ones resolved, with its node."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).parts[: -node.level]
                module = ".".join([*package, module]).rstrip(".")
            yield from ((f"{module}.{alias.name}", node) for alias in node.names)


def room(dotted):
    """Return the module or room of hidamari that a dotted name lies in, None for names from outside."""
    parts = dotted.split(".")
    if parts[0] != "hidamari":
        return None
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else file_room(parts)


def file_room(parts):
    """Return the single-file module named, or "" for what the package's root itself defines."""
    return parts[1] if len(parts) > 1 and (PACKAGE / f"{parts[1]}.py").is_file() else ""


@each([path for path in SOURCES if path != PACKAGE / "__init__.py"])
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for dotted, node in imports(path):
        target = room(dotted)
        if target is None or dotted == "hidamari.__version__":
            continue
        where = f"{name(path)}:{node.lineno} imports {dotted}"
        assert target != "", f"{where}: the root's lazy names are for users"
        assert target == own or target in MAY_IMPORT[own], where


@each([path for path in SOURCES if path.parent.name == "models" and path.name != "__init__.py"])
def test_models_do_not_know_each_other(path):
    for dotted, _ in imports(path):
        if room(dotted) == "models":
            module = dotted.split(".")[2]
            assert module.startswith("_"), (
                f"{name(path)} imports {dotted}: only what doors share, in a _module"
            )


def source(dotted):
    """Return the file of a module of the package, or of the module that a name is imported from."""
    target = PACKAGE.joinpath(*dotted.split(".")[1:]).with_suffix(".py")
    return target if target.is_file() else target.parent.with_suffix(".py")


@cache
def compiled(path):
    """Tell whether importing a module loads a compiler: at its top, or that of a private one it imports."""
    tops = {id(node) for node in parse(path).body}
    for dotted, node in imports(path):
        if id(node) in tops:
            if dotted.split(".")[0] in ("numba", "jax"):
                return True
            if room(dotted) and path.name.startswith("_") and path.name != "__init__.py":
                target = source(dotted)
                if target != path and target.is_file() and compiled(target):
                    return True
    return False


@each([path for path in SOURCES if path != PACKAGE / "__init__.py"])
def test_compiled_modules_are_private_and_loaded_on_use(path):
    if compiled(path):
        assert path.name.startswith("_"), (
            f"{name(path)} imports its compiler at the top: hide it in a _module"
        )
        return
    tops = {id(node) for node in parse(path).body}
    for dotted, node in imports(path):
        target = source(dotted)
        if room(dotted) and target.is_file() and compiled(target):
            where = f"{name(path)}:{node.lineno} imports {dotted}"
            assert id(node) not in tops, f"{where} at its top level"
            assert target.parent == path.parent or path.relative_to(PACKAGE).as_posix() in MAY_COMPILE, where
            if target.parent.name == "statespace":
                assert path.relative_to(PACKAGE).as_posix() in MAY_COMPILE, f"{where}: kalman.py is the door"


def test_the_root_loads_nothing_when_imported():
    guarded = {
        inner
        for node in parse(PACKAGE / "__init__.py").body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    guarded = {(node.lineno, node.col_offset) for node in guarded if isinstance(node, ast.ImportFrom)}
    eager = {
        d for d, node in imports(PACKAGE / "__init__.py") if (node.lineno, node.col_offset) not in guarded
    }
    assert eager == {"importlib.import_module", "typing.TYPE_CHECKING"}


@each(SOURCES)
def test_nothing_that_runs_code_from_data(path):
    for dotted, node in imports(path):
        assert dotted.split(".")[0] not in PICKLES, f"{name(path)}:{node.lineno} imports {dotted}"
    for node in ast.walk(parse(path)):
        where = f"{name(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "compile", "__import__", "yaml.load"), where
            assert not called.endswith(".to_pickle") and not called.endswith(".read_pickle"), where
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False", where


@each(SOURCES)
def test_no_global_switches(path):
    text = path.read_text(encoding="utf-8")
    assert "jax_enable_x64" not in text
    for switch in ("np.seterr(", "np.random.seed(", "warnings.simplefilter(", "rcParams[", "basicConfig("):
        assert switch not in text, switch


@each(ALL)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


@each([path for path in SOURCES if path.name != "__init__.py" and not path.name.startswith("_")])
def test_public_modules_list_their_names(path):
    tree = parse(path)
    assert ast.get_docstring(tree)
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert len(listed) == 1, f"{name(path)} has no __all__"
    defined = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                defined.add(node.name)
            case ast.Assign() | ast.AnnAssign():
                defined.update(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            case ast.ImportFrom():
                defined.update(alias.name for alias in node.names)
    assert set(listed[0]) <= defined, f"{name(path)} lists names it does not define"
