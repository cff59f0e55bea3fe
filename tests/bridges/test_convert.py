"""Every pair of array libraries: what shares memory, what is copied, what is refused; nothing is narrowed unsaid."""

import importlib
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import scree
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError, UnsupportedError
from scree_core.registry import backend_of, load

LIBRARIES = ("numpy", "torch", "jax", "mlx")
MODULES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy", "mlx": "mlx.core"}
PAIRS = [(a, b) for a in LIBRARIES for b in LIBRARIES]
OTHERS = [(a, b) for a, b in PAIRS if a != b]
DTYPES = ("bool", "int8", "int32", "float16", "bfloat16", "float32")
WIDE = ("int64", "float64")
PAGE = Path(__file__).parents[2] / "docs" / "bridges.md"


def module(name):
    required = name in os.environ.get("SCREE_REQUIRE", "").split(",")
    return importlib.import_module(MODULES[name]) if required else pytest.importorskip(MODULES[name])


def aligned(shape, dtype):
    """Return NumPy's memory at a multiple of 64 bytes, without which JAX takes none."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def rows(library, dtype="float32", offset_dtype=np.int32, **more):
    """Make rows of numbers that all dtypes hold, in memory that every library could take."""
    if library == "jax" and module(library).ones(1).device.platform != "cpu":
        pytest.skip("JAX's arrays are on a GPU here; test_devices has those")
    module(library)
    host = aligned((6, 4), ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    host[...] = np.arange(24).reshape(6, 4) % 2
    backend = load(library)
    return scree.Array(backend.from_numpy(host), backend.from_numpy(np.array([0, 2, 2, 6], offset_dtype)), **more)


def address(x):
    """Return where an array's memory begins."""
    if isinstance(x, np.ndarray):
        return x.ctypes.data
    for name in ("data_ptr", "unsafe_buffer_pointer"):
        if hasattr(x, name):
            return getattr(x, name)()
    return backend_of(x).to_numpy(x).ctypes.data


def outcome(arr, to, copy):
    """Return what happens: whether memory is shared, copied, or the call refused."""
    try:
        out = scree.bridges.convert(arr, to, copy=copy)
    except UnsupportedError:
        return "refused"
    if out is arr:
        return "the same object"
    return "shared" if address(out.values) == address(arr.values) else "copied"


WANTED = {
    ("numpy", "torch"): ("shared", "shared"),
    ("numpy", "jax"): ("copied", "shared"),
    ("numpy", "mlx"): ("copied", "refused"),
    ("torch", "numpy"): ("shared", "shared"),
    ("torch", "jax"): ("copied", "shared"),
    ("torch", "mlx"): ("copied", "refused"),
    ("jax", "numpy"): ("shared, read-only", "shared, read-only"),
    ("jax", "torch"): ("copied", "shared"),
    ("jax", "mlx"): ("copied", "refused"),
    ("mlx", "numpy"): ("shared, read-only", "shared, read-only"),
    ("mlx", "torch"): ("copied", "shared"),
    ("mlx", "jax"): ("copied", "by its place: shared or refused"),
}
"""By default, and with ``copy=False``; on the CPU."""


def lines():
    """Return the table of ``docs/bridges.md``."""
    yield "| from | to | by default | `copy=False` |"
    yield "| --- | --- | --- | --- |"
    for (source, target), (default, shared) in WANTED.items():
        yield f"| {source} | {target} | {default} | {shared} |"


def test_the_page_has_this_table():
    assert "\n".join(lines()) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("pair", OTHERS, ids="-".join)
def test_memory_is_shared_as_the_table_says(pair):
    source, target = pair
    module(source)
    module(target)
    arr = rows(source)
    default, shared = WANTED[pair]
    assert outcome(arr, target, None) == default.split(",")[0]
    assert outcome(arr, target, True) == "copied"
    assert outcome(arr, target, False) in (
        ("shared", "refused") if shared.startswith("by") else (shared.split(",")[0],)
    )
    if "read-only" in default:
        assert not scree.bridges.convert(arr, target).values.flags.writeable
        assert scree.bridges.convert(arr, target, copy=True).values.flags.writeable


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_gives_its_own_arrays_back(library):
    arr = rows(library)
    assert scree.bridges.convert(arr, library) is arr
    assert scree.bridges.convert(arr, library, copy=False) is arr
    copy = scree.bridges.convert(arr, library, copy=True)
    assert address(copy.values) != address(arr.values)
    assert copy.layout is arr.layout or library == "torch"


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("copy", [None, True])
def test_values_dtype_and_rows_come_over(pair, dtype, copy):
    source, target = pair
    module(source)
    module(target)
    arr = rows(source, dtype)
    out = scree.bridges.convert(arr, target, copy=copy)
    backend = load(target)
    assert out.backend is backend
    assert backend.dtype_name(out.values) == dtype
    assert np.array_equal(backend.to_numpy(out.values), load(source).to_numpy(arr.values))
    assert backend.to_numpy(out.offsets).tolist() == [0, 2, 2, 6]
    # On libraries whose offsets are read from memory the hints come along.
    assert (out.max_length, out.min_length) in ((arr.max_length, arr.min_length), (4, 0))


@pytest.mark.parametrize("pair", OTHERS, ids="-".join)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_shared_has_the_same_values(pair, dtype):
    source, target = pair
    module(source)
    module(target)
    arr = rows(source, dtype)
    if outcome(arr, target, False) == "refused":
        with pytest.raises(UnsupportedError, match="can't share the memory of these"):
            scree.bridges.convert(arr, target, copy=False)
        return
    out = scree.bridges.convert(arr, target, copy=False)
    assert address(out.values) == address(arr.values)
    assert load(target).dtype_name(out.values) == dtype
    assert np.array_equal(load(target).to_numpy(out.values), load(source).to_numpy(arr.values))


