"""torch.compile: every op whole, forward and backward, and a transformer block without compiling for each length."""

import logging
import shutil

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import scree

# What torch.compile itself does.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore:.*is_fx_tracing:UserWarning",
    "ignore:The given buffer is not writable:UserWarning",
)


@pytest.fixture(autouse=True)
def _fresh():
    scree.preload("torch")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


VALUES = torch.arange(20.0).reshape(5, 4)
OFFSETS = torch.tensor([0, 2, 2, 5], dtype=torch.int32)
TABLES = torch.linspace(0, 1, 16).reshape(8, 2).cos(), torch.linspace(0, 1, 16).reshape(8, 2).sin()


def heads(v, o, **hints):
    return scree.Array(v.reshape(-1, 2, 2), o, **hints)


OPS = {
    "operators": lambda v, o: (1 - scree.Array(v, o) * scree.Array(v, o)).values,
    "derived": lambda v, o: (scree.Array(v, o).segment_ids * v[0, 0], scree.Array(v, o).positions),
    "to_padded": lambda v, o: scree.to_padded(scree.Array(v, o), max_length=3, side="left"),
    "from_padded": lambda v, o: scree.from_padded(v.reshape(5, 4), v.reshape(5, 4) > 3, capacity=20).values,
    "repeat_rows": lambda v, o: scree.repeat_rows(v[:3], like=scree.Array(v, o)).values,
    "varlen_rmsnorm": lambda v, o: scree.varlen_rmsnorm(scree.Array(v, o), v[1]).values,
    "varlen_layernorm": lambda v, o: scree.varlen_layernorm(scree.Array(v, o), v[1], v[2]).values,
    "varlen_rope": lambda v, o: scree.varlen_rope(scree.Array(v, o), *TABLES).values,
    "varlen_softmax": lambda v, o: scree.varlen_softmax(scree.Array(v, o)).values,
    "varlen_cumsum": lambda v, o: scree.varlen_cumsum(scree.Array(v, o)).values,
    "varlen_sum": lambda v, o: scree.varlen_sum(scree.Array(v, o)),
    "varlen_mean": lambda v, o: scree.varlen_mean(scree.Array(v, o)),
    "varlen_max": lambda v, o: scree.varlen_max(scree.Array(v, o)),
    "varlen_min": lambda v, o: scree.varlen_min(scree.Array(v, o)),
    "varlen_logsumexp": lambda v, o: scree.varlen_logsumexp(scree.Array(v, o)),
    "varlen_cross_entropy": lambda v, o: scree.varlen_cross_entropy(scree.Array(v, o), torch.arange(len(v)) % 4),
    "losses by rows": lambda v, o: scree.varlen_cross_entropy(
        scree.Array(v, o), torch.arange(len(v)) % 4, reduction="row_mean_token_mean", num_items=v[0, 0].long()
    ),
    "varlen_attention": lambda v, o: scree.varlen_attention(*(heads(v * i, o) for i in (1, 2, 3)), causal=True).values,
    "varlen_attention, one Array": lambda v, o: scree.varlen_attention(*[heads(v, o)] * 3, sinks=v[0, :2]).values,
    "tail": lambda v, o: scree.varlen_softmax(scree.Array(v, o[:-1], tail=True)).values,
}


@pytest.mark.parametrize("name", OPS)
def test_ops_compile_whole_with_their_gradients(name):
    fn = OPS[name]
    compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
    expected, got = ([*each] if isinstance(each, tuple) else [each] for each in results(fn, compiled))
    torch.testing.assert_close(got, expected)


def results(*fns):
    """Return what functions return, with the gradients behind."""
    for fn in fns:
        values = VALUES.clone().requires_grad_()
        found = fn(values, OFFSETS)
        found = [*found] if isinstance(found, tuple) else [found]
        sums = sum(x.sin().sum() for x in found if x.requires_grad)
        yield (*found, *torch.autograd.grad(sums, values))


def test_arrays_go_into_and_out_of_a_compiled_function():
    made = torch.compile(lambda v, o: scree.Array(v * 2, o, max_length=3), fullgraph=True, backend="eager")(
        VALUES, OFFSETS
    )
    assert isinstance(made, scree.Array)
    assert made.max_length == 3
    doubled = torch.compile(lambda arr: arr + arr, fullgraph=True, backend="eager")(made)
    assert torch.equal(doubled.values, VALUES * 4)
    assert doubled.layout is made.layout


def test_nothing_made_while_compiling_is_kept():
    arr = scree.Array(VALUES, OFFSETS)
    ids = torch.compile(lambda a: a.segment_ids * 1, fullgraph=True, backend="eager")(arr)
    assert not arr.layout._derived
    assert torch.equal(arr.segment_ids, ids)


def test_rows_are_packed_inside_a_compiled_function():
    def fn(a, b):
        arr = scree.pack([a, b])
        return scree.varlen_sum(arr), arr.offsets, scree.to_padded(arr)[0]

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(fn, fullgraph=True, backend=counter)
    for rows in ((2, 3), (4, 7), (5, 9), (8, 3)):
        given = [torch.randn(n, 2) for n in rows]
        torch.testing.assert_close(compiled(*given), fn(*given))
    assert counter.frame_count <= 3  # which is the longer is known at compile time


