"""What holds across the packages: versions, one name per op, signatures, sizes and names of files."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import scree
import scree_core
from scree_core import reference
from scree_core.backend import OPS, Backend
from scree_core.numpy_backend import NumpyBackend
from scree_core.overlay import Overlay
from scree_core.testing.cases import CASES, ERRORS
from scree_core.testing.loopback import LoopbackBackend
from scree_core.testing.truth import DIFFERENTIABLE, ReferenceBackend

ROOT = Path(__file__).parents[1]
CORE = Path("packages/scree-core/src/scree_core")
DISTRIBUTIONS = ("scree", "scree-core", "scree-torch", "scree-triton", "scree-jax", "scree-mlx")
PROJECTS = {name: tomllib.loads((ROOT / f"packages/{name}/pyproject.toml").read_text()) for name in DISTRIBUTIONS}
VERSION = PROJECTS["scree"]["project"]["version"]
ENTRY_POINTS = {
    name: target
    for project in PROJECTS.values()
    for name, target in project["project"].get("entry-points", {}).get("scree.backends", {}).items()
}
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ("packages", "tests", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if not any(part.startswith(".") or part in ("build", "dist") for part in path.relative_to(ROOT).parts)
)


def import_package(name):
    return name.replace("-", "_")


def source(name):
    return ROOT / f"packages/{name}/src/{import_package(name)}"


# ------------------------------------------------------------------ distributions


def test_the_folders_in_packages_are_the_distributions():
    assert {path.name for path in (ROOT / "packages").iterdir() if path.is_dir()} == set(DISTRIBUTIONS)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_holds_one_typed_import_package_of_its_name(name):
    packages = [path.name for path in source(name).parent.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert [package for package in packages if not package.endswith(".egg-info")] == [import_package(name)]
    assert (source(name) / "py.typed").is_file()
    assert PROJECTS[name]["project"]["name"] == name


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_versions_are_equal_in_every_member(name):
    project = PROJECTS[name]["project"]
    assert project["version"] == VERSION
    assert project["requires-python"] == PROJECTS["scree"]["project"]["requires-python"]
    init = (source(name) / "__init__.py").read_text()
    if name != "scree":  # takes core's
        assert re.findall(r'^__version__ = "(.*)"$', init, re.MULTILINE) == [VERSION]
    assert scree.__version__ == scree_core.__version__ == VERSION


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_members_pin_each_other_exactly(name):
    project = PROJECTS[name]["project"]
    optional = project.get("optional-dependencies", {}).values()
    needed = [*project.get("dependencies", []), *(entry for extra in optional for entry in extra)]
    own = [entry for entry in needed if re.match(r"scree(-\w+)?\b(?!\[)", entry)]
    assert all(entry == f"{entry.split('==')[0]}=={VERSION}" for entry in own), own
    if name != "scree-core":
        assert f"scree-core=={VERSION}" in own


def test_core_depends_on_numpy_alone():
    assert [re.match(r"[\w-]+", entry)[0] for entry in PROJECTS["scree-core"]["project"]["dependencies"]] == ["numpy"]


def test_the_extras_of_scree_are_its_backends_and_transformers():
    extras = PROJECTS["scree"]["project"]["optional-dependencies"]
    backends = {name.removeprefix("scree-") for name in DISTRIBUTIONS} - {"scree", "core"}
    assert set(extras) == {*backends, "transformers", "all"}
    assert all(extras[name] == [f"scree-{name}=={VERSION}"] for name in backends)
    assert set(re.fullmatch(r"scree\[(.*)\]", extras["all"][0])[1].split(",")) == backends


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points_are_named_like_what_they_load(name):
    module, cls = ENTRY_POINTS[name].split(":")
    package = module.split(".")[0]
    # An overlay has a package of its own, or lives with the backend that it lies over.
    assert package in {f"scree_{part}" for part in name.split(".")}
    tree = ast.parse(
        (ROOT / f"packages/{package.replace('_', '-')}/src" / f"{module.replace('.', '/')}.py").read_text()
    )
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls]
    names = [node.value.value for node in found.body if isinstance(node, ast.Assign) and node.targets[0].id == "name"]
    assert names == [name]


# ------------------------------------------------------------------ one name per op


@pytest.mark.parametrize("op", scree_core.ops.__all__)
def test_an_op_has_one_name_everywhere(op):
    public = importlib.import_module(f"scree_core.ops.{op}")
    assert getattr(scree, op) is getattr(scree_core, op) is getattr(public, op)
    assert op in scree.__all__
    assert inspect.isfunction(public.prepare)
    assert inspect.isfunction(getattr(Backend, op))
    naive = importlib.import_module(f"scree_core.reference.{op}")
    assert getattr(reference, op) is getattr(naive, op)
    assert getattr(reference, f"{op}_vjp") is getattr(naive, f"{op}_vjp")
    assert op in OPS
    assert op in DIFFERENTIABLE


@pytest.mark.parametrize("op", OPS)
def test_every_op_of_the_contract_has_cases(op):
    assert len(CASES[op]) > 5
    assert all(case.op == op for case in CASES[op])
    ids = [case.id for case in CASES[op]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("op", scree_core.ops.__all__)
def test_every_op_has_calls_that_must_be_refused(op):
    assert any(issubclass(case.error, scree.ArgumentTypeError) for case in ERRORS[op]), "none of a wrong type"
    assert any(issubclass(case.error, scree.ArgumentError) for case in ERRORS[op]) or op == "varlen_cumsum"


def test_cases_are_of_ops_that_exist():
    assert set(CASES) == set(OPS)
    assert set(ERRORS) <= set(OPS)


def test_each_file_in_ops_and_reference_is_an_op_or_shared():
    shared = {"ops": {"normalised", "reduction"}, "reference": {"geometry", "making", "reduce_rows", "to_padded"}}
    for folder, others in shared.items():
        files = {path.stem for path in (ROOT / CORE / folder).glob("*.py")} - {"__init__"}
        assert files == {*scree_core.ops.__all__, *others}


def test_scree_offers_what_core_does():
    assert set(scree_core.__all__) <= set(scree.__all__)
    assert all(getattr(scree, name) is getattr(scree_core, name) for name in scree_core.__all__)


@pytest.mark.parametrize("package", [scree, scree_core, scree_core.ops, scree_core.construct, reference])
def test_what_a_package_offers_exists_and_is_sorted(package):
    assert all(hasattr(package, name) for name in package.__all__)
    assert list(package.__all__) == sorted(package.__all__)


# ------------------------------------------------------------------ signatures


def shape_of(function):
    """Return names, kinds and defaults of the parameters, without self."""
    parameters = list(inspect.signature(function).parameters.values())
    return [(p.name, p.kind.name, p.default) for p in parameters if p.name != "self"]


@pytest.mark.parametrize("op", scree_core.ops.__all__)
def test_what_follows_the_arrays_of_an_op_is_keyword_only(op):
    parameters = inspect.signature(getattr(scree_core, op)).parameters.values()
    positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert all("Array" in str(p.annotation) for p in positional), [str(p) for p in positional]
    assert shape_of(getattr(scree_core, op))[-1] == ("backend", "KEYWORD_ONLY", None)


@pytest.mark.parametrize("op", scree_core.ops.__all__)
def test_an_op_is_checked_with_the_arguments_it_takes(op):
    prepare = importlib.import_module(f"scree_core.ops.{op}").prepare
    assert shape_of(prepare) == shape_of(getattr(scree_core, op))[:-1]


@pytest.mark.parametrize("op", ["pack", "concat", "to_padded", "from_padded"])
def test_constructors_that_compute_let_a_backend_be_named(op):
    assert shape_of(getattr(scree_core, op))[-1] == ("backend", "KEYWORD_ONLY", None)


def loaded(name):
    """Return a plugin's class; skip where it isn't installed, but fail where SCREE_REQUIRE names it."""
    module, cls = ENTRY_POINTS[name].split(":")
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError as error:
        if name.split(".")[-1] in os.environ.get("SCREE_REQUIRE", "").split(","):
            raise
        pytest.skip(f"{module} can't be imported: {error}")


def check_methods(plugin):
    """Check that every method of the contract that a plugin overrides takes what the contract's takes."""
    for name, method in inspect.getmembers(Backend, inspect.isfunction):
        own = inspect.getattr_static(plugin, name, method)
        if own is not method and not name.startswith("__") and not (name == "why_not" or name == "version"):
            assert shape_of(getattr(plugin, name)) == shape_of(method), f"{plugin.__name__}.{name}"


