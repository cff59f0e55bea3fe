"""The errors: each is also the built-in exception that a caller would expect."""

import pickle

import pytest

import scree_core as scree

BUILT_IN = {
    "ArgumentError": ValueError,
    "ShapeError": ValueError,
    "ArgumentTypeError": TypeError,
    "BackendNotInstalledError": ImportError,
    "BackendLoadError": ImportError,
    "UnsupportedError": NotImplementedError,
}


@pytest.mark.parametrize(("name", "base"), BUILT_IN.items())
def test_each_error_is_a_scree_error_and_a_built_in_one(name, base):
    error = getattr(scree, name)
    assert issubclass(error, scree.ScreeError)
    assert issubclass(error, base)
    assert str(error("what is wrong")) == "what is wrong"


def test_the_table_above_names_every_error():
    found = {n for n in scree.__all__ if isinstance(e := getattr(scree, n), type) and issubclass(e, Exception)}
    assert found == {*BUILT_IN, "ScreeError"}


def test_a_shape_error_is_an_argument_error():
    assert issubclass(scree.ShapeError, scree.ArgumentError)


@pytest.mark.parametrize("name", BUILT_IN)
def test_errors_survive_pickling(name):
    back = pickle.loads(pickle.dumps(getattr(scree, name)("message")))
    assert (type(back).__name__, back.args) == (name, ("message",))
