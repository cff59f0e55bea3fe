"""The names of SGLang's fields, by its source: importing it takes a GPU's libraries."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("scree_torch", reason="scree-torch isn't installed")


def classes():
    package = find_spec("sglang")
    if package is None:
        pytest.skip("SGLang isn't installed")
    source = Path(package.origin).parent / "srt" / "model_executor" / "forward_batch_info.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def test_a_forward_batch_has_the_fields_that_are_read_and_given():
    from scree_torch.bridges import sglang, to_sglang

    fields = {node.target.id for node in classes()["ForwardBatch"].body if isinstance(node, ast.AnnAssign)}
    assert {*sglang.FIELDS, *sglang.EXTEND, "encoder_lens"} <= fields
    given = {line.strip("` ,.") for line in (to_sglang.__doc__ or "").split("Returns")[1].split("What else")[0].split()}
    assert {name for name in given if "_" in name or name == "positions"} <= fields


def test_its_forward_modes_are_those_that_are_known():
    from scree_torch.bridges import sglang

    modes = {node.targets[0].id for node in classes()["ForwardMode"].body if isinstance(node, ast.Assign)}
    assert {*sglang.EXTENDS, *sglang.DECODES} <= modes
