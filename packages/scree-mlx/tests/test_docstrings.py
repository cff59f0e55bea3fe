"""The examples of docstrings run."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["compilation", "differentiation", "mapping"])
def test_examples_run(name):
    module = importlib.import_module(f"scree_mlx.{name}")
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]
    assert tests
    said = []
    for test in tests:
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert said == []
