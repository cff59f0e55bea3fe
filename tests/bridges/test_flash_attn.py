"""The arguments of variable-length attention functions, against the functions."""

import ast
import inspect
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import scree


def accepted(function, keywords):
    """Tell whether a signature takes q, k, v and these keywords, and return its parameters' names."""
    signature = inspect.signature(function)
    signature.bind(None, None, None, **keywords)
    return list(signature.parameters)


def in_order(names, parameters):
    return [name for name in parameters if name in names] == list(names)


def test_torch_takes_them_in_this_order():
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="PyTorch before 2.10 has no varlen_attn")
    rows = scree.from_lengths(np.zeros((3, 1, 8), np.float16), [1, 2])
    found = scree.bridges.flash_attn_kwargs(rows, flavour="torch")
    assert in_order(found, accepted(varlen.varlen_attn, found))


def test_flash_attention_4_takes_them_in_this_order():
    if find_spec("flash_attn") is None:
        pytest.skip("flash-attn-4 isn't installed")
    package = find_spec("flash_attn.cute")
    if package is None:
        pytest.skip("flash-attn-4 isn't installed")
    # Importing it takes a GPU's libraries; its signature is in its source.
    tree = ast.parse(Path(package.origin).with_name("interface.py").read_text(encoding="utf-8"))
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "flash_attn_varlen_func")
    rows = scree.from_lengths(np.zeros((3, 1, 8), np.float16), [1, 2])
    found = scree.bridges.flash_attn_kwargs(rows, flavour="fa4")
    assert in_order(found, [argument.arg for argument in function.args.args])
