"""Every nested tensor that PyTorch tests its own operators with: it comes over and back, or its holes are named."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="expecttest, which PyTorch's own samples import, isn't installed")

import scree  # noqa: E402
from scree_torch.bridges import from_torch_nested, to_torch_nested  # noqa: E402

try:
    from torch.testing._internal.opinfo.definitions.nested import njt_op_db
except ImportError as error:
    pytest.skip(f"this PyTorch has no samples of nested tensors: {error}", allow_module_level=True)

OPS = [op for op in njt_op_db if op.supports_njt]


def nested_tensors(x):
    """Yield the nested tensors among the arguments of an operator."""
    if isinstance(x, torch.Tensor):
        if x.is_nested:
            yield x
    elif isinstance(x, (list, tuple)):
        for part in x:
            yield from nested_tensors(part)
    elif isinstance(x, dict):
        yield from nested_tensors(list(x.values()))


def test_there_are_samples_of_every_kind():
    assert len(OPS) > 100
    found = [x for sample in OPS[0].sample_inputs("cpu", torch.float32) for x in nested_tensors(sample.input)]
    assert any(x.lengths() is not None for x in found)
    assert any(x._ragged_idx > 1 for x in found)


@pytest.mark.parametrize("op", OPS, ids=[op.full_name for op in OPS])
def test_rows_of_samples_come_over_and_back_or_holes_are_named(op):
    for sample in op.sample_inputs("cpu", torch.float32):
        for nested in nested_tensors((sample.input, sample.args, sample.kwargs)):
            rows = nested.unbind()
            if nested.lengths() is not None:
                with pytest.raises(scree.ShapeError, match=r"holes.*nested\.contiguous\(\)"):
                    from_torch_nested(nested)
                nested = nested.contiguous()  # as the message says
            arr = from_torch_nested(nested)
            assert arr.ragged_dim == nested._ragged_idx - 1
            assert arr.values.data_ptr() == nested.values().data_ptr()
            assert len(arr) == len(rows)
            assert all(map(torch.equal, arr, rows))
            back = to_torch_nested(arr)
            assert back.shape[: back._ragged_idx] == (len(rows), *nested.shape[1 : back._ragged_idx])
            assert all(map(torch.equal, back.unbind(), rows))
