"""The conformance suite catches what people get wrong: each op is broken on purpose, and must fail it."""

import pytest

HEAD = """
import numpy as np
from scree_core import Layout
from scree_core.testing import BackendConformance
from scree_core.testing.loopback import LoopbackArray, LoopbackBackend as Toy

def one_row(layout):
    return Layout(LoopbackArray(layout.offsets.host[[0, -1]]), total=layout.total)

"""
SUITE = """
class TestBroken(BackendConformance):
    backend = Broken
"""

BROKEN = {
    "varlen_mean-counts_the_tail": """
        takes_tail = True
        def varlen_mean(self, x, layout, *, empty):
            offsets = layout.offsets.host.copy()
            offsets[-1:] = x.shape[0]
            return super().varlen_mean(x, Layout(LoopbackArray(offsets), total=x.shape[0]), empty=empty)
    """,
    "pack-drops_an_array": "def pack(self, arrays): return super().pack(arrays[:1] * len(arrays))",
    "pack-reverses": "def pack(self, arrays): return super().pack(arrays[::-1])",
    "take_rows-sorts": "def take_rows(self, x, index): return super().take_rows(x, np.sort(index))",
    "to_padded-ignores_the_side": """
        def to_padded(self, x, layout, *, width, side, fill_value):
            return super().to_padded(x, layout, width=width, side="right", fill_value=fill_value)
    """,
    "to_padded-fills_with_the_neighbour": """
        def to_padded(self, x, layout, *, width, side, fill_value):
            padded, mask = super().to_padded(x, layout, width=width, side=side, fill_value=fill_value)
            if x.shape[0] and width:
                index = np.clip(layout.offsets.host[:-1, None] + np.arange(width), 0, x.shape[0] - 1)
                if side == "right":
                    padded = LoopbackArray(x.host[index])
            return padded, mask
    """,
    "from_padded-takes_a_prefix": """
        def from_padded(self, padded, mask):
            lengths = mask.host.sum(1, keepdims=True)
            return super().from_padded(padded, LoopbackArray(np.arange(mask.shape[1]) < lengths))
    """,
    "segment_ids-come_as_float": """
        def segment_ids(self, layout, total): return LoopbackArray(super().segment_ids(layout, total).host * 1.0)
    """,
    "segment_ids-skip_empty_rows": """
        def segment_ids(self, layout, total):
            ids = super().segment_ids(layout, total).host
            return LoopbackArray(np.unique(ids, return_inverse=True)[1].astype(ids.dtype))
    """,
    "positions-do_not_restart": """
        def positions(self, layout, total): return LoopbackArray(np.arange(total, dtype=layout.offsets.dtype))
    """,
    "repeat_rows-shifts_a_row": """
        def repeat_rows(self, dense, layout, total):
            return super().repeat_rows(LoopbackArray(np.roll(dense.host, 1, 0)), layout, total)
    """,
    "varlen_attention-wrong_scale": """
        def varlen_attention(self, *args, scale, **kw):
            return super().varlen_attention(*args, scale=scale * 1.001, **kw)
    """,
    "varlen_attention-lost_mask": """
        def varlen_attention(self, *args, causal, **kw): return super().varlen_attention(*args, causal=False, **kw)
    """,
    "varlen_attention-window_off_by_one": """
        def varlen_attention(self, *args, window, **kw):
            left, right = window
            return super().varlen_attention(*args, window=(left + 1 if left >= 0 else -1, right), **kw)
    """,
    "varlen_attention-lost_softcap": """
        def varlen_attention(self, *args, softcap, **kw): return super().varlen_attention(*args, softcap=None, **kw)
    """,
    "varlen_attention-lost_sinks": """
        def varlen_attention(self, *args, sinks, **kw): return super().varlen_attention(*args, sinks=None, **kw)
    """,
    "varlen_attention-wrong_head_groups": """
        def varlen_attention(self, q, k, v, *layouts, **kw):
            order = np.arange(k.shape[1])[::-1]
            k, v = (LoopbackArray(x.host[:, order]) if q.shape[1] != x.shape[1] else x for x in (k, v))
            return super().varlen_attention(q, k, v, *layouts, **kw)
    """,
    "varlen_attention-wrong_lse": """
        def varlen_attention(self, *args, **kw):
            out, lse = super().varlen_attention(*args, **kw)
            return out, None if lse is None else lse * 1.0001
    """,
    "varlen_attention-lse_with_sink": """
        def varlen_attention(self, *args, sinks, **kw):
            out, lse = super().varlen_attention(*args, sinks=sinks, **kw)
            if lse is not None and sinks is not None:
                lse = LoopbackArray(np.logaddexp(lse.host, sinks.host))
            return out, lse
    """,
    "varlen_attention-nan_without_keys": """
        def varlen_attention(self, *args, return_lse, **kw):
            out, lse = super().varlen_attention(*args, return_lse=True, **kw)
            out = LoopbackArray(np.where(np.isneginf(lse.host)[..., None], np.nan, out.host).astype(out.dtype))
            return out, lse if return_lse else None
    """,
    "varlen_attention-leaks_over_rows": """
        def varlen_attention(self, q, k, v, q_layout, k_layout, **kw):
            return super().varlen_attention(q, k, v, one_row(q_layout), one_row(k_layout), **kw)
    """,
    "varlen_attention-top_left_causal": """
        def varlen_attention(self, q, k, v, q_layout, k_layout, *, causal, window, **kw):
            if causal and q_layout.offsets.host.tolist() != k_layout.offsets.host.tolist():
                return super().varlen_attention(q, k, v, q_layout, k_layout, causal=False, window=window, **kw)
            return super().varlen_attention(q, k, v, q_layout, k_layout, causal=causal, window=window, **kw)
    """,
    "varlen_layernorm-wrong_eps": """
        def varlen_layernorm(self, x, weight, bias, *, eps): return super().varlen_layernorm(x, weight, bias, eps=1e-6)
    """,
    "varlen_layernorm-lost_bias": """
        def varlen_layernorm(self, x, weight, bias, *, eps): return super().varlen_layernorm(x, weight, None, eps=eps)
    """,
    "varlen_rmsnorm-wrong_eps": """
        def varlen_rmsnorm(self, x, weight, *, eps): return super().varlen_rmsnorm(x, weight, eps=1e-5)
    """,
    "varlen_rmsnorm-lost_weight": """
        def varlen_rmsnorm(self, x, weight, *, eps): return super().varlen_rmsnorm(x, None, eps=eps)
    """,
    "varlen_softmax-leaks_over_rows": """
        def varlen_softmax(self, x, layout): return super().varlen_softmax(x, one_row(layout))
    """,
    "varlen_softmax-overflows": """
        def varlen_softmax(self, x, layout):
            with np.errstate(all="ignore"):
                e = np.exp(x.host)
                total = self.varlen_sum(LoopbackArray(e), layout, empty=1.0).host
                return LoopbackArray((e / np.repeat(total, np.diff(layout.offsets.host), 0)).astype(x.dtype))
    """,
    "varlen_rope-positions_do_not_restart": """
        def varlen_rope(self, x, cos, sin, layout, positions, *, interleaved):
            if positions is None:
                positions = LoopbackArray(np.arange(x.shape[0]) % cos.shape[0])
            return super().varlen_rope(x, cos, sin, layout, positions, interleaved=interleaved)
    """,
    "varlen_rope-lost_interleaving": """
        def varlen_rope(self, *args, interleaved): return super().varlen_rope(*args, interleaved=False)
    """,
    "varlen_rope-turns_backwards": """
        def varlen_rope(self, x, cos, sin, *args, **kw): return super().varlen_rope(x, cos, -sin, *args, **kw)
    """,
    "varlen_sum-nan_for_an_empty_row": """
        def varlen_sum(self, x, layout, *, empty): return super().varlen_sum(x, layout, empty=np.nan)
    """,
    "varlen_sum-gives_another_dtype": """
        def varlen_sum(self, x, layout, *, empty):
            return LoopbackArray(super().varlen_sum(x, layout, empty=empty).host.astype(np.float64))
    """,
    "varlen_mean-divides_by_the_longest": """
        def varlen_mean(self, x, layout, *, empty):
            return super().varlen_sum(x, layout, empty=empty) / float(max(1, layout.max_length))
    """,
    "varlen_max-starts_from_zero": """
        def varlen_max(self, x, layout, *, empty): return np_max(super().varlen_max(x, layout, empty=empty))
    """,
    "varlen_min-ignores_empty": """
        def varlen_min(self, x, layout, *, empty): return super().varlen_min(x, layout, empty=0)
    """,
    "varlen_logsumexp-overflows": """
        def varlen_logsumexp(self, x, layout, *, empty):
            with np.errstate(all="ignore"):
                total = super().varlen_sum(LoopbackArray(np.exp(x.host)), layout, empty=0.0)
                out = np.log(total.host)
            out[np.diff(layout.offsets.host) == 0] = empty
            return LoopbackArray(out)
    """,
    "varlen_cumsum-does_not_restart": """
        def varlen_cumsum(self, x, layout): return super().varlen_cumsum(x, one_row(layout))
    """,
    "varlen_cumsum-subtracts_what_came_before": """
        def varlen_cumsum(self, x, layout):
            if x.dtype.kind != "f":
                return super().varlen_cumsum(x, layout)
            host, offsets = np.cumsum(x.host, 0, dtype=x.dtype), layout.offsets.host
            before = np.concatenate([np.zeros_like(host[:1]), host])[offsets[:-1]]
            return LoopbackArray(host - np.repeat(before, np.diff(offsets), 0))
    """,
    "varlen_cross_entropy-of_ignored_labels": """
        def varlen_cross_entropy(self, logits, labels):
            return super().varlen_cross_entropy(logits, LoopbackArray(np.maximum(labels.host, 0)))
    """,
    "varlen_cross_entropy-overflows": """
        def varlen_cross_entropy(self, logits, labels):
            with np.errstate(all="ignore"):
                lse = np.log(np.exp(logits.host).sum(-1))
            own = logits.host[np.arange(len(lse)), labels.host]
            return LoopbackArray(np.where(labels.host < 0, 0, lse - own).astype(lse.dtype))
    """,
    "varlen_softmax-writes_into_its_input": """
        def varlen_softmax(self, x, layout):
            out = super().varlen_softmax(x, layout)
            x.host[...] = 0
            return out
    """,
}


