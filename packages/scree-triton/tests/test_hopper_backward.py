"""The backward kernel for Hopper: which calls it takes, and that it computes them as the other kernels do."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import scree_core as scree  # noqa: E402
from scree_core.testing.budget import check  # noqa: E402
from scree_torch.varlen_attention.options import Options  # noqa: E402
from scree_triton.attention import run  # noqa: E402
from scree_triton.attention.batch import Batch  # noqa: E402
from scree_triton.attention.given import Given  # noqa: E402
from scree_triton.attention.hopper import backward as hopper_backward  # noqa: E402

LENGTHS = [1, 63, 64, 65, 0, 127, 128, 129, 1000, 7]
OTHERS = [300, 5, 10, 0, 64, 129, 1000, 131, 1, 0]
PLAIN = Options(True, 0.1, (-1, -1), None)


# ---------------------------------------------------------------------- on any machine


def takes(arrays, options=PLAIN, rows=16):
    total = arrays[0].shape[0]
    offsets = torch.arange(rows + 1, dtype=torch.int32) * (total // rows)
    q, k, v, d_out = arrays
    return hopper_backward.takes(Given(q, k, v, d_out, None, None, Batch(offsets, offsets, None, None), options))


def big(total=65536, heads=16, kv_heads=16, head_dim=128, dtype=torch.bfloat16):
    """Return q, k, v and a cotangent that the kernel is for; nothing is written to their memory."""
    shapes = [(total, n, head_dim) for n in (heads, kv_heads, kv_heads, heads)]
    return [torch.empty(shape, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize(
    "changed", [{}, {"head_dim": 64}, {"dtype": torch.float16}, {"heads": 32, "kv_heads": 8}], ids=str
)
def test_big_calls_are_taken(on_hopper, changed):
    assert takes(big(**changed))
    assert takes(big(**changed), PLAIN._replace(causal=False))


@pytest.mark.parametrize(
    "changed",
    [{"window": (5, -1)}, {"window": (5, 0), "causal": False}, {"softcap": 3.0}, {"scale": -0.1}, {"scale": 0.0}],
    ids=str,
)
def test_what_it_cannot_compute_is_left(on_hopper, changed):
    assert not takes(big(), PLAIN._replace(**changed))


@pytest.mark.parametrize(
    "changed", [{"head_dim": 32}, {"head_dim": 112}, {"head_dim": 256}, {"dtype": torch.float32}], ids=str
)
def test_other_heads_are_left(on_hopper, changed):
    assert not takes(big(**changed))


def test_short_rows_and_small_batches_are_left(on_hopper):
    assert not takes(big(), rows=512)
    assert not takes(big(total=4096), rows=1)


def test_a_cotangent_that_the_copy_engine_does_not_read_is_left(on_hopper):
    *qkv, d_out = big()
    assert not takes([*qkv, torch.ones((), dtype=d_out.dtype).expand_as(d_out)])
    assert not takes([*qkv, torch.empty(65536, 128, 16, dtype=d_out.dtype).transpose(1, 2)])


def test_who_asks_for_deterministic_algorithms_gets_them(on_hopper):
    arrays = big()
    torch.use_deterministic_algorithms(True)
    try:
        assert not takes(arrays)
    finally:
        torch.use_deterministic_algorithms(False)


# ---------------------------------------------------------------------- on an H100


@pytest.fixture
def used(monkeypatch, hopper_gpu):
    """Take whatever the kernel can compute, of any size; return its calls, of which there must be some."""
    calls, launch = [], hopper_backward.Launches.run

    def counted(*arguments):
        calls.append(arguments)
        launch(*arguments)

    run.renew()  # of plans that were made by the rule
    monkeypatch.setattr(hopper_backward, "_is_worth", lambda q, k, batch: True)
    monkeypatch.setattr(hopper_backward.Launches, "run", counted)
    yield calls
    run.renew()
    assert calls


def offsets_of(lengths):
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device="cuda")


def draw(total, heads, head_dim, dtype, seed):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(total, heads, head_dim, generator=generator, device="cuda").to(dtype)


def inputs(lengths, others, heads, kv_heads, head_dim=128, dtype=torch.bfloat16, extra=0):
    """Draw q, k, v and the cotangent of the output, with so many elements of NaN behind the last row."""
    sides = (lengths, heads), (others, kv_heads), (others, kv_heads), (lengths, heads)
    arrays = [draw(sum(n) + extra, h, head_dim, dtype, i) for i, (n, h) in enumerate(sides)]
    for x, (n, _) in zip(arrays, sides, strict=True):
        x[sum(n) :] = torch.nan
    return arrays


def differentiate(arrays, lengths, others, *, backend="triton", sinks=None, d_lse=None, dtype=None, **options):
    """Return the gradients of q, k, v and the sinks; keys lie as queries do where their lengths are the same object."""
    *leaves, d_out = (x.detach() if dtype is None else x.to(dtype) for x in arrays)
    leaves += [] if sinks is None else [sinks if dtype is None else sinks.to(dtype)]
    leaves = [x.detach().requires_grad_() for x in leaves]
    q_offsets = offsets_of(lengths)
    k_offsets = q_offsets if others is lengths else offsets_of(others)
    tail = d_out.shape[0] > sum(lengths)
    places = q_offsets, k_offsets, k_offsets
    qkv = [scree.Array(x, o, tail=tail) for x, o in zip(leaves, places, strict=False)]
    rest = {"sinks": leaves[3]} if sinks is not None else {}
    found = scree.varlen_attention(*qkv, backend=backend, return_lse=d_lse is not None, **rest, **options)
    outs, cotangents = ([x.values for x in found], [d_out, d_lse]) if d_lse is not None else ([found.values], [d_out])
    got = torch.autograd.grad(outs, leaves, [d.to(x.dtype) for d, x in zip(cotangents, outs, strict=True)])
    sizes = sum(lengths), sum(others), sum(others), None
    return [x[:n] for x, n in zip(got, sizes, strict=False)]


def check_all(arrays, lengths, others, **options):
    """Check gradients against float64, by the budget."""
    got = differentiate(arrays, lengths, others, **options)
    naive = differentiate(arrays, lengths, others, backend="torch", **options)
    truth = differentiate(arrays, lengths, others, backend="torch", dtype=torch.float64, **options)
    name = str(arrays[0].dtype).removeprefix("torch.")
    for what, *parts in zip(("q", "k", "v", "sinks"), got, naive, truth, strict=False):
        check(*(x.double().cpu().numpy() for x in parts), name, f"gradient of {what}")


@pytest.mark.cuda
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(
    ("kv_heads", "causal", "dtype"),
    [(4, True, torch.float16), (2, True, torch.bfloat16), (1, False, torch.bfloat16), (4, False, torch.float16)],
    ids=str,
)
def test_rows_of_all_lengths(used, kv_heads, causal, dtype, head_dim):
    check_all(inputs(LENGTHS, LENGTHS, 4, kv_heads, head_dim, dtype, extra=50), LENGTHS, LENGTHS, causal=causal)


@pytest.mark.cuda
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_keys_that_lie_elsewhere(used, causal, head_dim):
    check_all(inputs(LENGTHS, OTHERS, 4, 2, head_dim), LENGTHS, OTHERS, causal=causal)
    check_all(inputs(OTHERS, LENGTHS, 4, 2, head_dim), OTHERS, LENGTHS, causal=causal)


@pytest.mark.cuda
@pytest.mark.parametrize("with_sinks", [True, False], ids=["sinks", "no sinks"])
@pytest.mark.parametrize("with_lse", [True, False], ids=["lse", "no lse"])
def test_sinks_and_the_lse(used, with_lse, with_sinks):
    """Elements behind the last row, NaN here, have no share of the gradient of the sinks."""
    arrays = inputs(LENGTHS, OTHERS, 4, 2, extra=100)
    sinks = torch.randn(4, device="cuda").to(torch.bfloat16) if with_sinks else None
    d_lse = draw(sum(LENGTHS) + 100, 4, 1, torch.float32, 7)[..., 0] if with_lse else None
    check_all(arrays, LENGTHS, OTHERS, causal=True, sinks=sinks, d_lse=d_lse)


@pytest.mark.cuda
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_a_row_knows_nothing_of_its_neighbours(used, causal, poison, head_dim):
    lengths = [100, 77, 300, 129]
    arrays = inputs(lengths, lengths, 2, 2, head_dim)
    clean = differentiate(arrays, lengths, lengths, causal=causal)
    poisoned = [x.clone() for x in arrays]
    for x in poisoned:
        x[:100], x[177:477] = poison, poison
    got = differentiate(poisoned, lengths, lengths, causal=causal)
    for x, y in zip(got, clean, strict=True):
        for row in (slice(100, 177), slice(477, None)):
            assert torch.isfinite(x[row]).all()
            torch.testing.assert_close(x[row], y[row], rtol=2**-7, atol=1e-6)  # dq is added up in any order


@pytest.mark.cuda
def test_weights_too_large_behind_the_last_key(used):
    """Keys that aren't there would score 0, where the largest score is so low that its weight is 1."""
    lengths = [100, 70]
    q, k, v, d_out = inputs(lengths, lengths, 2, 2, dtype=torch.float16)
    arrays = [q.abs() * 4, -k.abs() * 4, v, d_out]
    got = differentiate(arrays, lengths, lengths, causal=False)
    assert all(torch.isfinite(x).all() for x in got)
    check_all(arrays, lengths, lengths, causal=False)


