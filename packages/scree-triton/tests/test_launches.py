"""What a kernel was compiled for at its first launch, a trial's or a call's, holds for all others of its variant."""

import itertools
import random

import pytest

torch = pytest.importorskip("torch")

from scree_core.layout import Layout  # noqa: E402
from scree_torch.varlen_attention.options import Options  # noqa: E402
from scree_triton import launch  # noqa: E402
from scree_triton.attention import backward, check, run, tuned  # noqa: E402
from scree_triton.attention.entry import varlen_attention  # noqa: E402

SHAPES = [(4, 4, 64, 64), (4, 1, 64, 64), (4, 2, 40, 24), (1, 1, 1, 16), (2, 2, 128, 128)]
LIES = {
    "plain": lambda x: x,
    "by heads": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "odd": lambda x: torch.nn.functional.pad(x, (1, 0))[:, :, 1:],
}


@pytest.fixture
def variants(monkeypatch):
    """Launch nothing; note what each variant's first launch was given, and compare all others with it."""
    first = {}

    def note(variant, programs, *arguments):
        arrays = [x for x in arguments if x is None or isinstance(x, torch.Tensor)]
        given = [None if x is None else (x.dtype, x.data_ptr() % 16 == 0) for x in arrays]
        specialised = {p.name for p in getattr(variant._kernel, "params", []) if not p.do_not_specialize}
        names = [name for name in variant._kernel.arg_names if name not in variant._constants]
        for name, value in zip(names[len(arrays) :], arguments[len(arrays) :], strict=True):
            is_seen = isinstance(value, int) and name in specialised
            given.append((name, value == 1, value % 16 == 0) if is_seen else type(value))
        known = first.setdefault(variant, given)
        assert known == given, f"{variant._kernel.__name__} was first launched on other arguments"

    monkeypatch.setattr(launch.Variant, "__call__", note)
    monkeypatch.setattr(check, "_is_due", lambda given: not getattr(check._here, "busy", False))
    monkeypatch.setattr(check, "_error", lambda found, wanted: 0.0)
    monkeypatch.setattr(check, "_right", set())
    monkeypatch.setattr(check, "_keep", check._known().add)
    monkeypatch.setattr(check, "QUERIES", (1, 0, 100, 20))
    monkeypatch.setattr(check, "KEYS", (5, 3, 90, 0))
    monkeypatch.setattr(tuned, "environment", lambda device, architecture: "here")
    run.renew()
    yield first
    run.renew()


def rows_of(length):
    return Layout(torch.tensor([0, length, 2 * length]), total=2 * length, max_length=length)


def test_launches_of_a_variant_are_alike(variants, monkeypatch):
    layout, longer = rows_of(64), rows_of(96)
    lse = [(False, False), (True, False), (True, True)]  # whether it is returned, and has a cotangent
    flags = (False, True)
    dtypes = torch.float16, torch.float32
    calls = [*itertools.product(dtypes, SHAPES, flags, lse, flags, flags, LIES.values(), (0, 10**6))]
    random.Random(0).shuffle(calls)  # so that each kind is first now and then
    for dtype, (heads, kv_heads, dim, dim_v), has_sinks, (return_lse, uses_lse), cross, causal, lie, few in calls:
        monkeypatch.setattr(backward, "FEW", few)
        keys = longer if cross else layout
        sizes = (layout.total, heads, dim), (keys.total, kv_heads, dim), (keys.total, kv_heads, dim_v)
        q, k, v = (lie(torch.zeros(size, dtype=dtype)).requires_grad_() for size in sizes)
        sinks = torch.zeros(heads, dtype=dtype, requires_grad=True) if has_sinks else None
        arguments = q, k, v, layout, keys, sinks, Options(causal, 0.1, (-1, -1), None)
        out, found = varlen_attention(*arguments, return_lse=return_lse)
        outs = [out, found] if uses_lse else [out]
        torch.autograd.grad(outs, [x for x in (q, k, v, sinks) if x is not None], [torch.ones_like(x) for x in outs])
        with torch.no_grad():
            varlen_attention(*arguments, return_lse=return_lse)
    assert len(variants) > 500
