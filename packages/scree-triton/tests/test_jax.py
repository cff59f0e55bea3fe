"""The kernels on JAX arrays: who is asked, what is imported, and JAX's transformations."""

import importlib.util
import os
import subprocess
import sys

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import scree  # noqa: E402
from scree_core.dispatch import refusal  # noqa: E402
from scree_core.explain import prepared  # noqa: E402
from scree_jax import cudnn_overlay  # noqa: E402
from scree_triton.jax import library, overlay, tiles  # noqa: E402
from scree_triton.jax.overlay import JaxTritonOverlay  # noqa: E402

ISOLATED = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}


@pytest.fixture
def on_gpu(monkeypatch):
    """As where there is a GPU and all that is needed."""
    monkeypatch.setattr(overlay, "platform_of", lambda x: "gpu")
    monkeypatch.setattr(overlay, "not_installed", lambda: None)
    monkeypatch.setattr(overlay, "not_working", lambda: None)


@pytest.fixture
def x():
    return scree.from_lengths(jnp.ones((5, 4, 64), jnp.float16), [2, 3])


@pytest.fixture
def fresh():
    """Forget what was found out about this process, before and after."""
    for found in (library.not_installed, library.not_working):
        found.cache_clear()
    yield
    for found in (library.not_installed, library.not_working):
        found.cache_clear()


def reason(*arrays, **options):
    return refusal(JaxTritonOverlay(), prepared("varlen_attention", *arrays, **options))


def test_it_takes_every_option(on_gpu, x):
    assert reason(x, x, x) is None
    assert reason(x, x, x, causal=True, window=(3, 0), softcap=1.0, sinks=jnp.ones(4), return_lse=True) is None
    grouped = x.with_values(x.values[:, :2])
    assert reason(x, grouped, grouped.with_values(grouped.values[..., :7])) is None
    other = scree.from_lengths(x.values, [3, 2])
    assert reason(x, other, other, causal=True) is None


def test_it_says_why_not(on_gpu, x):
    assert "not int32" in overlay._why_not(*(x.values.astype(jnp.int32),) * 3, x.layout, x.layout)
    wide = x.with_values(jnp.ones((5, 4, 257), jnp.float16))
    assert reason(wide, wide, wide) == "head_dim must be at most 256, not 257"
    empty = scree.from_lengths(x.values[:0], [0, 0])
    assert reason(empty, empty, empty) == "there is nothing to compute"
    assert reason(x, *(scree.from_lengths(x.values[:0], [0, 0]),) * 2) == "there is nothing to compute"
    assert "no kernel for varlen_rope" in JaxTritonOverlay().why_not("varlen_rope", x.values)


def test_it_needs_a_gpu(monkeypatch, x):
    monkeypatch.setattr(overlay, "not_installed", lambda: None)
    x = jax.device_put(x, jax.devices("cpu")[0])
    assert reason(x, x, x) == "values are on cpu, need cuda"


def test_what_is_missing_comes_with_what_mends_it(monkeypatch, fresh, x):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax_triton" else object())
    assert reason(x, x, x) == "jax-triton is not installed: pip install jax-triton"
    library.not_installed.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert reason(x, x, x) == "triton is not installed: pip install triton"
    library.not_installed.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert reason(x, x, x) == "Triton needs Linux, this is darwin"


def test_the_interpreter_is_nothing_for_jax_triton(monkeypatch, fresh):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "TRITON_INTERPRET is set" in library.not_working()


@pytest.mark.parametrize(
    ("found", "expected"),
    [(70, "compute capability is 7.0, need 8.0"), (80, None), (ImportError("no GPU support"), "can't be loaded")],
)
def test_gpus_and_installations_that_do_not_work(monkeypatch, fresh, found, expected):
    def capability():
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(jax, "devices", lambda platform: [])
    monkeypatch.setattr(library, "capability", capability)
    got = library.not_working()
    assert got is None if expected is None else expected in got


