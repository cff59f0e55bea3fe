"""The kernel for Hopper on JAX arrays: which calls go to it, what it is given, what it compiles into; on an H100."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

jax = pytest.importorskip("jax")
triton = pytest.importorskip("triton")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import scree  # noqa: E402
from scree_triton.attention.hopper.rule import VERSIONS  # noqa: E402
from scree_triton.jax import gluon_call, hopper, library, overlay  # noqa: E402
from scree_triton.jax.given import Inputs, Options  # noqa: E402

PROGRAM = Path(__file__).with_name("ahead_jax.py")
PLAIN = Options(True, 0.1, (-1, -1), None, False, (False, False))
offered = pytest.mark.skipif(
    not triton.__version__.startswith(VERSIONS), reason=f"it isn't offered on Triton {triton.__version__}"
)

# ---------------------------------------------------------------------- which calls


@pytest.fixture
def on_hopper(monkeypatch):
    monkeypatch.setattr(library, "capability", lambda: 90)
    monkeypatch.setattr(library, "multiprocessors", lambda: 4)


def big(dtype=jnp.bfloat16, total=32768, heads=8, kv_heads=8, dims=(128, 128), batch=16):
    q, k, v = (
        jax.ShapeDtypeStruct((total, n, dim), dtype)
        for n, dim in ((heads, dims[0]), (kv_heads, dims[0]), (kv_heads, dims[1]))
    )
    offsets = jax.ShapeDtypeStruct((batch + 1,), jnp.int32)
    return Inputs(q, k, v, None, offsets, offsets)


@offered
def test_big_calls_are_taken(on_hopper):
    assert hopper.takes(big(), PLAIN)
    assert hopper.takes(big(jnp.float16, kv_heads=2), PLAIN._replace(causal=False, return_lse=True))
    assert hopper.takes(big(), PLAIN._replace(window=(-1, 0)))


@offered
@pytest.mark.parametrize(
    "changed", [{"window": (100, -1)}, {"softcap": 1.0}, {"scale": -0.1}, {"causal": False, "window": (-1, 5)}]
)
def test_options_that_it_cannot_compute_are_left(on_hopper, changed):
    assert not hopper.takes(big(), PLAIN._replace(**changed))


@offered
@pytest.mark.parametrize(
    "changed",
    [{"dtype": jnp.float32}, {"dims": (64, 64)}, {"dims": (128, 64)}, {"total": 12000}, {"batch": 1000}],
)
def test_arrays_that_it_cannot_compute_or_is_not_worth_for_are_left(on_hopper, changed):
    assert not hopper.takes(big(**changed), PLAIN)


@offered
def test_other_gpus_and_versions_are_left(on_hopper, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr(library, "capability", lambda: 100)
        assert not hopper.takes(big(), PLAIN)
    monkeypatch.setattr(triton, "__version__", "99.0.0")
    assert not hopper.takes(big(), PLAIN)


# ---------------------------------------------------------------------- what it is given


@pytest.fixture
def stand_in(jax_interpreted, on_hopper, monkeypatch):
    """Compute what the kernel would write by the JAX backend, from what the kernel is given; return the calls."""
    called = []

    def call(kernel, programs, q, k, v, sinks, q_offsets, k_offsets, tiles, *numbers, out, zeroed):
        told = dict(kernel.constants)
        called.append((told, programs, numbers, zeroed))
        total, _, factor = numbers
        has_lse = "LSE" not in told
        assert [x.shape for x in out] == [q.shape, (1, told["HEADS"], total), (1,), (told["HEADS"], total)][
            : 3 + has_lse
        ]
        sinks = sinks if told["HAS_SINKS"] else None
        rows = (scree.Array(q, q_offsets, tail=True), *(scree.Array(x, k_offsets, tail=True) for x in (k, v)))
        found, lse = scree.varlen_attention(
            *rows,
            causal=told["RIGHT"],
            scale=float(factor) / math.log2(math.e),
            sinks=sinks,
            return_lse=True,
            backend="jax",
        )
        found, lse = found.values, lse.values
        ends = lse if sinks is None else jnp.logaddexp(lse, sinks.astype(jnp.float32))
        stats = jnp.where(lse == -jnp.inf, jnp.inf, ends * math.log2(math.e)).T[None]
        assert kernel.function.__name__ == "hopper"
        assert told["GROUP"] == q.shape[1] // k.shape[1]
        assert tiles.dtype == jnp.int32
        return [found, stats, jnp.ones(1, jnp.int32), lse.T][: len(out)]

    monkeypatch.setattr(hopper, "is_worth", lambda *sizes: True)
    monkeypatch.setattr(gluon_call, "call", call)
    jax.clear_caches()
    yield called
    jax.clear_caches()


def draw(*shape, dtype=jnp.float16, seed=0):
    return jnp.asarray(np.random.default_rng((seed, *shape)).standard_normal(shape), dtype)


# The interpreter computes in NumPy, which warns of what lies in memory behind the rows.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@offered
@pytest.mark.parametrize("everything", [False, True])
def test_what_it_writes_is_what_backward_reads(stand_in, everything):
    q, k, v = draw(12, 4, 128), draw(12, 2, 128, seed=1), draw(12, 2, 128, seed=2)
    sinks = draw(4, seed=3) if everything else None
    offsets = jnp.asarray([0, 3, 3, 11 if everything else 12], jnp.int32)

    def run(backend):
        def loss(q, k, v, sinks):
            rows = [scree.Array(x, offsets, tail=everything) for x in (q, k, v)]
            got = scree.varlen_attention(
                *rows, causal=not everything, scale=0.1, sinks=sinks, return_lse=everything, backend=backend
            )
            out, lse = got if everything else (got, None)
            seen = out.values.astype(jnp.float32)[: offsets[-1]]
            more = lse.values[: offsets[-1]].sum() if everything else 0
            return (seen**2).sum() + more, seen

        grads, seen = jax.grad(loss, argnums=(0, 1, 2, 3) if everything else (0, 1, 2), has_aux=True)(q, k, v, sinks)
        return seen, *grads

    for got, expected in zip(run("jax.triton"), run("jax"), strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-3 * float(jnp.abs(expected).max()))
    told, programs, (total, tiles, factor), zeroed = stand_in[-1]
    assert (programs, total, tiles) == (4, 12, 12)  # of 3 tiles for each head there is room for, 4 run at a time
    assert isinstance(factor, np.float32)
    assert told["HAS_SINKS"] is everything
    assert zeroed == ((2, 0, 3) if everything else (2,))


# ---------------------------------------------------------------------- what it compiles into


@offered
@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compilers come for Linux alone")
def test_it_describes_its_arrays_itself_and_keeps_its_loops_in_registers(tmp_path):
    settings = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    child = subprocess.run([sys.executable, PROGRAM], env=os.environ | settings, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    forms = [json.loads(line) for line in child.stdout.splitlines()]
    assert [found["form"] for found in forms] == ["causal", "everything"]
    for found in forms:
        assert found["descriptions"] == 3, found
        assert found["copies"] > 0, found
        assert found["products"] > 0, found
        assert found["spilled"] <= 64, found
        assert found["shared"] <= 227 * 1024, found
        assert found["warps"] == 12, found
        # Behind its own come the address of the descriptions' memory, and one for profilers: see gluon_call.call.
        assert found["parameters"] == found["given"] + 2, found


@offered
def test_a_gpu_program_calls_it(on_hopper, monkeypatch):
    """Compiled for a GPU that isn't there, down to what it runs."""
    if library.not_installed() is not None or os.environ.get("TRITON_INTERPRET"):
        pytest.skip("needs jax-triton, without TRITON_INTERPRET")
    try:
        library._library()
    except ImportError as error:
        pytest.skip(f"needs JAX for GPUs: {error}")
    from jax import export

    monkeypatch.setattr(overlay, "platform_of", lambda x: "gpu")
    monkeypatch.setattr(overlay, "not_working", lambda: None)
    compiled = []
    monkeypatch.setattr(
        gluon_call,
        "compiled_for",
        lambda *given, real=gluon_call.compiled_for: compiled.append(real(*given)) or compiled[0],
    )

    def step(q, offsets):
        rows = scree.Array(q, offsets)
        return jax.grad(lambda q: scree.varlen_attention(*(rows.with_values(q),) * 3).values.astype(jnp.float32).sum())(
            q
        )

    checks = [export.DisabledSafetyCheck.custom_call("triton_kernel_call")]
    given = jnp.zeros((32768, 8, 128), jnp.bfloat16), jnp.asarray([0, 1, 32768], jnp.int32)
    text = export.export(jax.jit(step), platforms=["cuda"], disabled_checks=checks)(*given).mlir_module()
    assert text.count("stablehlo.custom_call @triton_kernel_call") == 6
    assert [found.name for found in compiled] == ["hopper"]


