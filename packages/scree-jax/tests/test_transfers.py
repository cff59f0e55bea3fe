"""No op moves anything between host and device behind one's back: all run where JAX forbids it."""

import jax
import jax.numpy as jnp
import pytest

import scree


@pytest.fixture
def with_tail(arr):
    return scree.Array(jnp.concatenate([arr.values, jnp.ones((5, 2, 8))]), arr.offsets, tail=True)


@pytest.fixture
def no_transfers():
    with jax.transfer_guard("disallow"):
        yield


def test_ops_are_silent(op, arr, no_transfers):
    op(arr)


def test_ops_are_silent_under_jit(op, arr, no_transfers):
    jax.jit(op)(arr)


def test_ops_on_a_tail_are_silent(op, with_tail, no_transfers):
    op(with_tail)


def test_selecting_and_packing_rows_is_silent(arr, no_transfers):
    assert arr[[4, 0, 2]].layout.max_length == 70
    assert scree.pack([arr.values, arr.values]).total_length == 158
    assert scree.concat([arr, arr]).batch_size == 10


def test_what_reads_the_offsets_reads_them_once(arr):
    unknown = scree.Array(arr.values, arr.offsets)
    with jax.transfer_guard("disallow"):
        padded, _ = scree.to_padded(unknown)  # explicitly, which the guard lets pass
    assert padded.shape == (5, 70, 2, 8)
    assert unknown.layout._derived["host_offsets"].tolist() == arr.offsets.tolist()