def test_numbers_may_be_arguments_of_a_compiled_function():
    def fn(v, scale, eps):
        a = scree.varlen_rmsnorm(heads(v, OFFSETS), eps=eps)
        return scree.varlen_attention(a, a, a, scale=scale, softcap=10 * scale).values

    compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
    for scale in (0.5, 0.7, 0.9):
        torch.testing.assert_close(compiled(VALUES, scale, scale / 100), fn(VALUES, scale, scale / 100))


@pytest.mark.parametrize(
    ("call", "mend"),
    [
        (lambda a: scree.from_padded(a.values, a.values > 3), r"from_padded\(..., capacity=...\)"),
        (lambda a: scree.unpack(a), "reads row boundaries on the host"),
    ],
    ids=["from_padded", "unpack"],
)
def test_what_the_host_has_to_read_breaks_the_graph_and_still_works(call, mend):
    arr = scree.Array(VALUES, OFFSETS)
    out, expected = torch.compile(call, backend="eager")(arr), call(arr)
    torch.testing.assert_close(getattr(out, "values", out), getattr(expected, "values", expected))
    torch.compiler.reset()
    with pytest.raises(Exception, match=mend):
        torch.compile(call, fullgraph=True, backend="eager")(arr)


# ---------------------------------------------------------------------- a transformer block

WIDTH, HEADS = 16, 2


class Block(torch.nn.Module):
    """A pre-norm transformer block on Arrays."""

    def __init__(self):
        super().__init__()
        self.norms = torch.nn.ParameterList(torch.ones(WIDTH) for _ in range(2))
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.GELU(), torch.nn.Linear(4 * WIDTH, WIDTH)
        )
        angles = torch.outer(torch.arange(64.0), 10.0 ** -torch.arange(4.0))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, x):
        qkv = self.qkv(scree.varlen_rmsnorm(x, self.norms[0]).values).unflatten(-1, (3, HEADS, -1))
        q, k, v = (x.with_values(part) for part in qkv.unbind(1))
        q, k = (scree.varlen_rope(part, self.cos, self.sin) for part in (q, k))
        x = x + x.with_values(self.out(scree.varlen_attention(q, k, v, causal=True).values.flatten(1)))
        return x + x.with_values(self.mlp(scree.varlen_rmsnorm(x, self.norms[1]).values))


def batches(count):
    """Draw rows of other lengths each time, as many as always."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        lengths = rng.integers(0, 40, 5)
        values = torch.from_numpy(rng.standard_normal((lengths.sum(), WIDTH)).astype(np.float32))
        yield values.requires_grad_(), torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)


def pooled(block, x):
    return scree.varlen_mean(block(x))


INDUCTOR = pytest.param(
    "inductor", "tensors", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
)


@pytest.mark.parametrize(("backend", "given"), [("aot_eager", "tensors"), ("aot_eager", "Arrays"), INDUCTOR])
def test_a_block_is_compiled_at_most_twice_for_many_lengths(backend, given):
    torch.manual_seed(0)
    block, counter = Block(), CompileCounterWithBackend(backend)
    if given == "tensors":
        compiled = torch.compile(lambda v, o: pooled(block, scree.Array(v, o)), fullgraph=True, backend=counter)
    else:  # with all that the host knows of their lengths
        whole = torch.compile(lambda x: pooled(block, x), fullgraph=True, backend=counter)
        compiled = lambda v, o: whole(scree.Array(v, o))  # noqa: E731
    for values, offsets in batches(10):
        learned = [values, *block.parameters()]
        out, expected = compiled(values, offsets), pooled(block, scree.Array(values, offsets))
        torch.testing.assert_close(out, expected)
        got, want = (torch.autograd.grad(y.square().sum(), learned) for y in (out, expected))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4)
    assert counter.frame_count <= 2


def test_a_total_marked_as_dynamic_is_compiled_once():
    block, counter = Block(), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda v, o: block(scree.Array(v, o)).values, fullgraph=True, backend=counter)
    for values, offsets in batches(5):
        torch._dynamo.mark_dynamic(values, 0)
        compiled(values, offsets).sum().backward()
    assert counter.frame_count == 1


def test_a_block_is_exported_for_batches_of_any_lengths(tmp_path, monkeypatch):
    # PyTorch 2.13 logs there with an argument missing.
    monkeypatch.setattr(logging.getLogger("torch._export.serde.serialize"), "disabled", True)
    block = Block().eval()
    example = scree.from_lengths(torch.randn(9, WIDTH), [4, 2, 3])
    sizes = torch.export.Dim("total"), torch.export.Dim("offsets", min=3)
    shapes = ([{0: sizes[0]}, [{0: sizes[1]}]],)  # of values and, in the layout, offsets
    program = torch.export.export(block, (example,), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, tmp_path / "block.pt2")
    for module in (program.module(), torch.export.load(tmp_path / "block.pt2").module()):
        for lengths in ([3, 2], [10, 1, 0, 7, 3]):
            arr = scree.from_lengths(torch.randn(sum(lengths), WIDTH, requires_grad=True), lengths)
            out, expected = module(arr), block(arr)
            assert out.lengths.tolist() == lengths
            torch.testing.assert_close(out.values, expected.values)
            gradients = (torch.autograd.grad(x.values.square().sum(), arr.values) for x in (out, expected))
            torch.testing.assert_close(*gradients)
