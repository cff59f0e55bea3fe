"""Tensors on different devices are refused before anything runs; meta tensors stand in for a second device."""

import pytest

torch = pytest.importorskip("torch")

import scree_core as scree  # noqa: E402

ELSEWHERE = "are on different devices, .*; move one of them"


@pytest.fixture
def here():
    return scree.from_lengths(torch.zeros(5, 2, 4), [2, 3])


@pytest.fixture
def there():
    offsets = torch.tensor([0, 2, 5], dtype=torch.int32, device="meta")
    return scree.Array(torch.zeros(5, 2, 4, device="meta"), offsets, max_length=3)


def test_offsets_must_be_beside_the_values():
    with pytest.raises(scree.ShapeError, match="values and offsets are on different devices, meta and cpu; move one"):
        scree.Array(torch.zeros(5, device="meta"), torch.tensor([0, 2, 5]))


def test_all_arrays_of_an_op_must_be_together(here, there):
    with pytest.raises(scree.ShapeError, match=f"q and k {ELSEWHERE}"):
        scree.varlen_attention(here, there, there)
    with pytest.raises(scree.ShapeError, match=f"x and weight {ELSEWHERE}"):
        scree.varlen_rmsnorm(here, torch.ones(4, device="meta"))
    with pytest.raises(scree.ShapeError, match=f"dense and like {ELSEWHERE}"):
        scree.repeat_rows(torch.ones(2, device="meta"), like=here)
    with pytest.raises(scree.ShapeError, match=ELSEWHERE):
        scree.concat([here, there])


def test_operands_and_lists_too(here, there):
    with pytest.raises(scree.ShapeError, match=ELSEWHERE):
        here + there
    with pytest.raises(scree.ShapeError, match=ELSEWHERE):
        here * torch.ones(4, device="meta")
    with pytest.raises(scree.ShapeError, match=rf"arrays\[0\] and arrays\[1\] {ELSEWHERE}"):
        scree.pack([torch.zeros(2), torch.zeros(2, device="meta")])


def test_a_number_in_a_tensor_may_be_anywhere(here):
    assert (here * torch.tensor(2.0)).layout is here.layout
