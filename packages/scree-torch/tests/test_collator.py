"""PackedCollator without transformers: any kind of rows gives one packed batch, and what can't be packed is named."""

import array
import collections
import dataclasses
import doctest
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scree.hf import PackedCollator
from scree_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from scree_torch.transformers import collator

IDS = [[5, 6, 7], [8, 9], [], [10]]
KINDS = {
    "lists": list,
    "tuples": tuple,
    "array.array": lambda row: array.array("i", row),
    "memmaps": lambda row: np.array(row, np.uint16).view(np.memmap),
    "big-endian": lambda row: np.array(row, ">i4"),
    **{f"numpy.{d}": (lambda row, d=d: np.array(row, d)) for d in ("int64", "int32", "uint16", "uint8", "uint64")},
    **{
        f"{d}": (lambda row, d=d: torch.tensor(row, dtype=d))
        for d in (torch.int64, torch.int32, torch.uint16, torch.uint64)
    },
}


def examples(rows=IDS, make=list, **more):
    return [
        {"input_ids": make(row)} | {name: make(values[i]) for name, values in more.items()}
        for i, row in enumerate(rows)
    ]


def plain(batch):
    """Return a batch as lists and numbers."""
    return {name: x.tolist() if isinstance(x, torch.Tensor) else x for name, x in batch.items()}


# ---------------------------------------------------------------------- what a batch is


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_give_the_same_batch(kind):
    batch = PackedCollator(return_seq_idx=True)(examples(make=KINDS[kind]))
    assert plain(batch) == {
        "input_ids": [[5, 6, 7, 8, 9, 10]],
        "labels": [[-100, 6, 7, -100, 9, -100]],
        "position_ids": [[0, 1, 2, 0, 1, 0]],
        "seq_idx": [[0, 0, 0, 1, 1, 3]],
        "cu_seq_lens_q": [0, 3, 5, 5, 6],
        "cu_seq_lens_k": [0, 3, 5, 5, 6],
        "max_length_q": 3,
        "max_length_k": 3,
    }
    for name, x in batch.items():
        if name.startswith("max"):
            assert type(x) is int
        else:
            assert x.dtype == (torch.int32 if name.startswith(("cu", "seq")) else torch.int64), name


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_an_empty_example_is_a_row_whatever_its_dtype(make):
    batch = PackedCollator()([{"input_ids": make([])}, {"input_ids": make([4])}])  # np.array([]) is float64
    assert batch["input_ids"].tolist() == [[4]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 0, 1]


def test_rows_of_several_kinds_go_into_one_batch():
    rows = [make(row) for make, row in zip((list, np.array, torch.tensor), IDS, strict=False)]
    assert PackedCollator()([{"input_ids": row} for row in rows])["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    two = [{"input_ids": torch.tensor([1], dtype=dtype)} for dtype in (torch.int32, torch.uint16)]
    assert PackedCollator()(two)["input_ids"].tolist() == [[1, 1]]


def test_any_mapping_is_an_example():
    class Encoding(collections.UserDict):
        """As transformers' BatchEncoding is one."""

    batch = PackedCollator()([Encoding(input_ids=[1, 2], attention_mask=[1, 1])])
    assert batch["input_ids"].tolist() == [[1, 2]]


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=6).filter(any),
    st.sampled_from(["causal", "aligned", "none"]),
    st.booleans(),
    st.integers(1, 9),
    st.integers(0, 3),
    st.sampled_from([list, np.array, torch.tensor]),
)
def test_a_batch_is_what_a_loop_over_tokens_makes(rows, labels, has_own, multiple_of, start, make):
    make = make if make is list else lambda row, of=make: of(row, dtype={np.array: np.int16}.get(of, torch.int16))
    own = [[-token for token in row] for row in rows] if has_own or labels == "aligned" else None
    given_rows = examples(rows, make, **({} if own is None else {"labels": own}))
    options = {"pad_id": 7, "ignore_index": -9, "multiple_of": multiple_of, "position_ids_start": start}
    batch = plain(PackedCollator(labels=labels, **options)(given_rows))
    ids, wanted, positions, ends = [], [], [], [0]
    for row, label in zip(rows, rows if own is None else own, strict=True):
        ids += row
        wanted += label if labels == "aligned" else [-9] * bool(row) + label[1:]
        positions += range(start, start + len(row))
        ends.append(len(ids))
    tail = -len(ids) % multiple_of
    if tail:
        ends.append(len(ids) + tail)
    expected = {"input_ids": [ids + [7] * tail], "position_ids": [[*positions, *range(start, start + tail)]]}
    if labels != "none":
        expected["labels"] = [wanted + [-9] * tail]
    expected |= dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), ends)
    expected |= dict.fromkeys(("max_length_q", "max_length_k"), max(tail, *map(len, rows)))
    assert batch == expected


