"""The forward kernel for Hopper: which calls it takes, and that it computes them as the other kernel does."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import scree_core as scree  # noqa: E402
from scree_core.testing.budget import check  # noqa: E402
from scree_torch.varlen_attention.options import Options  # noqa: E402
from scree_triton.attention import configs, run  # noqa: E402
from scree_triton.attention.batch import Batch  # noqa: E402
from scree_triton.attention.given import Given  # noqa: E402
from scree_triton.attention.hopper import descriptions  # noqa: E402
from scree_triton.attention.hopper import forward as hopper  # noqa: E402

LENGTHS = [1, 63, 64, 65, 0, 127, 128, 129, 4095, 7]
PLAIN = Options(True, 0.1, (-1, -1), None)


# ---------------------------------------------------------------------- on any machine


def takes(qkv, options=PLAIN, rows=16):
    total = qkv[0].shape[0]
    offsets = torch.arange(rows + 1, dtype=torch.int32) * (total // rows)
    return hopper.takes(*qkv, Batch(offsets, offsets, None, None), options)


def big(total=65536, heads=16, kv_heads=16, head_dim=128, dtype=torch.bfloat16):
    """Return q, k and v that the kernel is for; nothing is written to their memory."""
    shapes = (total, heads, head_dim), (total, kv_heads, head_dim), (total, kv_heads, head_dim)
    return [torch.empty(shape, dtype=dtype) for shape in shapes]


def test_big_calls_are_taken(on_hopper):
    assert takes(big())
    assert takes(big(dtype=torch.float16))
    assert takes(big(heads=32, kv_heads=8))
    assert takes(big(), PLAIN._replace(causal=False))


def test_a_fused_projection_is_taken(on_hopper):
    assert takes(torch.empty(65536, 3, 16, 128, dtype=torch.bfloat16).unbind(1))


@pytest.mark.parametrize(
    "changed",
    [{"window": (5, -1)}, {"window": (5, 0), "causal": False}, {"softcap": 3.0}, {"scale": -0.1}, {"scale": 0.0}],
    ids=str,
)
def test_what_it_cannot_compute_is_left(on_hopper, changed):
    assert not takes(big(), PLAIN._replace(**changed))


@pytest.mark.parametrize("changed", [{"head_dim": 64}, {"head_dim": 112}, {"dtype": torch.float32}], ids=str)
def test_other_heads_are_left(on_hopper, changed):
    assert not takes(big(**changed))


def test_other_head_dims_of_values_are_left(on_hopper):
    q, k, v = big()
    assert not takes((q, k, v[..., :64]))


def test_memory_that_the_copy_engine_does_not_read_is_left(on_hopper):
    q, k, v = big()
    odd = torch.empty(65536 * 16 * 128 + 1, dtype=torch.bfloat16)[1:].view(65536, 16, 128)
    assert not takes((odd, k, v))
    assert not takes((q, torch.empty(65536, 16, 129, dtype=torch.bfloat16)[..., :128], v))
    assert not takes((q, k, torch.empty(65536, 128, 16, dtype=torch.bfloat16).transpose(1, 2)))
    assert not takes((q, k, torch.empty(65536, 16, 256, dtype=torch.bfloat16)[..., ::2]))
    assert not takes((q, k, torch.empty(65536, 1, 128, dtype=torch.bfloat16).expand(65536, 16, 128)))


def test_other_gpus_and_versions_are_left(on_hopper, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr(configs, "architecture_of", lambda device: "sm_100")
        assert not takes(big())
    monkeypatch.setattr(hopper.triton, "__version__", "99.0.0")
    assert not takes(big())


@pytest.mark.parametrize("heads_first", [False, True])
def test_a_descriptor_ends_where_the_row_does(heads_first, on_hopper):
    shape = (3, 1000, 128) if heads_first else (1000, 3, 128)
    x = torch.empty(shape, dtype=torch.float16)
    x = x.transpose(0, 1) if heads_first else x
    description = descriptions.describe(x, 64)
    start, length, head = 700, 37, 2
    for element in (0, 1, 36, 37, 1000):
        at = descriptions.FAR, start + length, head, descriptions.FAR - length + element, 5
        assert all(n < size for n, size in zip(at[:3], description.shape[:3], strict=True))
        assert (at[3] < description.shape[3]) == (element < length)
        distance = 2 * sum(n * stride for n, stride in zip(at, description.strides, strict=True))
        wanted = 2 * sum(n * stride for n, stride in zip((start + element, head, 5), x.stride(), strict=True))
        assert distance % 2**64 == wanted


# ---------------------------------------------------------------------- on an H100


@pytest.fixture
def used(monkeypatch, hopper_gpu):
    """Take whatever the kernel can compute, of any size; return its launches, of which there must be some."""
    launches, call = [], hopper.Launch.__call__

    def counted(*arguments):
        launches.append(arguments)
        call(*arguments)

    run.renew()  # of plans that were made by the rule
    monkeypatch.setattr(hopper, "_is_worth", lambda q, k, batch: True)
    monkeypatch.setattr(hopper.Launch, "__call__", counted)
    yield launches
    run.renew()
    assert launches


def offsets_of(lengths):
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device="cuda")


def draw(total, heads, dtype, seed):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(total, heads, 128, generator=generator, device="cuda").to(dtype)


def inputs(lengths, others, heads, kv_heads, dtype, extra=0):
    """Draw q, k and v, with so many elements of NaN behind the last row."""
    qkv = [draw(sum(n) + extra, h, dtype, i) for i, (n, h) in enumerate(((lengths, heads), *2 * [(others, kv_heads)]))]
    for x, n in zip(qkv, (lengths, others, others), strict=True):
        x[sum(n) :] = torch.nan
    return qkv


def attend(qkv, lengths, others, **options):
    """Attend by scree; keys lie as queries do where their lengths are the same object."""
    q_offsets = offsets_of(lengths)
    k_offsets = q_offsets if others is lengths else offsets_of(others)
    tail = qkv[0].shape[0] > sum(lengths)
    arrays = [scree.Array(x, o, tail=tail) for x, o in zip(qkv, (q_offsets, k_offsets, k_offsets), strict=True)]
    found = scree.varlen_attention(*arrays, backend="triton", **options)
    return [x.values[: sum(lengths)] for x in (found if isinstance(found, tuple) else (found,))]


def by_rows(qkv, lengths, others, *, causal, sinks=None, dtype=None):
    """Attend row by row, every step in a dtype; return the output and the lse."""
    outs, logs = [], []
    q, k, v = (x if dtype is None else x.to(dtype) for x in qkv)
    group = q.shape[1] // k.shape[1]
    for lq, lk, q_end, k_end in zip(lengths, others, np.cumsum(lengths), np.cumsum(others), strict=True):
        row = q[q_end - lq : q_end].transpose(0, 1)
        keys, values = (x[k_end - lk : k_end].transpose(0, 1).repeat_interleave(group, 0) for x in (k, v))
        s = row @ keys.transpose(1, 2) * 128**-0.5
        if causal:
            seen = torch.ones(lq, lk, dtype=torch.bool, device="cuda").tril(lk - lq)
            s = s.masked_fill(~seen, -torch.inf)
        log = s.float().logsumexp(-1) if s.dtype != torch.float64 else s.logsumexp(-1)
        if sinks is None:
            weights = s.softmax(-1)
        else:
            sink = sinks.to(s.dtype)[:, None, None].expand(-1, lq, 1)
            weights = torch.cat([s, sink], -1).softmax(-1)[..., :-1]
        weights = torch.where(torch.isfinite(log)[..., None], weights, 0)
        outs.append((weights @ values).transpose(0, 1))
        logs.append(log.transpose(0, 1))
    return torch.cat(outs), torch.cat(logs)


def numbers(x):
    return x.detach().double().cpu().numpy()


def check_all(got, qkv, lengths, others, **options):
    """Check output and lse against float64, by the budget."""
    truth = by_rows(qkv, lengths, others, dtype=torch.float64, **options)
    naive = by_rows(qkv, lengths, others, **options)
    name = str(qkv[0].dtype).removeprefix("torch.")
    for what, *parts in zip(("output", "lse"), got, naive, truth, strict=False):
        check(*map(numbers, parts), name if what == "output" else "float32", what)


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("kv_heads", "causal", "dtype"),
    [(4, True, torch.float16), (2, True, torch.bfloat16), (1, False, torch.bfloat16), (4, False, torch.bfloat16)],
    ids=str,
)
def test_rows_of_all_lengths(used, kv_heads, causal, dtype):
    qkv = inputs(LENGTHS, LENGTHS, 4, kv_heads, dtype, extra=50)
    got = attend(qkv, LENGTHS, LENGTHS, causal=causal, return_lse=True)
    check_all(got, qkv, LENGTHS, LENGTHS, causal=causal)
    (alone,) = attend(qkv, LENGTHS, LENGTHS, causal=causal)
    assert torch.equal(alone, got[0])


@pytest.mark.cuda
@pytest.mark.parametrize(("causal", "with_sinks"), [(True, False), (False, False), (True, True)])
def test_keys_that_lie_elsewhere(used, causal, with_sinks):
    lengths, others = [5, 300, 0, 130, 64, 200, 1, 513], [300, 5, 10, 0, 64, 129, 1000, 131]
    qkv = inputs(lengths, others, 4, 2, torch.bfloat16)
    sinks = torch.randn(4, device="cuda") if with_sinks else None
    got = attend(qkv, lengths, others, causal=causal, sinks=sinks, return_lse=True)
    check_all(got, qkv, lengths, others, causal=causal, sinks=sinks)


@pytest.mark.cuda
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_what_backward_needs_is_what_the_other_kernel_leaves(used, causal):
    """Output, lse and stats agree to rounding."""
    lengths, others = [300, 0, 1000, 40], [200, 30, 1100, 0]
    qkv = inputs(lengths, others, 4, 2, torch.bfloat16)
    options = Options(causal, 128**-0.5, (-1, -1), None)
    found = []
    for is_plain in (False, True):
        batch = Batch(offsets_of(lengths), offsets_of(others), None, None)
        run._plans.clear()
        plan = run.plan_of(*qkv, batch, None, options, want_lse=True)
        if is_plain:
            given = Given(*qkv, None, None, None, batch, options)
            plan.forward[True] = run.plain_launch(given, plan, learns=True)
        found.append(run.forward(*qkv, None, batch, plan, learns=True))
    for ours, theirs, tolerance in zip(*found, (2e-2, 1e-5, 1e-5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance, equal_nan=False)


@pytest.mark.cuda
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
def test_a_row_knows_nothing_of_its_neighbours(used, causal, poison):
    lengths = [100, 77, 300, 129]
    qkv = inputs(lengths, lengths, 2, 2, torch.bfloat16)
    (clean,) = attend(qkv, lengths, lengths, causal=causal)
    poisoned = [x.clone() for x in qkv]
    for x in poisoned:
        x[:100], x[177:477] = poison, poison
    (got,) = attend(poisoned, lengths, lengths, causal=causal)
    assert torch.equal(got[100:177], clean[100:177])
    assert torch.equal(got[477:], clean[477:])


@pytest.mark.cuda
@pytest.mark.parametrize("heads_first", [False, True])
def test_slices_of_one_projection(used, heads_first):
    lengths = [100, 0, 333]
    if heads_first:
        qkv = torch.randn(3, 4, 433, 128, device="cuda", dtype=torch.bfloat16).transpose(1, 2).unbind(0)
    else:
        qkv = torch.randn(433, 3, 4, 128, device="cuda", dtype=torch.bfloat16).unbind(1)
    assert not qkv[0].is_contiguous()
    got = attend(qkv, lengths, lengths, causal=True, return_lse=True)
    check_all(got, qkv, lengths, lengths, causal=True)


@pytest.mark.cuda
def test_gradients(used):
    lengths, others = [300, 0, 129, 1, 640], [200, 30, 129, 64, 700]
    leaves = [x.requires_grad_() for x in inputs(lengths, others, 4, 2, torch.bfloat16)]
    d_out = draw(sum(lengths), 4, torch.bfloat16, 9)
    (out,) = attend(leaves, lengths, others, causal=True)
    got = torch.autograd.grad(out, leaves, d_out)
    found = []
    for dtype in (None, torch.float64):
        out, _ = by_rows(leaves, lengths, others, causal=True, dtype=dtype)
        found.append(torch.autograd.grad(out, leaves, d_out.to(out.dtype)))
    for name, *parts in zip("qkv", got, *found, strict=True):
        check(*map(numbers, parts), "bfloat16", f"gradient of {name}")


@pytest.mark.cuda
def test_a_call_is_captured_once_and_replayed_on_other_rows(used):
    capacity = 1000
    values = torch.zeros(capacity, 2, 128, device="cuda", dtype=torch.bfloat16)
    offsets = offsets_of([3, 0, 5])

    def step(values, offsets):
        arr = scree.Array(values, offsets, max_length=900, tail=True)
        return scree.varlen_attention(arr, arr, arr, causal=True, backend="triton").values

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(values, offsets)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step(values, offsets)
    for lengths in ([400, 1, 599], [900, 0, 24], [3, 0, 5]):
        total = sum(lengths)
        new = torch.full_like(values, torch.nan)
        new[:total] = draw(total, 2, torch.bfloat16, total)
        values.copy_(new)
        offsets.copy_(offsets_of(lengths))
        graph.replay()
        assert torch.equal(out[:total], step(new, offsets_of(lengths))[:total])


@pytest.mark.cuda
def test_streams_do_not_share_what_a_call_counts(used):
    lengths = [2000, 100, 3000, 5, 1000]
    qkv = inputs(lengths, lengths, 8, 8, torch.bfloat16)
    arrays = [scree.Array(x, offsets_of(lengths)) for x in qkv]
    arrays = [arrays[0], *(arrays[0].with_values(x) for x in qkv[1:])]
    want = scree.varlen_attention(*arrays, causal=True, backend="triton").values
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(4)]
    found = []
    for i in range(40):
        with torch.cuda.stream(streams[i % 4]):
            found.append(scree.varlen_attention(*arrays, causal=True, backend="triton").values)
    torch.cuda.synchronize()
    assert all(torch.equal(got, want) for got in found)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore")
def test_compiled_code_uses_it_too(used):
    lengths = [100, 0, 333]
    qkv = inputs(lengths, lengths, 2, 2, torch.bfloat16)
    offsets = offsets_of(lengths)

    def step(q, k, v, offsets):
        arr = scree.Array(q, offsets, max_length=400)
        return scree.varlen_attention(arr, arr.with_values(k), arr.with_values(v), causal=True).values

    want = step(*qkv, offsets)
    used.clear()
    assert torch.equal(torch.compile(step, fullgraph=True)(*qkv, offsets), want)
