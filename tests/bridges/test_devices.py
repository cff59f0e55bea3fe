"""Between libraries on one GPU nothing goes through the host: memory is shared there, or copied there."""

import numpy as np
import pytest

import scree
from scree_core.errors import UnsupportedError
from scree_core.registry import load

pytestmark = pytest.mark.cuda
LIBRARIES = ("torch", "jax", "cupy")
PAIRS = [(a, b) for a in LIBRARIES for b in LIBRARIES if a != b]
HOST = np.arange(24, dtype=np.float32).reshape(6, 4)


def on_a_gpu(x):
    """Tell whether an array is in a GPU's memory."""
    kind, _ = x.__dlpack_device__()
    return int(kind) != 1


def rows(library):
    """Make rows on the first GPU, whose offsets are there too."""
    pytest.importorskip(library, reason=f"{library} isn't installed")
    values, offsets = HOST, np.array([0, 2, 2, 6], np.int32)
    if library == "torch":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("torch has no GPU here")
        arr = scree.Array(torch.from_numpy(values).cuda(), torch.from_numpy(offsets).cuda())
    else:
        backend = load(library)
        arr = scree.Array(backend.from_numpy(values), backend.from_numpy(offsets))
    if not on_a_gpu(arr.values):
        pytest.skip(f"{library} has no GPU here")
    return arr


def address(x):
    """Return where an array's memory begins on its device."""
    if hasattr(x, "unsafe_buffer_pointer"):
        return x.unsafe_buffer_pointer()
    return x.data_ptr() if hasattr(x, "data_ptr") else x.data.ptr


def is_shared(x, y):
    return address(x) == address(y)


@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_rows_stay_on_their_device(source, target, copy, monkeypatch):
    pytest.importorskip(target)
    arr = rows(source)
    to_numpy = type(arr.backend).to_numpy

    def of_offsets_alone(self, x):
        assert x is not arr.values, "they went through the host"
        return to_numpy(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(type(arr.backend), "to_numpy", of_offsets_alone)
        found = scree.bridges.convert(arr, target, copy=copy)
    assert found.backend.name == target
    assert on_a_gpu(found.values)
    assert on_a_gpu(found.offsets)
    shares = copy is False or (copy is None and "jax" not in (source, target))
    assert is_shared(arr.values, found.values) == shares
    back = scree.bridges.to_numpy(found)
    assert np.array_equal(back.values, HOST)
    assert back.offsets.tolist() == [0, 2, 2, 6]


@pytest.mark.parametrize("library", LIBRARIES)
def test_numpy_takes_a_copy_or_refuses(library):
    arr = rows(library)
    assert np.array_equal(scree.bridges.to_numpy(arr).values, HOST)
    with pytest.raises(UnsupportedError, match="can't share the memory"):
        scree.bridges.to_numpy(arr, copy=False)


@pytest.mark.parametrize("target", LIBRARIES)
def test_what_numpy_has_goes_to_the_default_device(target):
    rows(target)
    arr = scree.from_lengths(HOST, [2, 0, 4])
    found = scree.bridges.convert(arr, target)
    assert np.array_equal(scree.bridges.to_numpy(found).values, HOST)
    assert on_a_gpu(found.values) == (target != "torch")
    assert on_a_gpu(found.offsets) == on_a_gpu(found.values)


def test_a_tensor_that_wants_gradients_is_taken_without_them():
    arr = rows("torch")
    arr = arr.with_values(arr.values.requires_grad_())
    for target in ("jax", "cupy"):
        pytest.importorskip(target)
        for copy in (None, False):
            assert np.array_equal(scree.bridges.to_numpy(scree.bridges.convert(arr, target, copy=copy)).values, HOST)


def test_ops_of_cupy_are_those_of_numpy():
    arr = rows("cupy")
    got = scree.bridges.to_numpy(scree.varlen_softmax(arr)).values
    want = scree.varlen_softmax(scree.from_lengths(HOST, [2, 0, 4])).values
    np.testing.assert_allclose(got, want, rtol=1e-6)
