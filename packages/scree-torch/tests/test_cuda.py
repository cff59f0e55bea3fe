"""On CUDA: no op waits for the device, all can be captured in a graph, and attention agrees with itself."""

import math

import pytest

torch = pytest.importorskip("torch")

import scree_core as scree  # noqa: E402
from scree_torch.backend import TorchBackend  # noqa: E402
from scree_torch.varlen_attention import flash_cuda, padded  # noqa: E402
from scree_torch.varlen_attention.options import Options  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),  # torch says that it is a prototype
]


def rows(lengths, *features, dtype=torch.float32, seed=0, **hints):
    """Make an Array whose offsets only the device knows."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32).cuda()
    values = torch.randn(sum(lengths), *features, generator=generator).to("cuda", dtype)
    return scree.Array(values, offsets, **hints)


@pytest.fixture
def no_sync():
    before = torch.cuda.get_sync_debug_mode()

    def check(call, *args):
        torch.cuda.synchronize()
        try:
            torch.cuda.set_sync_debug_mode("error")
            return call(*args)
        finally:
            torch.cuda.set_sync_debug_mode(before)

    return check


OPS = {
    "from_lengths": lambda a: scree.from_lengths(a.values, [3, 0, 5]),
    "pack": lambda a: scree.pack([a.values, a.values]),
    "derived": lambda a: (a.segment_ids, a.positions, a.lengths),
    "operators": lambda a: (1 - a) * a,
    "to_padded": lambda a: scree.to_padded(a, fill_value=1, max_length=5, side="left"),
    "from_padded": lambda a: scree.from_padded(*scree.to_padded(a, max_length=5), capacity=9),
    "repeat_rows": lambda a: scree.repeat_rows(a.values[:3], like=a),
    "varlen_rmsnorm": lambda a: scree.varlen_rmsnorm(a, a.values[0, 0]),
    "varlen_layernorm": lambda a: scree.varlen_layernorm(a, a.values[0, 0], a.values[1, 0]),
    "varlen_softmax": scree.varlen_softmax,
    "varlen_rope": lambda a: scree.varlen_rope(a, a.values.new_ones(8, 2), a.values.new_zeros(8, 2)),
    "varlen_sum": scree.varlen_sum,
    "varlen_mean": scree.varlen_mean,
    "varlen_max": scree.varlen_max,
    "varlen_min": scree.varlen_min,
    "varlen_logsumexp": scree.varlen_logsumexp,
    "varlen_cumsum": scree.varlen_cumsum,
    "varlen_cross_entropy": lambda a: scree.varlen_cross_entropy(
        a.with_values(a.values.flatten(1)), a.segment_ids, reduction="row_mean_token_mean"
    ),
    "varlen_attention": lambda a: scree.varlen_attention(a, a, a, causal=True),
    "varlen_attention, everything": lambda a: scree.varlen_attention(
        a, a, a, window=(2, 1), softcap=5.0, sinks=a.values[0, :, 0], return_lse=True
    ),
}


def leaves(result):
    parts = result if isinstance(result, tuple) else (result,)
    return [part.values if isinstance(part, scree.Array) else part for part in parts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPS)
def test_no_op_waits_for_the_device(name, dtype, no_sync):
    arr = rows([3, 0, 5], 2, 8, dtype=dtype, max_length=5)
    values = arr.values.requires_grad_()

    def step():
        out = [x for x in leaves(OPS[name](arr.with_values(values))) if x.is_floating_point() and x.requires_grad]
        return torch.autograd.grad(out, values, [torch.ones_like(x) for x in out]) if out else None

    step()  # what libraries initialise in their first call may sync
    no_sync(step)


def test_flash_attention_needs_no_bound_of_lengths(no_sync):
    arr = rows([3, 0, 5], 2, 8, dtype=torch.bfloat16)
    expected = OPS["varlen_attention"](rows([3, 0, 5], 2, 8, dtype=torch.bfloat16, max_length=5))
    assert torch.equal(no_sync(OPS["varlen_attention"], arr).values, expected.values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_step_is_captured_once_and_replayed_on_other_rows(dtype):
    capacity, weight = 64, torch.ones(8, device="cuda", dtype=dtype)
    angles = torch.outer(torch.arange(40.0), torch.tensor([1.0, 0.5, 0.25])).to("cuda", dtype)
    tables = angles.cos(), angles.sin()

    def step(values, offsets):
        x = scree.Array(values, offsets, max_length=40, tail=True)
        q = scree.varlen_rope(scree.varlen_rmsnorm(x, weight), *tables)
        out = scree.varlen_attention(q, q, x, causal=True) * scree.varlen_softmax(x)
        pooled = scree.varlen_mean(out) + scree.varlen_max(out) + scree.varlen_logsumexp(out)
        loss = (scree.varlen_cumsum(out).values.float().square().sum() + pooled.float().sum()) * 1e-2
        return pooled, *torch.autograd.grad(loss, values)

    def batch(lengths):
        arr = rows(lengths, 2, 8, dtype=dtype, seed=sum(lengths))
        values = torch.full((capacity, 2, 8), math.nan, device="cuda", dtype=dtype)
        values[: sum(lengths)] = arr.values
        return values, arr.offsets

    values, offsets = batch([3, 0, 5])
    values.requires_grad_()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(values, offsets)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step(values, offsets)
    for lengths in ([1, 20, 3], [40, 0, 24], [3, 0, 5]):
        new_values, new_offsets = batch(lengths)
        with torch.no_grad():
            values.copy_(new_values)
        offsets.copy_(new_offsets)
        graph.replay()
        expected = step(new_values.requires_grad_(), new_offsets)
        for got, want in zip(results, expected, strict=True):
            torch.testing.assert_close(got, want)


CROSS = [3, 0, 150, 2, 40], [70, 4, 130, 0, 40]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("dims", "options"),
    [
        pytest.param((64, 64), Options(False, 0.125, (-1, -1), None), id="plain"),
        pytest.param((64, 64), Options(True, 0.125, (-1, -1), None), id="causal"),
        pytest.param((64, 64), Options(True, 0.125, (9, -1), None), id="causal window"),
        pytest.param((64, 64), Options(False, 0.125, (9, 3), None), id="window"),
        pytest.param((60, 36), Options(True, 0.125, (-1, -1), None), id="odd sizes"),
        pytest.param((36, 60), Options(True, 0.125, (-1, -1), None), id="wide values"),
        pytest.param((248, 248), Options(True, 0.06, (-1, -1), None), id="large"),
    ],
)
@pytest.mark.parametrize("lse_gradient", [False, True], ids=["", "lse"])
def test_flash_attention_agrees_with_rectangles_in_float32(dtype, dims, options, lse_gradient):
    q, k = rows(CROSS[0], 4, dims[0], dtype=dtype), rows(CROSS[1], 2, dims[0], dtype=dtype, seed=1)
    v = rows(CROSS[1], 2, dims[1], dtype=dtype, seed=2)
    layout = q.offsets, k.offsets, 150, 130
    assert flash_cuda.serves(q.values, v.values, options, lse_gradient=lse_gradient)
    halves = q.values, k.values, v.values
    floats = [x.float() for x in halves]
    out, lse = flash_cuda.forward(*halves, *layout, options)
    exact_out, exact_lse = padded.forward(*floats, *layout, options)
    torch.testing.assert_close(out.float(), exact_out, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(lse, exact_lse, atol=2e-2, rtol=2e-2)
    d_out = torch.randn_like(out)
    d_lse = torch.randn_like(lse) if lse_gradient else None
    got = flash_cuda.backward(d_out, d_lse, *halves, out, lse, *layout, options)
    exact = padded.backward(d_out.float(), d_lse, *floats, *layout, options)
    for g, e in zip(got, exact, strict=True):
        torch.testing.assert_close(g.float(), e, atol=6e-2, rtol=3e-2)


def test_what_only_the_device_knows_is_read_once_where_a_rectangle_needs_it():
    arr = rows([3, 0, 5], 2, 8)
    out = scree.varlen_attention(arr, arr, arr)
    assert TorchBackend().host_offsets(arr.layout) is arr.layout._derived["host_offsets"]
    host = scree.Array(arr.values.cpu(), arr.offsets.cpu())
    expected = scree.varlen_attention(host, host, host)
    torch.testing.assert_close(out.values.cpu(), expected.values, rtol=1e-4, atol=1e-5)