def run_suite(pytester, body, select, suite=SUITE):
    import textwrap

    lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    extra = "\ndef np_max(x): return LoopbackArray(np.maximum(x.host, 0))\n"
    pytester.makepyfile(HEAD + extra + f"class Broken(Toy):\n{lines}\n" + suite)
    return pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-k", select, "--no-header")


def test_the_suite_passes_what_is_whole(pytester):
    outcome = run_suite(pytester, "pass", "varlen_attention-").parseoutcomes()
    assert outcome["passed"] > 40
    assert "failed" not in outcome


@pytest.mark.parametrize("sabotage", BROKEN)
def test_the_suite_catches(pytester, sabotage):
    outcome = run_suite(pytester, BROKEN[sabotage], sabotage.split("-")[0] + "-").parseoutcomes()
    assert outcome.get("failed", 0) > 0, f"{sabotage} went unnoticed: {outcome}"


def test_the_suite_catches_halves_that_are_added_up_in_halves(pytester):
    halves = f'{SUITE}    dtypes = ("float32", "bfloat16")\n'
    assert run_suite(pytester, "pass", "added_up_wider", halves).parseoutcomes()["passed"] == 2
    narrow = "def _widen(self, x): return x"
    assert run_suite(pytester, narrow, "added_up_wider", halves).parseoutcomes()["failed"] == 1


def test_every_op_is_sabotaged():
    from scree_core.backend import OPS

    assert {name.split("-")[0] for name in BROKEN} == set(OPS)
