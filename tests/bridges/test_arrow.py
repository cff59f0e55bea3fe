"""Arrow's list arrays and Parquet files, with the real PyArrow."""

import numpy as np
import pytest

from scree_core import Array, ShapeError, from_lengths
from scree_core.bridges import from_arrow, from_parquet, to_arrow
from scree_core.bridges.arrow import NUMBERS
from scree_core.errors import ArgumentError, ArgumentTypeError

from .rows import RowsComeBack, check_equal, make

pa = pytest.importorskip("pyarrow", reason="the bridges to Arrow need PyArrow")
pq = pytest.importorskip("pyarrow.parquet", reason="the bridge to Parquet needs PyArrow with Parquet")


def innermost(lists):
    """Return the array of numbers at the bottom, whatever the depth."""
    while hasattr(lists, "values"):
        lists = lists.values
    return lists


def address(array):
    """Return where the numbers of an Arrow array without an offset lie."""
    return array.buffers()[1].address


# ------------------------------------------------------------------ there and back


class TestRows(RowsComeBack):
    back = staticmethod(from_arrow)

    def there(self, arr):
        lists = to_arrow(arr)
        lists.validate(full=True)
        return lists


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_dtype_comes_back(dtype):
    check_equal(from_arrow(to_arrow(make((2,), dtype))), make((2,), dtype))


def test_arrow_sees_the_rows_and_the_type():
    assert to_arrow(make()).to_pylist() == [[0, 1], [], [2, 3, 4]]
    assert to_arrow(make((2,), np.int64)).to_pylist() == [[[0, 1], [2, 3]], [], [[4, 5], [6, 7], [8, 9]]]
    assert to_arrow(make((3, 2))).type == pa.list_(pa.list_(pa.list_(pa.float32(), 2), 3))
    assert to_arrow(make(offset_dtype=np.int64)).type == pa.large_list(pa.float32())


def test_not_a_number_is_not_taken_for_a_null():
    lists = to_arrow(from_lengths(np.array([np.nan, 1.0]), [2]))
    assert innermost(lists).null_count == 0
    assert np.isnan(from_arrow(lists).values[0])


# ------------------------------------------------------------------ what is shared


@pytest.mark.parametrize("features", [(), (2,), (3, 2)], ids=str)
@pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
def test_arrow_shares_values_and_offsets(features, offset_dtype):
    arr = make(features, offset_dtype=offset_dtype)
    lists = to_arrow(arr)
    assert address(innermost(lists)) == arr.values.ctypes.data
    assert lists.buffers()[1].address == arr.offsets.ctypes.data


@pytest.mark.parametrize("features", [(), (2,), (3, 2)], ids=str)
@pytest.mark.parametrize("offset_dtype", [np.int32, np.int64])
def test_an_array_shares_what_arrow_has(features, offset_dtype):
    lists = to_arrow(make(features, offset_dtype=offset_dtype))
    arr = from_arrow(lists)
    assert arr.values.ctypes.data == address(innermost(lists))
    assert arr.offsets.ctypes.data == lists.buffers()[1].address
    assert not arr.values.flags.writeable


def test_shared_memory_outlives_what_it_came_from():
    arr = from_arrow(to_arrow(from_lengths(np.arange(10_000.0), [10_000])))
    noise = [np.full(10_000, -1.0) for _ in range(8)]
    assert len(noise) == 8
    assert np.array_equal(arr.values, np.arange(10_000.0))


def test_a_tail_is_left_out():
    arr = Array(np.arange(7.0), np.array([0, 1, 4], np.int32), tail=True)
    lists = to_arrow(arr)
    assert lists.to_pylist() == [[0], [1, 2, 3]]
    assert len(lists.values) == 4
    assert address(lists.values) == arr.values.ctypes.data


@pytest.mark.parametrize("tail", [False, True])
def test_rows_of_torch_go_through_numpy(tail):
    torch = pytest.importorskip("torch")
    pytest.importorskip("scree_torch")
    values = torch.arange(8.0).reshape(4, 2).requires_grad_()
    arr = Array(values, torch.tensor([0, 1, 3 if tail else 4], dtype=torch.int32), tail=tail)
    lists = to_arrow(arr)
    assert lists.to_pylist() == [row.tolist() for row in arr]
    assert address(innermost(lists)) == values.data_ptr()


# ------------------------------------------------------------------ slices, chunks


@pytest.mark.parametrize("features", [(), (2,), (3, 2), (0,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_slices_are_the_rows_they_show(features, dtype):
    arr, lists = make(features, dtype), to_arrow(make(features, dtype))
    for start in range(4):
        for count in range(4 - start):
            part, expected = from_arrow(lists.slice(start, count)), arr[start : start + count]
            assert np.array_equal(part.lengths, expected.lengths)
            assert np.array_equal(part.values, expected.values)
            assert part.offsets[0] == 0


def test_a_slice_shares_the_values():
    lists = to_arrow(make((2,)))
    part = from_arrow(lists.slice(2))
    assert part.values.ctypes.data == address(innermost(lists)) + 2 * 2 * 4


def test_elements_that_are_a_slice_themselves_are_right():
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12.0)), 2).slice(1, 4)
    lists = pa.ListArray.from_arrays(pa.array([1, 2, 4], pa.int32()), fixed)
    arr = from_arrow(lists)
    assert [row.tolist() for row in arr] == lists.to_pylist() == [[[4, 5]], [[6, 7], [8, 9]]]


