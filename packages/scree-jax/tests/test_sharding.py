"""Every op inside ``jax.shard_map`` on 8 devices, in a process that pretends to have them."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree

DEVICES = 8
MANY = jax.device_count() == DEVICES
on_many = pytest.mark.skipif(not MANY, reason="test_on_8_devices runs it in a process of its own")


@pytest.mark.skipif(MANY, reason="this is that process")
def test_on_8_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    ran = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout


@pytest.fixture
def mesh():
    return jax.sharding.Mesh(np.array(jax.devices()), ("data",))


@pytest.fixture
def batches():
    """Values ``(devices, total, heads, head_dim)``, and offsets ``(devices, batch + 1)``: other rows on each device."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((DEVICES, 40, 2, 8)).astype(np.float32)
    inner = np.sort(rng.integers(0, 41, (DEVICES, 4)), axis=1)
    ends = np.zeros((DEVICES, 1), int), np.full((DEVICES, 1), 40)
    return jnp.asarray(values), jnp.asarray(np.hstack([ends[0], inner, ends[1]]).astype(np.int32))


def sharded(op, mesh, values_everywhere=False, offsets_everywhere=False):
    """Return an op on whole batches, one for each device, and the sum of squares that gradients are taken of."""
    spec = jax.sharding.PartitionSpec

    def on_one(values, offsets):
        values = values if values_everywhere else values[0]
        offsets = offsets if offsets_everywhere else offsets[0]
        return op(scree.Array(values, offsets))[None]

    ins = (spec() if everywhere else spec("data") for everywhere in (values_everywhere, offsets_everywhere))
    mapped = jax.jit(jax.shard_map(on_one, mesh=mesh, in_specs=tuple(ins), out_specs=spec("data")))
    return mapped, jax.jit(jax.grad(lambda v, o: (mapped(v, o) ** 2).sum()))


def alone(op, values, offsets):
    """The same on one device, without a mesh."""

    def f(v):
        return op(scree.Array(v, offsets))

    return f(values), jax.grad(lambda v: (f(v) ** 2).sum())(values)


def assert_close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * max(1, np.abs(expected).max()))


@on_many
def test_each_device_has_its_own_rows(op, mesh, batches):
    results, grads = (f(*batches) for f in sharded(op, mesh))
    for i, batch in enumerate(zip(*batches, strict=True)):
        expected, grad = alone(op, *batch)
        assert_close(results[i], expected)
        assert_close(grads[i], grad)


@on_many
def test_offsets_may_be_the_same_everywhere(op, mesh, batches):
    values, offsets = batches[0], batches[1][0]
    results, grads = (f(values, offsets) for f in sharded(op, mesh, offsets_everywhere=True))
    expected, grad = alone(op, values[3], offsets)
    assert_close(results[3], expected)
    assert_close(grads[3], grad)


@on_many
def test_values_may_be_the_same_everywhere(op, mesh, batches):
    values, offsets = batches[0][0], batches[1]
    results, grads = (f(values, offsets) for f in sharded(op, mesh, values_everywhere=True))
    pairs = [alone(op, values, row) for row in offsets]
    assert_close(results[5], pairs[5][0])
    assert_close(grads, np.sum([grad for _, grad in pairs], axis=0))


@on_many
def test_arrays_go_in_and_out_whole(mesh, batches):
    stacked = scree.Array.trusted(batches[0], scree.Layout.trusted(batches[1]))
    spec = jax.sharding.PartitionSpec("data")

    def on_one(stacked):
        arr = jax.tree.map(lambda leaf: leaf[0], stacked)
        return jax.tree.map(lambda leaf: leaf[None], scree.varlen_attention(arr, arr, arr, causal=True))

    out = jax.jit(jax.shard_map(on_one, mesh=mesh, in_specs=spec, out_specs=spec))(stacked)
    assert_close(out.values[2], on_one(jax.tree.map(lambda leaf: leaf[2:3], stacked)).values[0])
