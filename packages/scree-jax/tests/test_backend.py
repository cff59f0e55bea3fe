"""What the backend says of JAX arrays, and its gradients."""

import operator
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scree
from scree_core.protocols import Namespace
from scree_jax import namespace
from scree_jax.backend import JaxBackend

backend = JaxBackend()


@pytest.fixture
def arr():
    return scree.from_lengths(jnp.arange(10.0).reshape(5, 2), [2, 0, 3])


def test_import_of_the_package_imports_no_jax():
    code = "import sys, scree_jax; assert 'jax' not in sys.modules, 'jax was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_backend_is_found_by_its_entry_point(arr):
    assert type(arr.backend) is JaxBackend


def test_namespace_has_the_names_of_the_protocol_alone():
    assert sorted(namespace.__all__) == sorted(Namespace.__annotations__)


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "eq", "ne"]
)
def test_jax_arrays_on_the_left_of_an_operator_give_an_array(arr, name):
    op, dense = getattr(operator, name), jnp.array([3.0, 4.0])
    out = op(dense, arr)
    assert out.layout is arr.layout
    np.testing.assert_array_equal(out.values, op(dense, arr.values))


def test_arrays_survive_pickling(arr):
    back = pickle.loads(pickle.dumps(arr))
    assert back.values.tolist() == arr.values.tolist()
    assert back.offsets.tolist() == [0, 2, 2, 5]


def test_broken_offsets_are_refused_by_validate():
    arr = scree.Array(jnp.zeros(2), jnp.array([0, 3, 2]))
    with pytest.raises(scree.ShapeError, match="non-decreasing"):
        arr.validate()


def test_device_names_platform_and_number(arr):
    assert arr.device == f"{jax.devices()[0].platform}:0"
    assert backend.version() == jax.__version__


def test_vjp_gives_zeros_for_unused_and_integer_inputs():
    x, unused, index = jnp.arange(3.0), jnp.ones((2, 2)), jnp.array([2, 0])
    grads = backend.vjp(lambda x, unused, index: (x[index] * 2, index), (x, unused, index), (jnp.ones(2), index))
    assert [g.tolist() for g in grads] == [[2, 0, 2], [[0, 0], [0, 0]], [0, 0]]
    assert [g.dtype for g in grads] == [x.dtype, unused.dtype, index.dtype]


@pytest.mark.parametrize("op", [scree.varlen_max, scree.varlen_min])
def test_ties_share_the_gradient_equally(op):
    arr = scree.from_lengths(jnp.full(5, 2.0), [2, 3])
    (grad,) = backend.vjp(lambda x: (op(arr.with_values(x)),), (arr.values,), (jnp.ones(2),))
    np.testing.assert_allclose(grad, [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])


def test_bfloat16_is_added_up_in_float32():
    arr = scree.from_lengths(jnp.ones(4096, jnp.bfloat16), [4096])
    out = scree.varlen_sum(arr)
    assert out.dtype == jnp.bfloat16
    assert out.tolist() == [4096]


def precision_of(fn, *args):
    (dot,) = [eqn for eqn in jax.make_jaxpr(fn)(*args).eqns if eqn.primitive.name == "dot_general"]
    return dot.params["precision"]


def test_matmul_is_as_precise_as_its_dtype_unless_the_user_chose():
    def multiply(a):
        return namespace.matmul(a, a)

    a = jnp.ones((2, 2))
    highest = jax.lax.Precision.HIGHEST
    assert precision_of(multiply, a) == (highest, highest)
    with jax.default_matmul_precision("bfloat16"):
        assert precision_of(multiply, a) != (highest, highest)
