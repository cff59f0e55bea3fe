"""Libraries that follow the array API standard need no package of their own; CuPy is such a one."""

import contextlib
import sys
from types import ModuleType

import array_api_strict
import ml_dtypes
import numpy as np
import pytest

import scree_core as scree
from scree_core import array_api, registry
from scree_core.protocols import Namespace

ARRAY = type(array_api_strict.asarray(0))


def strict(values, dtype="float32"):
    return array_api_strict.asarray(np.asarray(values, dtype))


def test_its_arrays_are_taken_as_they_are(plugins):
    values = strict([1, 2, 3])
    arr = scree.from_lengths(values, [1, 2])
    assert arr.values is values
    assert type(arr.offsets) is ARRAY
    assert arr.backend.name == "array_api_strict"
    assert scree.explain("varlen_sum", arr).chosen == "array_api_strict"
    assert arr.backend.to_numpy(scree.varlen_sum(arr)).tolist() == [1, 5]


def test_it_is_one_backend_however_it_is_found(plugins):
    by_name = registry.load("array_api_strict")
    assert registry.backend_of(strict([1])) is by_name
    assert by_name.version() == array_api_strict.__version__
    assert by_name.array_types() == (ARRAY,)


def test_it_can_be_asked_for_by_name(plugins):
    arr = scree.from_lengths(strict([1, 2, 3]), [1, 2])
    assert arr.backend.to_numpy(scree.varlen_sum(arr, backend="array_api_strict")).tolist() == [1, 5]
    with pytest.raises(scree.UnsupportedError, match="works on arrays of 'array_api_strict', these belong to 'numpy'"):
        scree.varlen_sum(scree.from_lengths(np.ones(3), [1, 2]), backend="array_api_strict")


def test_one_that_was_met_is_listed(plugins):
    assert "array_api_strict" not in [state.name for state in scree.backends()]
    scree.from_lengths(strict([1, 2, 3]), [1, 2])
    (state,) = (state for state in scree.backends() if state.name == "array_api_strict")
    assert state.state == "ok"
    assert set(state.ops.values()) == {"default"}


def test_offsets_in_host_memory_are_checked_when_an_array_is_made(plugins):
    with pytest.raises(scree.ShapeError, match="offsets"):
        scree.Array(strict([1, 2, 3]), strict([0, 2, 1, 3], "int32"))


def test_arrays_on_two_devices_are_refused(plugins):
    there = array_api_strict.Device("device1")
    q, k = (array_api_strict.zeros((3, 1, 4), device=device) for device in (None, there))
    assert not registry.backend_of(q).beside(q, k)
    assert registry.backend_of(q).from_numpy(np.zeros(2), like=k).device == there


def test_memory_that_numpy_lends_is_copied(plugins):
    host = np.zeros(3, np.float32)
    made = registry.load("array_api_strict").from_numpy(host)
    made[0] = 1
    assert host[0] == 0


def test_a_dtype_that_the_library_lacks_is_named(plugins):
    backend = registry.load("array_api_strict")
    with pytest.raises(scree.UnsupportedError, match="array_api_strict makes no array of NumPy's bfloat16"):
        backend.from_numpy(np.zeros(3, ml_dtypes.bfloat16))


# ------------------------------------------------------------------ what isn't taken


def array_type(module, **attributes):
    return type("Tensor", (), {"__module__": module, **attributes})


def test_libraries_that_have_a_package_of_ours_are_left_to_it(plugins):
    follows = {"__array_namespace__": None, "__dlpack__": None}
    with pytest.raises(scree.BackendNotInstalledError, match=r'pip install "scree\[jax\]"'):
        registry.candidates(array_type("jaxlib._jax", **follows))


@pytest.mark.parametrize("lacks", ["__array_namespace__", "__dlpack__"])
def test_types_that_follow_half_of_the_standard_are_not_taken(plugins, lacks):
    has = {"__array_namespace__": None, "__dlpack__": None}
    del has[lacks]
    with pytest.raises(scree.BackendNotInstalledError, match="no scree backend is installed for array_api_strict"):
        registry.candidates(array_type("array_api_strict", **has))


def test_a_namespace_without_the_functions_is_not_taken(plugins):
    with pytest.raises(scree.BackendNotInstalledError, match="no scree backend is installed for math"):
        registry.candidates(array_type("math", __array_namespace__=None, __dlpack__=None))


@pytest.mark.parametrize("name", ["math", "nowhere_to_be_found", "no name", ""])
def test_names_of_no_such_library_are_refused(plugins, name):
    with pytest.raises(scree.BackendNotInstalledError, match=f"no scree backend '{name}' is installed"):
        registry.load(name)


def test_a_module_that_fails_to_import_says_so(plugins, tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        registry.load("broken_library")


def test_functions_in_a_submodule_are_found(plugins, monkeypatch):
    package, tensor = ModuleType("some_library"), ModuleType("some_library.tensor")
    for name in (*Namespace.__annotations__, "asarray"):
        setattr(tensor, name, getattr(array_api_strict, name))
    monkeypatch.setitem(sys.modules, "some_library", package)
    monkeypatch.setitem(sys.modules, "some_library.tensor", tensor)
    found = registry.candidates(
        array_type("some_library.tensor._array", __array_namespace__=None, __dlpack__=None)
    ).base
    assert (found.name, found.xp) == ("some_library", tensor)


# ------------------------------------------------------------------ CuPy


class FakeDevice:
    """A device that is made the current one, as CuPy's are."""

    def __init__(self, current):
        self._current = current

    @contextlib.contextmanager
    def _as_current(self):
        self._current.append(self)
        yield
        self._current.pop()

    def __enter__(self):
        self._context = self._as_current()
        return self._context.__enter__()

    def __exit__(self, *error):
        return self._context.__exit__(*error)


@pytest.fixture
def cupy(monkeypatch):
    """A module that calls itself cupy: NumPy's arrays, with a note of the device that was current."""
    current = [None]

    class FakeArray(array_type("cupy", __dlpack__=None)):
        def __init__(self, host):
            self.host, self.device = host, current[-1]
            self.shape, self.dtype = host.shape, host.dtype

        def get(self):
            return self.host

    module = ModuleType("cupy")
    for name in Namespace.__annotations__:
        setattr(module, name, getattr(np, name))
    module.asarray = lambda a, *, copy: FakeArray(np.array(a))
    module.arange = lambda stop, dtype: FakeArray(np.arange(stop, dtype=dtype))
    module.ndarray, module.current = FakeArray, current
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_cupy_has_a_current_device_where_the_standard_has_an_argument(plugins, cupy):
    backend = registry.load("cupy")
    assert isinstance(backend, array_api.CupyBackend)
    there = FakeDevice(cupy.current)
    with there:
        like = backend.from_numpy(np.zeros(1))
    assert backend.from_numpy(np.zeros(1)).device is None
    assert backend.from_numpy(np.zeros(1), like=like).device is there
    assert backend.xp.arange(3, dtype="int32", device=there).device is there
    assert backend.xp.arange(3, dtype="int32").device is None
    assert backend.to_numpy(like).tolist() == [0]
    assert cupy.current == [None]