def test_asking_imports_neither_torch_nor_triton_nor_jax_triton():
    code = (
        "import sys, jax.numpy as jnp, scree; x = scree.from_lengths(jnp.ones((5, 2, 16)), [2, 3]);"
        "assert 'jax.triton' in str(scree.explain('varlen_attention', x, x, x));"
        "found = {'torch', 'triton', 'jax_triton'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=ISOLATED)


def test_the_kernels_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None;"
        "import scree_triton.jax.kernels.plain, scree_triton.jax.kernels.hopper;"
        "import scree_triton.jax.attention, scree_triton.jax.overlay;"
        "assert 'scree_torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=ISOLATED)


def test_the_path_of_tritons_cache_is_left_alone(monkeypatch):
    code = (
        "import os, sys, types; from scree_triton.jax import library\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'jax_triton':\n"
        "            os.environ['TRITON_CACHE_DIR'] = ''\n"
        "            sys.modules[name] = types.ModuleType(name)\n"
        "            import importlib.machinery\n"
        "            return importlib.machinery.ModuleSpec(name, self)\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module): pass\n"
        "sys.meta_path.insert(0, Finder())\n"
        "library._library(); assert os.environ['TRITON_CACHE_DIR'] == sys.argv[1]"
    )
    subprocess.run([sys.executable, "-c", code, "/kept"], check=True, env={**ISOLATED, "TRITON_CACHE_DIR": "/kept"})


@pytest.fixture
def arr():
    values = np.random.default_rng(0).standard_normal((12, 2, 16)).astype(np.float32)
    return scree.from_lengths(jnp.asarray(values), [3, 0, 9])


def attend(arr, values, offsets=None):
    rows = arr.with_values(values) if offsets is None else scree.Array(values, offsets)
    return scree.varlen_attention(rows, rows, rows, causal=True, backend="jax.triton").values


def test_the_name_triton_is_that_of_the_arrays_library(jax_interpreted, arr):
    named = scree.varlen_attention(arr, arr, arr, causal=True, backend="triton").values
    np.testing.assert_array_equal(named, attend(arr, arr.values))


def test_it_runs_where_nothing_is_named(jax_interpreted, arr):
    assert scree.explain("varlen_attention", arr, arr, arr).chosen == "jax.triton"
    np.testing.assert_array_equal(scree.varlen_attention(arr, arr, arr, causal=True).values, attend(arr, arr.values))
    assert scree.explain("varlen_attention", arr, arr, arr, backend="jax").chosen == "jax"
    with scree.use_backend("jax"):
        assert scree.explain("varlen_attention", arr, arr, arr).chosen == "jax"


def test_it_comes_before_cudnn(on_gpu, monkeypatch, x):
    monkeypatch.setattr(cudnn_overlay, "platform_of", lambda x: "gpu")
    monkeypatch.setattr(cudnn_overlay, "missing", lambda: None)
    assert scree.explain("varlen_attention", x, x, x, causal=True).chosen == "jax.triton"
    monkeypatch.setattr(overlay, "not_installed", lambda: "jax-triton is not installed: pip install jax-triton")
    without = scree.explain("varlen_attention", x, x, x, causal=True)
    assert without.chosen == "jax.cudnn"
    assert "jax.triton: jax-triton is not installed: pip install jax-triton" in str(without)
    with pytest.raises(scree.UnsupportedError, match="pip install jax-triton"):
        scree.varlen_attention(x, x, x, backend="triton")


def test_inside_shard_map_gradients_vary_as_their_arrays_do(jax_interpreted, arr):
    mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")[:1]), ("d",))
    spec = jax.sharding.PartitionSpec("d")

    def gradient(values, offsets):
        return jax.grad(lambda v: (attend(arr, v[0], offsets[0]) ** 2).sum())(values)

    given = arr.values[None], arr.offsets[None]
    sharded = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=(spec, spec), out_specs=spec))
    np.testing.assert_array_equal(sharded(*given), gradient(*given))