@pytest.mark.cuda
@pytest.mark.parametrize("heads_first", [False, True])
def test_slices_of_one_projection(used, heads_first):
    lengths = [100, 0, 333]
    if heads_first:
        arrays = torch.randn(4, 4, 433, 128, device="cuda", dtype=torch.bfloat16).transpose(1, 2).unbind(0)
    else:
        arrays = torch.randn(433, 4, 4, 128, device="cuda", dtype=torch.bfloat16).unbind(1)
    assert not arrays[0].is_contiguous()
    check_all(arrays, lengths, lengths, causal=True)


@pytest.mark.cuda
def test_gradients_of_keys_and_values_are_the_same_in_every_run(used):
    arrays = inputs(LENGTHS, LENGTHS, 4, 2)
    first, *others = (differentiate(arrays, LENGTHS, LENGTHS, causal=True) for _ in range(5))
    for other in others:
        assert torch.equal(other[1], first[1])
        assert torch.equal(other[2], first[2])
        torch.testing.assert_close(other[0], first[0], rtol=2**-7, atol=1e-5)


@pytest.mark.cuda
def test_deterministic_algorithms_are_the_other_kernels(used):
    arrays = inputs(LENGTHS, LENGTHS, 4, 2)
    differentiate(arrays, LENGTHS, LENGTHS, causal=True)
    count = len(used)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (differentiate(arrays, LENGTHS, LENGTHS, causal=True) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(used) == count
    assert all(map(torch.equal, first, second))


@pytest.mark.cuda
def test_a_step_is_captured_once_and_replayed_on_other_rows(used):
    capacity = 1000
    values = torch.zeros(capacity, 2, 128, device="cuda", dtype=torch.bfloat16)
    d_out = draw(capacity, 2, 128, torch.bfloat16, 1)
    offsets = offsets_of([3, 0, 5])

    def step(values, offsets):
        leaf = values.detach().requires_grad_()
        arr = scree.Array(leaf, offsets, max_length=900, tail=True)
        out = scree.varlen_attention(arr, arr, arr, causal=True, backend="triton").values
        return torch.autograd.grad(out, leaf, d_out)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(values, offsets)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        d_values = step(values, offsets)
    for lengths in ([400, 1, 599], [900, 0, 24], [3, 0, 5]):
        total = sum(lengths)
        new = torch.full_like(values, torch.nan)
        new[:total] = draw(total, 2, 128, torch.bfloat16, total)
        values.copy_(new)
        offsets.copy_(offsets_of(lengths))
        graph.replay()
        want = step(new, offsets_of(lengths))
        torch.testing.assert_close(d_values[:total], want[:total], rtol=2**-7, atol=1e-5)