def test_types_of_tokens_go_along_and_padding_has_type_0():
    batch = PackedCollator(multiple_of=4)(examples([[1, 2], [3]], token_type_ids=[[0, 1], [1]]))
    assert batch["token_type_ids"].tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
@pytest.mark.parametrize("one", [1, True])
def test_a_mask_of_ones_is_left_out(make, one):
    batch = PackedCollator()(examples([[1, 2], [3]], make, attention_mask=[[one, one], [one]]))
    assert "attention_mask" not in batch
    some = [{"input_ids": [1, 2]}, {"input_ids": [3], "attention_mask": make([one])}]
    assert PackedCollator()(some)["input_ids"].tolist() == [[1, 2, 3]]


def test_a_field_that_is_none_counts_as_missing():
    rows = examples([[1, 2], [3]])
    for row in rows:
        row |= {"labels": None, "attention_mask": None, "token_type_ids": None}
    assert plain(PackedCollator()(rows)) == plain(PackedCollator()(examples([[1, 2], [3]])))


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
@pytest.mark.parametrize("labels", ["causal", "aligned"])
def test_a_batch_shares_memory_with_nothing_but_its_offsets(make, labels):
    rows = examples([[1, 2, 3]], make, labels=[[4, 5, 6]])
    if labels == "causal":
        del rows[0]["labels"]
    batch = PackedCollator(labels=labels)(rows)
    batch["input_ids"].fill_(-1)
    fields = [batch[name] for name in ("input_ids", "labels", "position_ids", "cu_seq_lens_q")]
    assert len({x.untyped_storage().data_ptr() for x in fields}) == 4
    assert list(rows[0]["input_ids"]) == [1, 2, 3]
    assert batch["cu_seq_lens_q"] is batch["cu_seq_lens_k"]


def test_labels_of_an_example_itself_are_not_changed():
    labels = np.array([4, 5, 6])
    PackedCollator(multiple_of=2)([{"input_ids": labels, "labels": labels}])
    assert labels.tolist() == [4, 5, 6]


# ---------------------------------------------------------------------- the collator as an object


def test_transformers_is_not_imported():
    code = "import scree, sys; scree.hf.PackedCollator()([{'input_ids': [1]}]); print('transformers' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_its_repr_makes_it_again():
    collate = PackedCollator(labels="aligned", multiple_of=8, return_seq_idx=True)
    assert eval(repr(collate)) == collate != PackedCollator()
    assert pickle.loads(pickle.dumps(collate)) == collate


def test_options_that_were_checked_can_not_be_changed():
    collate = PackedCollator()
    with pytest.raises(dataclasses.FrozenInstanceError):
        collate.multiple_of = 0
    assert dataclasses.replace(collate, multiple_of=np.int64(4)).multiple_of == 4


def test_the_example_of_its_docstring_runs():
    failed, tried = doctest.testmod(collator)
    assert tried
    assert not failed


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"labels": "shifted"}, ArgumentError, "labels='shifted' must be one of 'causal', 'aligned', 'none'"),
        ({"labels": None}, ArgumentError, "labels=None must be one of"),
        ({"multiple_of": 0}, ArgumentError, "multiple_of=0 must be at least 1"),
        ({"multiple_of": 2.0}, ArgumentTypeError, "multiple_of must be a whole number, got 2.0"),
        ({"pad_id": -1}, ArgumentError, "pad_id=-1 must be at least 0"),
        ({"pad_id": None}, ArgumentTypeError, "pad_id must be a whole number, got None"),
        ({"ignore_index": None}, ArgumentTypeError, "ignore_index must be a whole number"),
        ({"position_ids_start": -1}, ArgumentError, "position_ids_start=-1 must be at least 0"),
        ({"return_seq_idx": 1}, ArgumentTypeError, "return_seq_idx must be True or False, got 1"),
    ],
)
def test_options_that_can_not_be_are_named(options, error, match):
    with pytest.raises(error, match=match):
        PackedCollator(**options)


