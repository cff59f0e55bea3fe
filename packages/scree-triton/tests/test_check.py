"""Kernels are tried on small rows before they are first used, and wrong ones aren't."""

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import scree_core as scree  # noqa: E402
from scree_triton import launch  # noqa: E402
from scree_triton.attention import backward, check, run, tuned  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch, tmp_path):
    """Try kernels in the interpreter too, with notes of their own."""
    monkeypatch.setenv("SCREE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(check, "_right", None)
    if launch.INTERPRETED:
        monkeypatch.setattr(check, "_is_due", lambda given: not getattr(check._here, "busy", False))
        monkeypatch.setattr(tuned, "environment", lambda device, architecture: "here")
        monkeypatch.setattr(check, "QUERIES", (1, 0, 100, 20))  # it is slow
        monkeypatch.setattr(check, "KEYS", (5, 3, 90, 0))
    run.renew()
    yield
    run.renew()


@pytest.fixture
def trials(monkeypatch):
    """Note what is tried."""
    seen, small = [], check._small

    def noting(*given):
        seen.append(given[0].d_out is not None)
        return small(*given)

    monkeypatch.setattr(check, "_small", noting)
    return seen


def rows(lengths, *features, device, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sum(lengths), *features, generator=generator).to(device, dtype)
    return scree.Array(values, torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device))


def step(device, dtype="float16", heads=4, kv_heads=2, head_dim=40, head_dim_v=24, cross=True, sinks=False, **options):
    dtype = getattr(torch, dtype)
    q = rows([3, 70], heads, head_dim, device=device, dtype=dtype)
    others = [5, 90] if cross else [3, 70]
    k = rows(others, kv_heads, head_dim, device=device, dtype=dtype, seed=1)
    v = k.with_values(rows(others, kv_heads, head_dim_v, device=device, dtype=dtype, seed=2).values)
    if not cross:
        k, v = q.with_values(k.values), q.with_values(v.values)
    leaves = [x.values.requires_grad_() for x in (q, k, v)]
    if sinks:
        options["sinks"] = torch.randn(heads, device=device, dtype=dtype).requires_grad_()
        leaves.append(options["sinks"])
    out = scree.varlen_attention(q, k, v, backend="triton", **options)
    outs = [x.values for x in (out if isinstance(out, tuple) else (out,))]
    return torch.autograd.grad([x.float().square().sum() for x in outs], leaves)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float16", {"causal": True, "cross": False}),
        ("bfloat16", {"causal": True, "window": (40, -1), "softcap": 3.0, "scale": -0.2}),
        ("float32", {}),
        ("float16", {"sinks": True, "return_lse": True}),
        ("float32", {"sinks": True, "return_lse": True, "causal": True}),
        ("bfloat16", {"sinks": True, "causal": True, "head_dim": 128, "head_dim_v": 128, "heads": 2}),
        ("float32", {"scale": 0.0}),
        ("bfloat16", {"causal": True, "window": (0, 0), "scale": 1e5, "softcap": 1e-3, "heads": 3, "kv_heads": 3}),
    ],
    ids=str,
)
def test_right_kernels_pass_and_are_tried_once(trials, options, dtype, device):
    step(device, dtype, **options)
    assert trials == [False, True]
    run.renew()
    step(device, dtype, **options)
    assert trials == [False, True]
    check._right = None  # as in another process
    run.renew()
    step(device, dtype, **options)
    assert trials == [False, True]
    assert len(tuned.path().with_name(check.FILE).read_text().split()) == 2


@pytest.mark.parametrize("few", [0, 10**6])
def test_wrong_numbers_are_refused_by_name(monkeypatch, few, device):
    monkeypatch.setattr(backward, "FEW", few)
    forward = run.forward

    def wrong_forward(*arrays, learns):
        found = forward(*arrays, learns=learns)
        found.out[20:, 1] = 0
        return found

    with monkeypatch.context() as patch:
        patch.setattr(run, "forward", wrong_forward)
        with pytest.raises(check.MiscompiledError, match=r"'forward' gives wrong numbers.*head_dim 40, head_dim_v 24"):
            step(device)
    assert not check._known()
    right = backward.backward

    def wrong_backward(*arrays):
        d_q, d_k, d_v, d_sinks = right(*arrays)
        return d_q, d_k * float("nan"), d_v, d_sinks

    monkeypatch.setattr(backward, "backward", wrong_backward)
    with pytest.raises(RuntimeError, match="'both'" if few else "'queries and keys'"):
        step(device)


def test_it_can_be_left_out(monkeypatch):
    monkeypatch.undo()
    code = "from scree_triton.attention import check; import json; print(json.dumps(check.WANTED))"
    for value, wanted in (("0", False), ("off", False), ("1", True), ("", True)):
        environment = {"SCREE_TRITON_CHECK": value, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert json.loads(child.stdout) is wanted, child.stderr


@pytest.mark.parametrize(
    "lie",
    [
        lambda x: x,
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.cat([x, x, x], 1)[:, 2:4],
        lambda x: x[:, :, ::2],
        lambda x: x[:, :, 1:],
        lambda x: x[:, :1, :1].expand(x.shape),
    ],
)
def test_trials_lie_in_memory_as_calls_do(lie, device):
    x = lie(torch.randn(70, 2, 48, device=device).half())
    small = check._like(x, (293, *x.shape[1:]), torch.Generator(device).manual_seed(0))
    assert small.shape == (293, *x.shape[1:])
    assert small.data_ptr() % 16 == x.data_ptr() % 16
    for mine, theirs in zip(small.stride(), x.stride(), strict=True):
        assert (mine == theirs) if theirs < 2 else (mine > 1 and np.gcd(mine, 16) == np.gcd(theirs, 16))
    flat = small.double().unique()
    assert flat.numel() > 1
    if 0 not in x.stride():  # no element lies where another one does
        at = sum(
            torch.arange(n).reshape([-1 if i == axis else 1 for i in range(3)]) * s
            for axis, (n, s) in enumerate(zip(small.shape, small.stride(), strict=True))
        )
        assert at.unique().numel() == small.numel()


def test_what_a_dtype_cannot_hold_does_not_count():
    nan, inf = float("nan"), float("inf")

    def error(found, wanted, dtype=torch.float16):
        found, wanted = torch.tensor(found, dtype=dtype), torch.tensor(wanted, dtype=torch.float64)
        return check._error((found, None), (wanted, None))

    assert error([1.0, -inf], [1.0, -inf]) == 0
    assert error([1.0, inf], [1.0, 1e6]) == 0
    assert error([1e-7, 0.0], [1.4e-7, 1e-30]) < 1e-2
    assert error([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.2 / 5**0.5, rel=1e-2)
    for found, wanted in (([1.0, nan], [1.0, 2.0]), ([1.0, 0.0], [1.0, -inf]), ([1.0, inf], [1.0, 5.0])):
        assert not error(found, wanted) <= 1e6