@pytest.mark.parametrize("plugin", [NumpyBackend, ReferenceBackend, LoopbackBackend])
def test_cores_backends_take_what_the_contract_gives(plugin):
    check_methods(plugin)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_each_plugin_takes_what_the_contract_gives(name):
    plugin = loaded(name)
    assert issubclass(plugin, Overlay if "." in name else Backend)
    assert plugin.name == name
    check_methods(plugin)


def test_a_method_that_takes_something_else_is_found():
    class Wrong(NumpyBackend):
        def varlen_sum(self, x, layout, empty):
            return x

    with pytest.raises(AssertionError, match=r"Wrong.varlen_sum"):
        check_methods(Wrong)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_has_one_idea(path):
    kernel = "kernels" in path.parts or "scree_triton" in path.parts
    lines = len((ROOT / path).read_text().splitlines())
    assert lines <= (500 if kernel else 400), f"{path} has {lines} lines: look for the second idea"
    assert path.stem.strip("_") not in ("utils", "util", "common", "helpers", "helper", "misc"), (
        f"{path}: name the idea"
    )


def files():
    """Return every text file that is tracked or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


MACHINE = re.compile(r"(?<![\w.:/])/(work|home|root|Users|tmp/\w)[/\w]")


def test_no_file_names_a_path_of_somebodys_machine():
    found = []
    for path in files():
        if path.suffix not in (".png", ".svg", ".gif", ".ico"):
            lines = path.read_text(errors="replace").splitlines()
            found += [
                f"{path.relative_to(ROOT)}:{i}: {text}" for i, text in enumerate(lines, 1) if MACHINE.search(text)
            ]
    assert found == []


def test_a_path_of_somebodys_machine_would_be_found():
    for name in ("work", "home", "Users"):
        assert MACHINE.search(f"see /{name}/main/notes")
    assert not MACHINE.search("https://example.org/work/main and packages/work/main")


def test_the_pinned_versions_name_no_package_index():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert " @ " not in text