def test_elements_that_no_row_has_are_left_out():
    lists = pa.ListArray.from_arrays(pa.array([1, 2, 3], pa.int32()), pa.array([None, 1, 2, None], pa.int32()))
    assert [row.tolist() for row in from_arrow(lists)] == [[1], [2]]


def test_an_array_of_no_rows_may_lack_its_offsets():
    lists = pa.Array.from_buffers(pa.list_(pa.int32()), 0, [None, None], children=[pa.array([], pa.int32())])
    assert from_arrow(lists).batch_size == 0


def test_one_chunk_is_shared():
    lists = to_arrow(make())
    assert from_arrow(pa.chunked_array([lists])).values.ctypes.data == address(lists.values)


def test_no_chunk_is_a_batch_of_no_rows():
    arr = from_arrow(pa.chunked_array([], type=pa.large_list(pa.int16())))
    assert (arr.batch_size, arr.dtype, arr.offsets.dtype) == (0, np.int16, np.int64)


def test_several_chunks_are_refused_and_the_message_mends_it():
    chunked = pa.chunked_array([to_arrow(make()), to_arrow(make()).slice(2)])
    with pytest.raises(ShapeError, match=r"lists has 2 chunks.*combine_chunks\(\), or make an Array of each"):
        from_arrow(chunked)
    assert from_arrow(chunked.combine_chunks()).lengths.tolist() == [2, 0, 3, 3]


# ------------------------------------------------------------------ what is refused


def test_a_null_row_is_refused_by_its_number():
    lists = pa.array([[0], [1], None, [2], None])
    with pytest.raises(ShapeError, match=r"row 2 is null.*drop_null\(\)"):
        from_arrow(lists)
    with pytest.raises(ShapeError, match="row 1 is null"):
        from_arrow(lists.slice(1))
    assert from_arrow(lists.slice(0, 2)).batch_size == 2
    assert from_arrow(lists.drop_null()).values.tolist() == [0, 1, 2]


def test_a_null_element_is_refused_by_its_number():
    lists = pa.array([[0], [], [1, 2], [3, None]])
    with pytest.raises(ShapeError, match=r"element 4 \(in row 3\) is null"):
        from_arrow(lists)
    with pytest.raises(ShapeError, match=r"element 3 \(in row 2\) is null"):
        from_arrow(lists.slice(1))
    with pytest.raises(ShapeError, match=r"element 1 \(in row 2\) is null"):
        from_arrow(pa.array([[0], [], [None, 1]]))


@pytest.mark.parametrize("bad", [None, [5, None]])
def test_a_null_within_features_is_refused_by_its_element(bad):
    lists = pa.array([[[0, 1], [2, 3]], [[4, 4], bad]], pa.list_(pa.list_(pa.int32(), 2)))
    with pytest.raises(ShapeError, match=r"element 3 \(in row 1\) is null or holds a null"):
        from_arrow(lists)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (lambda: pa.list_(pa.list_(pa.int8())), "one ragged axis"),
        (lambda: pa.list_(pa.list_(pa.large_list(pa.int8()), 2)), "one ragged axis"),
        (lambda: pa.list_(pa.list_view(pa.int8())), "one ragged axis"),
        (lambda: pa.list_(pa.string()), "lists hold string"),
        (lambda: pa.list_(pa.null()), "lists hold null"),
        (lambda: pa.list_(pa.timestamp("s")), "lists hold timestamp"),
        (lambda: pa.list_(pa.dictionary(pa.int8(), pa.int8())), "lists hold dictionary"),
        (lambda: pa.list_(pa.struct([("x", pa.int8())])), "lists hold struct"),
        (lambda: pa.list_(pa.decimal128(5)), "lists hold decimal128"),
        (lambda: pa.list_(pa.fixed_shape_tensor(pa.int8(), [2])), "lists hold extension"),
    ],
)
def test_what_no_array_can_hold_is_refused_by_its_type(kind, message):
    with pytest.raises(ShapeError, match=message):
        from_arrow(pa.chunked_array([], type=kind()))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (lambda: pa.int8(), "got int8"),
        (lambda: pa.string(), "got string"),
        (lambda: pa.list_view(pa.int8()), "got list_view.*may overlap or have holes.*scree.from_lengths"),
        (lambda: pa.large_list_view(pa.int8()), "got large_list_view.*may overlap or have holes.*scree.from_lengths"),
        (lambda: pa.map_(pa.int8(), pa.int8()), "got map"),
        (lambda: pa.list_(pa.int8(), 2), r"got fixed_size_list.*lists\.cast"),
        (lambda: pa.fixed_shape_tensor(pa.int8(), [2]), r"got extension.*lists\.storage"),
    ],
)
def test_what_is_no_list_is_refused_by_its_type(kind, message):
    with pytest.raises(ArgumentTypeError, match=message):
        from_arrow(pa.chunked_array([], type=kind()))