@pytest.mark.parametrize("pair", OTHERS, ids="-".join)
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("copy", [None, True, False])
def test_nothing_is_narrowed_without_a_word(pair, dtype, copy):
    source, target = pair
    module(source)
    module(target)
    if source == "jax":
        pytest.skip("JAX without x64 has no 64 bits")
    arr = rows(source, dtype)
    if target == "jax":
        with pytest.raises(ShapeError, match=f'JAX has no {dtype} without x64: .*astype\\("(int|float)32"\\)'):
            scree.bridges.convert(arr, target, copy=copy)
    elif target == "mlx" and copy is False:
        with pytest.raises(UnsupportedError, match="MLX takes no other library's memory"):
            scree.bridges.convert(arr, target, copy=copy)
    else:
        out = scree.bridges.convert(arr, target, copy=copy)
        assert load(target).dtype_name(out.values) == dtype


@pytest.mark.parametrize("pair", OTHERS, ids="-".join)
def test_wide_offsets_come_over(pair):
    source, target = pair
    module(source)
    module(target)
    if source == "jax":
        pytest.skip("JAX without x64 has no 64 bits")
    out = scree.bridges.convert(rows(source, offset_dtype=np.int64), target)
    offsets = load(target).to_numpy(out.offsets)
    assert offsets.tolist() == [0, 2, 2, 6]
    assert offsets.dtype == (np.int32 if target == "jax" else np.int64)


@pytest.mark.parametrize("pair", OTHERS, ids="-".join)
def test_an_axis_and_a_tail_come_over(pair):
    source, target = pair
    module(source)
    module(target)
    host = aligned((3, 8), np.float32)
    backend = load(source)
    offsets = backend.from_numpy(np.array([0, 2, 6], np.int32))
    arr = scree.Array(backend.from_numpy(host), offsets, ragged_dim=1, tail=True)
    out = scree.bridges.convert(arr, target)
    assert (out.ragged_dim, out.layout.tail, out.total_length) == (1, True, 8)


@pytest.mark.parametrize("pair", OTHERS, ids="-".join)
@pytest.mark.parametrize("shape", [(0, 3), (0,)])
def test_batches_of_nothing_come_over(pair, shape):
    source, target = pair
    module(source)
    module(target)
    backend = load(source)
    arr = scree.Array(backend.from_numpy(np.zeros(shape, np.float32)), backend.from_numpy(np.zeros(1, np.int32)))
    out = scree.bridges.convert(arr, target)
    assert tuple(out.values.shape) == shape
    assert out.layout.batch_size == 0


@pytest.mark.parametrize("target", ["torch", "jax", "mlx"])
@pytest.mark.parametrize("copy", [None, True])
def test_memory_in_any_order_comes_over(target, copy):
    module(target)
    host = np.arange(24, dtype=">f4").reshape(4, 6).T[::-1]
    host.flags.writeable = False
    out = scree.bridges.convert(scree.from_lengths(host, [2, 4]), target, copy=copy)
    assert np.array_equal(load(target).to_numpy(out.values), host)


ODD = {
    "negative strides": lambda: np.zeros((6, 4), np.float32)[::-1],
    "a foreign byte order": lambda: np.zeros((6, 4), ">f4"),
}


@pytest.mark.parametrize("target", ["torch", "jax", "mlx"])
@pytest.mark.parametrize("kind", ODD)
def test_memory_that_no_tensor_has_is_not_shared(target, kind):
    module(target)
    with pytest.raises(UnsupportedError, match=f"{target} can't share the memory of these numpy values: .*copy=None"):
        scree.bridges.convert(scree.from_lengths(ODD[kind](), [2, 4]), target, copy=False)


def test_read_only_memory_is_shared_with_torch_only_on_demand():
    module("torch")
    host = np.zeros((3, 2), np.float32)
    host.flags.writeable = False
    arr = scree.from_lengths(host, [1, 2])
    assert outcome(arr, "torch", None) == "copied"
    assert outcome(arr, "torch", False) == "shared"


def test_a_gradient_stops_on_the_way_to_jax_and_not_within_torch():
    torch = module("torch")
    values = torch.ones(6, 4, requires_grad=True)
    arr = scree.from_lengths(values, [2, 4])
    assert scree.bridges.convert(arr, "torch", copy=True).values.requires_grad
    module("jax")
    assert outcome(arr, "jax", None) == "copied"


def test_traced_values_are_refused():
    module("torch")
    jax = pytest.importorskip("jax")
    offsets = jax.numpy.array([0, 2, 6])

    @jax.jit
    def traced(x):
        return scree.bridges.convert(scree.Array(x, offsets), "torch", copy=False).values

    with pytest.raises(UnsupportedError, match="traced array"):
        traced(jax.numpy.zeros((6, 4)))


def test_an_overlay_has_no_arrays():
    with pytest.raises(ArgumentError, match=r"to='torch\.triton' is an overlay, .* convert to 'torch'"):
        scree.bridges.convert(rows("numpy"), "torch.triton")


def test_an_unknown_library_is_named():
    with pytest.raises(scree.BackendNotInstalledError, match="abacus"):
        scree.bridges.convert(rows("numpy"), "abacus")


@pytest.mark.parametrize("library", LIBRARIES)
def test_copy_is_true_false_or_none(library):
    module(library)
    with pytest.raises(ArgumentTypeError, match="copy must be True, False or None, got 1"):
        scree.bridges.convert(rows("numpy"), library, copy=1)
    with pytest.raises(ArgumentTypeError, match=r"arr must be a scree\.Array, got ndarray"):
        scree.bridges.convert(np.zeros(3), library)