def test_vmap_computes_one_after_the_other(jax_interpreted, arr):
    values = jnp.stack([arr.values, 2 * arr.values])
    offsets = jnp.asarray([[0, 3, 3, 12], [0, 1, 10, 12]], jnp.int32)
    mapped = jax.vmap(lambda v, o: attend(arr, v, o))(values, offsets)
    for got, v, o in zip(mapped, values, offsets, strict=True):
        np.testing.assert_array_equal(got, attend(arr, v, o))


def test_vmap_of_a_gradient(jax_interpreted, arr):
    gradient = jax.grad(lambda v: (attend(arr, v) ** 2).sum())
    values = jnp.stack([arr.values, 2 * arr.values])
    for got, v in zip(jax.vmap(gradient)(values), values, strict=True):
        np.testing.assert_array_equal(got, gradient(v))


def test_offsets_are_arguments_under_jit(jax_interpreted, arr):
    compiled = jax.jit(lambda v, o: attend(arr, v, o))
    for offsets in ([0, 3, 3, 12], [0, 12, 12, 12]):
        offsets = jnp.asarray(offsets, jnp.int32)
        np.testing.assert_array_equal(compiled(arr.values, offsets), attend(arr, arr.values, offsets))
    assert compiled._cache_size() == 1


def test_a_gradient_of_the_gradient_is_refused_by_name(jax_interpreted, arr):
    gradient = jax.grad(lambda v: (attend(arr, v) ** 2).sum())
    with pytest.raises(scree.UnsupportedError, match=r'backend="jax\.dense"'):
        jax.grad(lambda v: gradient(v).sum())(arr.values)


def test_a_program_for_another_device_is_the_backends(jax_interpreted, arr, monkeypatch):
    """Traced where the kernels are, compiled where they aren't."""
    from scree_triton.jax import attention

    def loss(values):
        return (attend(arr, values) ** 2).sum()

    monkeypatch.setattr(attention, "PLATFORM", "cuda")
    rows = arr.with_values
    expected = jax.grad(
        lambda v: (scree.varlen_attention(rows(v), rows(v), rows(v), causal=True, backend="jax").values ** 2).sum()
    )(arr.values)
    jax.clear_caches()
    np.testing.assert_array_equal(jax.grad(loss)(arr.values), expected)
    jax.clear_caches()


def test_more_rows_than_are_compared_are_sorted_into_the_same_map(jax_interpreted, monkeypatch):
    offsets, others = (jnp.asarray(x, jnp.int32) for x in ([0, 3, 3, 40, 47, 90], [0, 9, 10, 10, 19, 30]))
    compared, count = tiles.tiles_of(offsets, others, 90, 16)
    monkeypatch.setattr(tiles, "MANY", 4)
    found, same_count = tiles.tiles_of(offsets, others, 90, 16)
    assert count == same_count
    np.testing.assert_array_equal(found, compared)


def test_a_gpu_program_calls_the_kernels(on_gpu, arr, monkeypatch):
    """Compiled for a GPU that isn't there, down to what it runs."""
    if library.not_installed() is not None or os.environ.get("TRITON_INTERPRET"):
        pytest.skip("needs jax-triton, without TRITON_INTERPRET")
    try:
        library._library()
    except ImportError as error:
        pytest.skip(f"needs JAX for GPUs: {error}")
    from jax import export

    monkeypatch.setattr(library, "capability", lambda: 90)
    step = jax.jit(jax.grad(lambda v: attend(arr, v).sum()))
    checks = [export.DisabledSafetyCheck.custom_call("triton_kernel_call")]
    text = export.export(step, platforms=["cuda"], disabled_checks=checks)(arr.values).mlir_module()
    assert text.count("stablehlo.custom_call @triton_kernel_call") == 6