def test_rows_of_one_size_can_be_cast_as_the_message_says():
    lists = pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2))
    assert from_arrow(lists.cast(pa.list_(lists.type.value_type))).values.tolist() == [1, 2, 3, 4]


def test_list_views_become_rows_as_the_message_says():
    starts, sizes = pa.array([2, 0, 0], pa.int32()), pa.array([1, 0, 3], pa.int32())
    lists = pa.ListViewArray.from_arrays(starts, sizes, pa.array([5, 6, 7]))
    arr = from_lengths(lists.flatten().to_numpy(), lists.sizes.to_numpy())
    assert [row.tolist() for row in arr] == lists.to_pylist() == [[7], [], [5, 6, 7]]


@pytest.mark.parametrize("wrong", [[[1], [2]], np.zeros(3), None])
def test_what_is_no_arrow_array_is_refused(wrong):
    with pytest.raises(ArgumentTypeError, match="lists must be a pyarrow"):
        from_arrow(wrong)


def test_a_table_is_refused_and_the_message_mends_it():
    with pytest.raises(ArgumentTypeError, match=r"got Table; of a table take one column"):
        from_arrow(pa.table({"x": to_arrow(make())}))


@pytest.mark.parametrize(
    ("place", "wrong", "message"),
    [(2, 0, r"offsets\[2\] < offsets\[1\]"), (3, 9, "isn't a valid Arrow array"), (0, -1, "isn't a valid Arrow array")],
)
def test_offsets_that_are_wrong_are_found(place, wrong, message):
    offsets = np.array([0, 1, 2, 3], np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array([1, 2, 3], pa.int8()))
    offsets[place] = wrong  # behind the back of Arrow, which checks what it is given
    with pytest.raises(ShapeError, match=message):
        from_arrow(lists)


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "U1", "O"])
def test_dtypes_that_arrow_has_not_are_refused(dtype):
    with pytest.raises(ShapeError, match="Arrow can't hold values of dtype"):
        to_arrow(from_lengths(np.zeros(3, dtype), [3]))


# ------------------------------------------------------------------ Parquet


@pytest.fixture
def path(tmp_path):
    arr = from_lengths(np.arange(20.0).reshape(10, 2), [1, 0, 4, 2, 0, 3, 0])
    table = pa.table({"row": pa.array(range(7)), "tok.ens": to_arrow(arr), "tok": to_arrow(arr)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=3)
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize("column", ["tok", "tok.ens"])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 100])
def test_the_batches_of_a_file_are_its_rows_in_order(path, column, batch_size):
    batches = list(from_parquet(path, column, batch_size))
    assert all(len(batch) <= batch_size for batch in batches)
    assert np.concatenate([batch.lengths for batch in batches]).tolist() == [1, 0, 4, 2, 0, 3, 0]
    assert np.array_equal(np.concatenate([batch.values for batch in batches]), np.arange(20.0).reshape(10, 2))


def test_a_file_that_is_open_already_is_read(path):
    with open(path, "rb") as file:
        assert sum(len(batch) for batch in from_parquet(file, "tok")) == 7


def test_a_file_of_no_rows_has_no_batches(tmp_path):
    pq.write_table(pa.table({"x": pa.array([], pa.list_(pa.int8()))}), tmp_path / "none.parquet")
    assert [len(batch) for batch in from_parquet(tmp_path / "none.parquet", "x")] == []


def test_a_column_that_is_not_there_is_refused_at_once(path):
    with pytest.raises(ArgumentError, match=r"there is no column 'ids'; the file has 'row', 'tok\.ens', 'tok'"):
        from_parquet(path, "ids")


def test_a_column_of_numbers_is_refused_at_once(path):
    with pytest.raises(ArgumentTypeError, match="got int64"):
        from_parquet(path, "row")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_that_is_not_positive_is_refused(path, batch_size):
    with pytest.raises(ArgumentError, match=f"batch_size must be at least 1, got {batch_size}"):
        from_parquet(path, "tok", batch_size)


def test_a_batch_size_that_is_no_integer_is_refused(path):
    with pytest.raises(ArgumentTypeError, match=r"batch_size must be an integer, got 2\.5"):
        from_parquet(path, "tok", 2.5)


def test_a_null_row_is_refused_by_its_number_in_the_file(tmp_path):
    pq.write_table(pa.table({"x": pa.array([[1]] * 5 + [None])}), tmp_path / "null.parquet")
    batches = from_parquet(tmp_path / "null.parquet", "x", batch_size=2)
    assert len(next(batches)) == len(next(batches)) == 2
    with pytest.raises(ShapeError, match="row 5 is null"):
        next(batches)
