"""On a GPU: no kernel waits for it, a step can be captured and compiled, and launches skip Triton's dispatch."""

import pytest

torch = pytest.importorskip("torch")

import scree_core as scree  # noqa: E402
from scree_core import programs  # noqa: E402

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),  # torch says that it is a prototype
]


def rows(lengths, *features, dtype=torch.float16, seed=0, **hints):
    """Make an Array whose offsets only the device knows."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32).cuda()
    values = torch.randn(sum(lengths), *features, generator=generator).to("cuda", dtype)
    return scree.Array(values, offsets, **hints)


def attend(arr, sinks, **options):
    return scree.varlen_attention(arr, arr, arr, sinks=sinks, backend="triton", **options)


def compare(arr, labels, **options):
    return scree.varlen_cross_entropy(arr.with_values(arr.values.flatten(1)), labels, **options)


def drop_padding(padded):
    mask = torch.arange(105, device="cuda").reshape(5, 21) % 3 == 0
    return scree.from_padded(padded, mask, capacity=99, backend="triton").values


OPS = {
    "attention": lambda a, w: attend(a, None, causal=True).values,
    "attention, everything": lambda a, w: attend(a, w[:2], window=(2, 1), softcap=5.0, return_lse=True)[0].values,
    "rmsnorm": lambda a, w: scree.varlen_rmsnorm(a, w, backend="triton").values,
    "layernorm": lambda a, w: scree.varlen_layernorm(a, w, w, backend="triton").values,
    "to_padded": lambda a, w: scree.to_padded(a, max_length=70, backend="triton")[0],
    "from_padded": lambda a, w: drop_padding(a.values.unflatten(0, (5, 21))),
    "softmax": lambda a, w: scree.varlen_softmax(a, backend="triton").values,
    "rope": lambda a, w: (
        scree.varlen_rope(a, a.values[:, 0, :4].detach(), a.values[:, 0, 4:8].detach(), backend="triton").values
    ),
    "cross-entropy": lambda a, w: compare(a, a.segment_ids, reduction="none", backend="triton").values,
    "cross-entropy of rows": lambda a, w: compare(a, a.segment_ids, reduction="row_mean_token_mean", backend="triton"),
}


@pytest.mark.parametrize("hints", [{}, {"max_length": 70}], ids=["", "max_length"])
@pytest.mark.parametrize("name", OPS)
def test_nothing_waits_for_the_device(name, hints):
    weight = torch.ones(16, device="cuda", dtype=torch.float16, requires_grad=True)

    def step():
        arr = rows([30, 0, 70, 5], 2, 16, **hints)
        values = arr.values.requires_grad_()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            out = OPS[name](arr.with_values(values), weight)
            torch.autograd.grad(out, values, torch.ones_like(out))
        finally:
            torch.cuda.set_sync_debug_mode("default")

    step()
    step()


def test_a_step_is_captured_once_and_replayed_on_other_rows():
    capacity = 200
    weight = torch.ones(16, device="cuda", dtype=torch.float16)
    table = torch.rand(capacity, 8, device="cuda")
    labels = torch.arange(capacity, device="cuda") % 32

    def step(values, offsets):
        x = scree.Array(values, offsets, max_length=150, tail=True)
        q = scree.varlen_rope(scree.varlen_rmsnorm(x, weight), table, table)
        out = scree.varlen_attention(q, q, x, causal=True)
        loss = scree.varlen_softmax(out).values.float().square().sum() + out.values.float().square().sum()
        loss = loss + compare(out, labels)
        return out.values, *torch.autograd.grad(loss, values)

    def batch(lengths):
        arr = rows(lengths, 2, 16, seed=sum(lengths))
        values = torch.full((capacity, 2, 16), torch.nan, device="cuda", dtype=torch.float16)
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
    for lengths in ([1, 120, 3], [150, 0, 24], [3, 0, 5]):
        new_values, new_offsets = batch(lengths)
        with torch.no_grad():
            values.copy_(new_values)
        offsets.copy_(new_offsets)
        graph.replay()
        expected = step(new_values.requires_grad_(), new_offsets)
        for got, want in zip(results, expected, strict=True):
            assert torch.equal(got, want)


@pytest.mark.filterwarnings("ignore")
def test_inductor_compiles_it_whole():
    def step(values, offsets, sinks):
        arr = scree.Array(values, offsets, max_length=70)
        out, lse = scree.varlen_attention(arr, arr, arr, causal=True, sinks=sinks, return_lse=True)
        loss = compare(out, torch.arange(105, device="cuda") % 32)
        return scree.varlen_rmsnorm(out).values.sum() + lse.values.sum() + loss

    arr, sinks = rows([30, 0, 70, 5], 2, 16), torch.zeros(2, device="cuda", requires_grad=True)
    values = arr.values.requires_grad_()
    compiled = torch.compile(step, fullgraph=True)
    got = torch.autograd.grad(compiled(values, arr.offsets, sinks), (values, sinks))
    want = torch.autograd.grad(step(values, arr.offsets, sinks), (values, sinks))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-2, atol=1e-2)


def test_triton_is_who_runs_it_where_nobody_is_named():
    arr = rows([3, 4], 2, 16)
    for op in ("varlen_attention", "varlen_rmsnorm", "varlen_softmax"):
        arguments = (arr, arr, arr) if op == "varlen_attention" else (arr,)
        assert scree.explain(op, *arguments).chosen == "torch.triton"
    logits, labels = arr.with_values(arr.values.flatten(1)), torch.zeros(7, dtype=torch.int64, device="cuda")
    assert scree.explain("varlen_cross_entropy", logits, labels).chosen == "torch.triton"


def test_what_is_returned_may_be_without_a_gradient():
    """Kernels are compiled for the arrays that they get: those of such a call are the others'."""
    arr, sinks = rows([30, 0, 70], 2, 16), torch.randn(2, device="cuda", dtype=torch.float16)
    leaf = arr.values.requires_grad_()
    found = []
    for return_lse in (True, False, True):
        result = attend(arr.with_values(leaf), sinks, return_lse=return_lse)
        out = result[0] if return_lse else result
        found.append(torch.autograd.grad(out.values.sum(), leaf)[0])
    out, lse = attend(arr.with_values(leaf), sinks, return_lse=True)
    torch.autograd.grad(out.values.sum() + lse.values.sum(), leaf)
    found.append(torch.autograd.grad(attend(arr.with_values(leaf), sinks).values.sum(), leaf)[0])
    assert all(torch.equal(found[0], x) for x in found)