# ---------------------------------------------------------------------- on an H100


@pytest.fixture
def used(monkeypatch):
    """Take whatever the kernel can compute, of any size; return its calls, of which there must be some."""
    reason = library.not_installed() or library.not_working()
    if reason is not None or library.capability() != 90:
        pytest.skip(reason or "needs a GPU of compute capability 9.0")
    called, call = [], gluon_call.call
    monkeypatch.setattr(gluon_call, "call", lambda *given, **rest: called.append(given) or call(*given, **rest))
    monkeypatch.setattr(hopper, "is_worth", lambda *sizes: True)
    jax.clear_caches()  # of programs that were traced by the rule
    yield called
    jax.clear_caches()
    assert called


LENGTHS = [
    ([300, 0, 129, 1, 640], [200, 30, 129, 64, 700]),
    ([1070, 0, 0, 0, 0], [0, 1000, 100, 20, 3]),
    (
        [
            128,
            256,
            64,
            65,
            63,
        ][:5],
        [1, 127, 128, 129, 513],
    ),
]


@offered
@pytest.mark.parametrize(
    ("dtype", "heads", "kv_heads", "options"),
    [
        ("bfloat16", 4, 1, {"causal": True}),
        ("float16", 4, 2, {"causal": False, "sinks": True, "return_lse": True}),
        ("float16", 2, 2, {"causal": True, "sinks": True}),
    ],
)
def test_it_agrees_with_the_backend_in_float32(used, dtype, heads, kv_heads, options):
    """Rows of queries and keys of other lengths, empty ones, and dead elements that are NaN, by one program."""
    total_q, total_k = 1200, 1300
    sinks = draw(heads, dtype=dtype, seed=4) if options.get("sinks") else None
    given = {**options, "sinks": sinks}

    def run(backend, dtype):
        @jax.jit
        def both(q, k, v, d_out, q_offsets, k_offsets):
            def attend(q, k, v):
                rows = [scree.Array(x, at, tail=True) for x, at in ((q, q_offsets), (k, k_offsets), (v, k_offsets))]
                got = scree.varlen_attention(*rows, **given, backend=backend)
                return tuple(x.values for x in got) if options.get("return_lse") else (got.values,)

            found, pull = jax.vjp(attend, q, k, v)
            cotangents = (d_out, *(jnp.zeros_like(x) for x in found[1:]))
            return *found, *pull(cotangents)

        return lambda *arrays: [
            np.asarray(x, np.float32) for x in both(*(x.astype(dtype) for x in arrays[:4]), *arrays[4:])
        ]

    got_by, expected_by = run("jax.triton", dtype), run("jax", jnp.float32)
    for i, lengths in enumerate(LENGTHS):
        ends = [sum(x) for x in lengths]
        q_offsets, k_offsets = (jnp.asarray([0, *np.cumsum(x)], jnp.int32) for x in lengths)
        shapes = (total_q, heads), (total_k, kv_heads), (total_k, kv_heads), (total_q, heads)
        arrays = [draw(*shape, 128, dtype=dtype, seed=10 * i + n) for n, shape in enumerate(shapes)]
        dead = [x.at[end:].set(jnp.nan) for x, end in zip(arrays, (ends[0], ends[1], ends[1], ends[0]), strict=True)]
        got = got_by(*dead, q_offsets, k_offsets)
        expected = expected_by(*dead, q_offsets, k_offsets)
        for x, wanted in zip(got, expected, strict=True):
            end = ends[0] if x.shape[0] == total_q else ends[1]
            np.testing.assert_array_equal(x[end:], 0)
            bound = 2e-2 * np.abs(wanted[:end], where=np.isfinite(wanted[:end]), out=np.zeros_like(wanted[:end])).max()
            np.testing.assert_allclose(x[:end], wanted[:end], rtol=0, atol=max(bound, 1e-6))
