"""JAX arrays from NumPy: nothing narrowed without a word."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import scree
from scree_jax import aligned
from scree_jax.backend import JaxBackend
from scree_jax.convert import from_numpy

backend = JaxBackend()


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def test_float64_is_refused_with_both_mends():
    with pytest.raises(scree.ShapeError, match=r'round float64 to float32: cast it.*jax_enable_x64", True'):
        from_numpy(np.zeros(3))
    with pytest.raises(scree.ShapeError, match="round complex128 to complex64"):
        from_numpy(np.zeros(3, complex))


def test_int64_that_fits_becomes_int32():
    out = from_numpy(np.array([-(2**31), 2**31 - 1]))
    assert out.dtype == jnp.int32
    assert out.tolist() == [-(2**31), 2**31 - 1]
    assert from_numpy(np.array([2**32 - 1], np.uint64)).dtype == jnp.uint32
    assert from_numpy(np.zeros(0, np.int64)).dtype == jnp.int32


@pytest.mark.parametrize("values", [[2**31], [-(2**31) - 1]])
def test_int64_that_does_not_fit_is_refused(values):
    with pytest.raises(scree.ShapeError, match=r"without x64 has no int64.*fit int32; set jax.config"):
        from_numpy(np.array(values))


def test_64_bits_stay_where_x64_is_on(x64):
    assert from_numpy(np.array([1 / 3]))[0] == 1 / 3
    assert int(from_numpy(np.array([2**40]))[0]) == 2**40
    arr = scree.Array(jnp.zeros(3), jnp.array([0, 1, 3]))
    assert (arr.dtype, arr.offsets.dtype) == (jnp.float64, jnp.int64)
    assert scree.varlen_sum(arr.astype("int32")).dtype == jnp.int64


@pytest.mark.parametrize(
    "a",
    [
        pytest.param(np.arange(6, dtype=np.int32)[::-2], id="negative strides"),
        pytest.param(np.arange(3, dtype=">f4"), id="big endian"),
        pytest.param(np.broadcast_to(np.float16(2), (3, 2)), id="broadcast"),
        pytest.param(np.arange(3).astype(ml_dtypes.bfloat16), id="bfloat16"),
        pytest.param(np.array(True), id="scalar"),
    ],
)
def test_values_dtype_and_shape_survive_the_round_trip(a):
    back = backend.to_numpy(from_numpy(a))
    assert (back.dtype, back.shape) == (a.dtype.newbyteorder("="), a.shape)
    assert back.tobytes() == a.astype(back.dtype).tobytes()


def test_writing_to_the_source_later_changes_nothing():
    # JAX aliases host memory that is aligned to 64 bytes.
    raw = np.zeros(4096 + 64, np.uint8)
    a = raw[-raw.ctypes.data % 64 :][:4096].view(np.float32)
    out = from_numpy(a)
    a[:] = 7
    assert not out.any()


def test_arrays_are_concrete_under_a_trace():
    @jax.jit
    def f(x):
        made = from_numpy(np.arange(3, dtype=np.int32), x)
        assert not isinstance(made, jax.core.Tracer)
        return x + made

    assert f(jnp.ones(3)).tolist() == [1, 2, 3]


def test_device_follows_what_is_committed():
    device = jax.devices()[0]
    committed = jax.device_put(jnp.ones(3), device)
    assert from_numpy(np.zeros(2, np.float32), committed).devices() == {device}
    assert not from_numpy(np.zeros(2, np.float32), jnp.ones(3)).committed


def test_offsets_are_replicated_beside_sharded_values():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data", None))
    arr = scree.from_lengths(jax.device_put(jnp.ones((4, 2)), sharding), [1, 3])
    assert arr.offsets.sharding == jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    assert arr.segment_ids.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("shape", [(1000, 7), (3,), (), (0, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int8", "bool"])
def test_aligned_memory_is_used_in_place(shape, dtype):
    own = aligned.empty(shape, dtype)
    assert (own.shape, own.dtype) == (shape, dtype)
    own[...] = 1
    there = jax.device_put(own, jax.devices("cpu")[0])
    assert (np.asarray(there) == 1).all()
    if own.size > 10:
        assert there.unsafe_buffer_pointer() == own.ctypes.data


@pytest.mark.parametrize("count", [0, 1, 1000, 100_003])
def test_a_gather_in_several_threads_is_the_gather(count, monkeypatch):
    monkeypatch.setattr(aligned, "SHARE", 2**18)
    monkeypatch.setattr(aligned, "_cores", lambda: 3)
    x = np.random.default_rng(0).standard_normal((500, 4)).astype(np.float32)
    index = np.random.default_rng(1).integers(0, 500, count)
    np.testing.assert_array_equal(aligned.take(x, index), x[index])