# ---------------------------------------------------------------------- what can't be packed

GOOD = {"input_ids": [1, 2]}
REFUSED = {
    "no examples": ([], ArgumentError, "there are no examples"),
    "no examples in bins": ([[], []], ArgumentError, "there are no examples"),
    "no tokens": ([{"input_ids": []}] * 2, ArgumentError, "no tokens in 2 examples; leave empty texts out"),
    "one example alone": (GOOD, ArgumentTypeError, "got one mapping; give [dataset[i] for i in rows]"),
    "a tensor": (torch.ones(2, 2), ArgumentTypeError, "a list of mappings with input_ids, got Tensor"),
    "a generator": (iter([GOOD]), ArgumentTypeError, "a list of mappings with input_ids, got list_iterator"),
    "bare rows": ([[1, 2], [3]], ArgumentTypeError, 'examples[0][0] must be a mapping such as {"input_ids": [5, 6]}'),
    "a tensor as example": ([GOOD, torch.ones(2)], ArgumentTypeError, "examples[1] must be a mapping"),
    "a string as example": ([GOOD, "text"], ArgumentTypeError, "examples[1] must be a mapping"),
    "in a bin": ([GOOD, [GOOD, "text"]], ArgumentTypeError, "examples[1][1] must be a mapping"),
    "no ids": ([GOOD, {"labels": [1]}], ArgumentError, "examples[1] has no 'input_ids' ('labels' alone)"),
    "nothing": ([{}], ArgumentError, "examples[0] has no 'input_ids' (nothing alone)"),
    "another field": (
        [GOOD, GOOD | {"text": "a"}],
        ArgumentError,
        "examples[1] has 'text', which PackedCollator can't pack; leave it out, say by dataset.remove_columns('text')",
    ),
    "one label for a text": ([GOOD | {"label": 1}], ArgumentError, "has 'label', .*; pad batches of texts with one"),
    "positions": ([GOOD | {"position_ids": [0, 1]}], ArgumentError, "positions are made anew for each example"),
    "a string": (
        [{"input_ids": "text"}],
        ArgumentTypeError,
        'got str; tokenise it first: tokenizer(text)["input_ids"]',
    ),
    "a set": ([{"input_ids": {1, 2}}], ArgumentTypeError, "must be a list, an array or a 1-D tensor, got set"),
    "a single number": ([GOOD | {"labels": 1}], ShapeError, 'examples[0]["labels"] is a single number'),
    "a 0-D tensor": ([GOOD | {"labels": torch.tensor(1)}], ShapeError, 'examples[0]["labels"] is a single number'),
    "a 0-D float": ([GOOD | {"labels": 0.5}], ShapeError, 'examples[0]["labels"] is a single number'),
    "a batch of one": (
        [GOOD, {"input_ids": torch.ones(1, 4)}],
        ShapeError,
        "has shape (1, 4), a batch of one; tokenise",
    ),
    "a list of one": (
        [GOOD, {"input_ids": [[1, 2]]}],
        ShapeError,
        'examples[1]["input_ids"] has shape (1, 2), a batch',
    ),
    "a whole batch": ([{"input_ids": np.ones((2, 3), int)}], ShapeError, "has shape (2, 3) and must be 1-D"),
    "ragged lists": ([{"input_ids": [[1, 2], [3]]}], ShapeError, "holds lists of several lengths"),
    "floats": (
        [GOOD, {"input_ids": [1.0, 2.0]}],
        ArgumentTypeError,
        'examples[1]["input_ids"] must hold whole numbers',
    ),
    "one float": ([{"input_ids": [1, 2.5]}], ArgumentTypeError, "whole numbers, got float64"),
    "an array of floats": ([GOOD | {"labels": np.ones(2, "f4")}], ArgumentTypeError, "whole numbers, got float32"),
    "a tensor of floats": ([{"input_ids": torch.ones(2)}], ArgumentTypeError, "whole numbers, got torch.float32"),
    "bfloat16": ([{"input_ids": torch.ones(2, dtype=torch.bfloat16)}], ArgumentTypeError, "got torch.bfloat16"),
    "bools": ([{"input_ids": [True, False]}], ArgumentTypeError, "whole numbers, got bool"),
    "an array of bools": ([GOOD | {"labels": np.ones(2, bool)}], ArgumentTypeError, "whole numbers, got bool"),
    "None among the ids": ([{"input_ids": [1, None]}], ArgumentTypeError, "whole numbers, got None at token 1"),
    "strings": ([{"input_ids": ["a", "b"]}], ArgumentTypeError, "whole numbers, got <U1"),
    "too large a number": ([{"input_ids": [1, 2**70]}], ArgumentTypeError, f"whole numbers, got {2**70} at token 1"),
    "more than int64": ([{"input_ids": [2**63]}], ArgumentError, f"holds {2**63}, which int64 can't"),
    "more than int64 in uint64": (
        [GOOD | {"labels": np.full(2, 2**64 - 100, np.uint64)}],
        ArgumentError,
        f"holds {2**64 - 100}, which int64 can't",
    ),
    "masked arrays": ([{"input_ids": np.ma.ones(2, int)}], ArgumentTypeError, "use x.filled(value)"),
    "on a device": ([{"input_ids": torch.ones(2, device="meta")}], ArgumentError, "is on meta, .* use x.cpu()"),
    "negative ids": (
        [GOOD, GOOD, {"input_ids": [1, -100]}],
        ArgumentError,
        'examples[2]["input_ids"] has -100 at token 1, and token ids are at least 0',
    ),
    "a negative id at the start": (
        [GOOD, {"input_ids": []}, {"input_ids": [-1, 1]}],
        ArgumentError,
        'examples[2]["input_ids"] has -1 at token 0',
    ),
    "padding": (
        [GOOD, {"input_ids": [1, 2, 0], "attention_mask": [1, 1, 0]}],
        ArgumentError,
        'examples[1]["attention_mask"] is 0 at token 2: the example is padded already, .* padding=False',
    ),
    "padding, bool": (
        [{"input_ids": np.arange(2), "attention_mask": np.array([False, True])}],
        ArgumentError,
        'examples[0]["attention_mask"] is 0 at token 0',
    ),
    "a mask of another length": (
        [GOOD, GOOD | {"attention_mask": [1]}],
        ShapeError,
        'examples[1]["attention_mask"] has 1 elements, and its input_ids 2',
    ),
    "a mask of floats": ([GOOD | {"attention_mask": [1.0, 1.0]}], ArgumentTypeError, "whole numbers, got float64"),
    "labels of another length": (
        [GOOD | {"labels": [1, 2]}, GOOD | {"labels": [1, 2, 3]}],
        ShapeError,
        'examples[1]["labels"] has 3 elements, and its input_ids 2; there must be one for each token',
    ),
    "labels of other lengths, the same in all": (
        [{"input_ids": [1], "labels": [1, 2]}, {"input_ids": [1, 2], "labels": [1]}],
        ShapeError,
        'examples[0]["labels"] has 2 elements, and its input_ids 1',
    ),
    "labels here and there": (
        [GOOD, GOOD | {"labels": [1, 2]}],
        ArgumentError,
        "examples[0] has no 'labels', and examples[1] has; give it to all examples or to none",
    ),
    "types here and there": (
        [[GOOD | {"token_type_ids": [0, 0]}, GOOD]],
        ArgumentError,
        "examples[0][1] has no 'token_type_ids', and examples[0][0] has",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_not_be_packed_is_named(what):
    given_examples, error, match = REFUSED[what]
    with pytest.raises(error, match=re.escape(match).replace(r"\.\*", ".*")):
        PackedCollator()(given_examples)


def test_aligned_labels_have_to_be_there():
    with pytest.raises(
        ArgumentError, match=r"labels='aligned' wants labels in each example, and examples\[0\] has none"
    ):
        PackedCollator(labels="aligned")([GOOD, GOOD])


def test_labels_that_nobody_wants_are_not_looked_at():
    assert "labels" not in PackedCollator(labels="none")([GOOD | {"labels": 3}, GOOD])