def test_profilers_hear_of_launches():
    from triton import knobs

    arr, heard = rows([3, 4], 2, 16), []
    attend(arr, None)
    hook = knobs.runtime.launch_enter_hook
    if not hasattr(hook, "add"):
        pytest.skip("this Triton has one hook, not a chain")
    hook.add(heard.append)
    try:
        attend(arr, None)
    finally:
        hook.remove(heard.append)
    assert heard


def test_a_kernel_is_started_by_torch_or_by_triton(monkeypatch):
    from scree_triton import starters
    from scree_triton.attention import run, variants

    def step():
        for kept in (run._plans, variants._variants, variants._both):
            kept.clear()
        programs.forget()
        arr = rows([30, 0, 70, 5], 2, 16)
        values = arr.values.requires_grad_()
        for _ in range(2):  # the first launch is Triton's in any case
            out, lse = attend(arr.with_values(values), None, causal=True, return_lse=True)
            found = out.values, lse.values, *torch.autograd.grad(out.values.sum() + lse.values.sum(), values)
        (plan,) = run._plans.values()
        return found, type(plan.forward[True][0]._variant.start)

    by_torch, starter = step()
    assert starter is starters.ByTorch
    monkeypatch.setattr(starters, "_launcher", None)
    by_triton, starter = step()
    assert starter is starters.ByTriton
    assert all(torch.equal(x, y) for x, y in zip(by_torch, by_triton, strict=True))


def test_an_operator_passes_the_checks_of_torch():
    from scree_triton.attention.operators import triton_attention

    arr = rows([5, 8], 2, 16, dtype=torch.float32)
    q, k, v = (arr.values.clone().requires_grad_() for _ in range(3))
    sinks = torch.zeros(2, device="cuda", requires_grad=True)
    options = None, None, True, 0.25, -1, -1, None
    for rest in ((None, *options, False), (sinks, *options, True)):
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(triton_attention, (q, k, v, arr.offsets, None, *rest), test_utils=checks)


def test_logits_may_be_more_than_int32_counts():
    vocab = 131_072
    total = 2**31 // vocab + 40
    if torch.cuda.mem_get_info()[0] < 5 * total * vocab:
        pytest.skip("needs 11 GB of memory")
    logits = torch.full((total, vocab), torch.nan, dtype=torch.bfloat16, device="cuda")
    places = torch.tensor([0, 5, total - 30, total - 1], device="cuda")
    few = torch.randn(4, vocab, device="cuda").bfloat16()
    logits[places] = few
    labels = torch.full((total,), -100, device="cuda")
    labels[places] = own = torch.tensor([3, vocab - 1, 0, 77_777], device="cuda")
    logits.requires_grad_()
    loss = scree.varlen_cross_entropy(scree.from_lengths(logits, [total]), labels, shift=False, backend="triton")
    (d_logits,) = torch.autograd.grad(loss, logits)
    few.requires_grad_()
    wanted = torch.nn.functional.cross_entropy(few.float(), own)
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(d_logits[places], torch.autograd.grad(wanted, few)[0], rtol=8e-3, atol=1e-9)
    d_logits[places] = 0
    assert not d_logits.any()
