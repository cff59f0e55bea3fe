"""Docstrings: every example runs, and every public function documents what it takes and gives."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import scree_core

MODULES = ["scree_core", *(m.name for m in pkgutil.walk_packages(scree_core.__path__, "scree_core."))]
PUBLIC = {name: getattr(scree_core, name) for name in scree_core.__all__}
FUNCTIONS = {name: obj for name, obj in PUBLIC.items() if inspect.isfunction(obj)}
REFERENCE = {
    f"reference.{name}": obj
    for name in scree_core.reference.__all__
    if inspect.isfunction(obj := getattr(scree_core.reference, name))
}
CLASSES = {name: obj for name, obj in PUBLIC.items() if inspect.isclass(obj)}


def examples():
    for name in MODULES:
        module = importlib.import_module(name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, name, module):
            if test.examples:
                yield test


EXAMPLES = list(examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name.removeprefix("scree_core."))
def test_example_runs(example, plugins):
    """With NumPy as the one backend, so that no framework is imported and no output depends on what is installed."""
    assert run(example) == ""


def run(example):
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False).run(example, out=said.append)
    return "".join(said)


def test_examples_were_found_at_all():
    found = {example.name.rsplit(".", 1)[-1] for example in EXAMPLES}
    assert {*scree_core.ops.__all__, *scree_core.construct.__all__} - found <= {"zeros_like", "empty_like"}


def test_an_example_that_is_wrong_fails():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert "Expected:\n    3\nGot:\n    2\n" in run(wrong)


def section(obj, title):
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w+\n-+$|\Z)", inspect.getdoc(obj), re.MULTILINE | re.DOTALL)
    return found and found[1]


def parameters(obj):
    return [name for name in inspect.signature(obj).parameters if name not in ("self", "xp")]


@pytest.mark.parametrize("name", {**FUNCTIONS, **REFERENCE})
def test_every_parameter_is_documented(name):
    obj = {**FUNCTIONS, **REFERENCE}[name]
    documented = section(obj, "Parameters") or ""
    named = set(re.findall(r"\w+", " ".join(re.findall(r"^[*\w].*", documented, re.MULTILINE))))
    assert set(parameters(obj)) <= named, f"{name} says nothing of {set(parameters(obj)) - named}"


@pytest.mark.parametrize("name", {**FUNCTIONS, **REFERENCE})
def test_every_result_is_documented(name):
    obj = {**FUNCTIONS, **REFERENCE}[name]
    returned = inspect.signature(obj).return_annotation
    if str(returned) not in ("None", "Iterator[None]", "Iterator[tuple[int, int]]"):
        assert section(obj, "Returns")


@pytest.mark.parametrize("name", scree_core.ops.__all__)
def test_every_op_documents_errors_notes_and_an_example(name):
    assert all(section(PUBLIC[name], title) for title in ("Raises", "Notes", "Examples"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_is_typed(name):
    signature = inspect.signature(FUNCTIONS[name])
    assert signature.return_annotation is not inspect.Signature.empty
    untyped = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert untyped == []


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_and_method_has_a_docstring(name):
    cls = CLASSES[name]
    assert cls.__doc__
    for attribute, value in vars(cls).items():
        if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, (property, classmethod))):
            assert inspect.getdoc(getattr(cls, attribute)), f"{name}.{attribute} has no docstring"
