"""The arguments of variable-length attention functions, against the functions."""

import ast
import inspect
from importlib import metadata
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np
import pytest

import scree
from scree_core.bridges.flash_attn import FIXED


class Source(NamedTuple):
    """Where a distribution has a function, and what it takes before and besides the rows."""

    distribution: str
    file: str
    function: str
    before: int = 3
    besides: tuple[str, ...] = ()
    by_name: bool = False


# Importing any of them takes a GPU's libraries; their signatures are in their sources.
SOURCES = {
    "fa2": Source("flash-attn", "flash_attn/flash_attn_interface.py", "flash_attn_varlen_func"),
    "fa3": Source("fa3-fwd", "fa3_fwd_interface.py", "flash_attn_varlen_func"),
    "fa4": Source("flash-attn-4", "flash_attn/cute/interface.py", "flash_attn_varlen_func"),
    "vllm": Source("vllm", "vllm/vllm_flash_attn/flash_attn_interface.py", "flash_attn_varlen_func", by_name=True),
    "flashinfer": Source(
        "flashinfer-python",
        "flashinfer/prefill.py",
        "BatchPrefillWithRaggedKVCacheWrapper.plan",
        before=1,  # self
        besides=("num_qo_heads", "num_kv_heads", "head_dim_qk"),
    ),
    "te": Source(
        "transformer-engine",
        "transformer_engine/pytorch/attention/dot_product_attention/dot_product_attention.py",
        "DotProductAttention.forward",
        before=4,  # self
        by_name=True,
    ),
}


def kwargs(flavour):
    rows = scree.from_lengths(np.zeros((3, 1, 8), np.float16), [1, 2])
    return scree.bridges.flash_attn_kwargs(rows, flavour=flavour)


def definition(source):
    """Return a function as its installed file writes it."""
    installed = next(iter(metadata.distributions(name=source.distribution)), None)
    if installed is None:
        pytest.skip(f"{source.distribution} isn't installed")
    node = ast.parse(installed.locate_file(source.file).read_text(encoding="utf-8"))
    for name in source.function.split("."):
        (node,) = (n for n in node.body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == name)
    return node


def signature(function):
    """Return the signature that the function would have."""
    arguments, kind = function.args, inspect.Parameter
    positional = [*arguments.posonlyargs, *arguments.args]
    kinds = chain(repeat(kind.POSITIONAL_ONLY, len(arguments.posonlyargs)), repeat(kind.POSITIONAL_OR_KEYWORD))
    defaults = [kind.empty] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    found = [kind(a.arg, k, default=d) for a, k, d in zip(positional, kinds, defaults, strict=False)]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(kind(argument.arg, kind.KEYWORD_ONLY, default=kind.empty if default is None else default))
    return inspect.Signature(found)


def in_order(names, parameters):
    return [name for name in parameters if name in names] == list(names)


def test_torch_takes_them_in_this_order():
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="PyTorch before 2.10 has no varlen_attn")
    found = kwargs("torch")
    taken = inspect.signature(varlen.varlen_attn)
    taken.bind(None, None, None, **found)
    assert in_order(found, taken.parameters)


@pytest.mark.parametrize("flavour", SOURCES)
def test_a_function_takes_them_and_needs_no_more(flavour):
    source = SOURCES[flavour]
    taken = signature(definition(source))
    found = kwargs(flavour)
    taken.bind(*repeat(None, source.before), **dict.fromkeys(source.besides), **found)
    assert source.by_name or in_order(found, taken.parameters)


@pytest.mark.parametrize("flavour", FIXED)
def test_what_is_fixed_is_something_that_the_function_asks_for(flavour):
    constants = {node.value for node in ast.walk(definition(SOURCES[flavour])) if isinstance(node, ast.Constant)}
    assert set(FIXED[flavour].values()) <= constants
