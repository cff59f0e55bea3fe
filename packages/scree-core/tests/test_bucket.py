"""bucket and unbucket: the list of sizes, what it wastes, and the way back."""

import numpy as np
import pytest

import scree_core as scree


def batch(lengths, **options):
    return scree.from_lengths(np.arange(sum(lengths), dtype=np.float32), lengths, **options)


@pytest.mark.parametrize(
    ("total", "size"), [(0, 128), (1, 128), (128, 128), (129, 256), (512, 512), (513, 640), (1000, 1024), (1025, 1280)]
)
def test_totals_are_rounded_up_to_four_sizes_an_octave(total, size):
    assert scree.bucket(batch([total])).total_length == size


@pytest.mark.parametrize(("rows", "size"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (33, 64)])
def test_batches_are_rounded_up_to_powers_of_two(rows, size):
    assert scree.bucket(batch([2] * rows)).batch_size == size


def test_sizes_can_be_chosen():
    arr = batch([5, 4])
    assert scree.bucket(arr, per_octave=8, multiple=1).total_length == 9
    assert scree.bucket(arr, per_octave=1, multiple=1).total_length == 16
    assert scree.bucket(arr, per_octave=3, multiple=1).total_length == 11  # 8 + 8 / 3, rounded up


def test_two_thousand_random_batches_have_few_shapes_and_waste_little():
    rng = np.random.default_rng(0)
    shapes, waste = set(), []
    for _ in range(2000):
        lengths = np.maximum(1, rng.lognormal(np.log(256) - 0.18, 0.6, rng.integers(16, 65))).astype(int)
        arr = scree.from_lengths(np.empty(lengths.sum(), np.int8), lengths)
        padded = scree.bucket(arr)
        shapes.add((padded.total_length, padded.batch_size))
        waste.append(padded.total_length / arr.total_length - 1)
    assert len(shapes) <= 40
    assert np.mean(waste) <= 0.1


def test_rows_stay_where_they_are_and_the_tail_is_zeros():
    arr = batch([3, 0, 2])
    padded = scree.bucket(arr)
    assert padded.layout.tail
    assert padded.offsets.tolist() == [0, 3, 3, 5, 5]
    assert padded.offsets.dtype == arr.offsets.dtype
    assert padded.values[:5].tolist() == arr.values.tolist()
    assert not padded.values[5:].any()
    assert padded.validate() is padded


def test_the_ragged_axis_may_be_any():
    values = np.arange(10.0).reshape(2, 5)
    padded = scree.bucket(scree.from_lengths(values, [3, 2], ragged_dim=1))
    assert padded.values.shape == (2, 128)
    assert scree.unbucket(padded).values.tolist() == values.tolist()


def test_hints_are_not_exact_lengths():
    assert scree.bucket(batch([3, 2])).max_length is None
    assert scree.bucket(batch([3, 2]), max_length=8).max_length == 8
    with pytest.raises(scree.ShapeError, match="max_length=2 is too small: row 0 has 3 elements"):
        scree.bucket(batch([3, 2]), max_length=2)


def test_bucketing_twice_changes_nothing():
    once = scree.bucket(batch([300, 41, 7]))
    twice = scree.bucket(once)
    assert twice.values is once.values
    assert twice.offsets is once.offsets


@pytest.mark.parametrize("name", ["per_octave", "multiple"])
def test_sizes_must_be_positive(name):
    with pytest.raises(scree.ShapeError, match=f"{name} must be positive, got 0"):
        scree.bucket(batch([1]), **{name: 0})
    with pytest.raises(scree.ShapeError, match=f"{name} must not be negative"):
        scree.bucket(batch([1]), **{name: -4})


def test_only_arrays_have_buckets():
    with pytest.raises(scree.ArgumentTypeError, match=r"arr must be a scree\.Array"):
        scree.bucket(np.zeros(3))


# ------------------------------------------------------------------ unbucket


def test_like_brings_the_batch_back():
    arr = batch([3, 0, 2])
    back = scree.unbucket(scree.bucket(arr) * 2, like=arr)
    assert back.layout is arr.layout
    assert back.values.tolist() == (arr.values * 2).tolist()


def test_without_like_the_tail_goes_and_the_rows_stay():
    back = scree.unbucket(scree.bucket(batch([3, 0, 2])))
    assert back.values.tolist() == [0, 1, 2, 3, 4]
    assert back.lengths.tolist() == [3, 0, 2, 0]
    assert not back.layout.tail


def test_an_array_without_a_tail_is_left_alone():
    arr = batch([3, 2])
    assert scree.unbucket(arr) is arr


def test_like_must_fit():
    with pytest.raises(scree.ShapeError, match="like has 9 rows of 9 elements, more than the 2 rows of 128 elements"):
        scree.unbucket(scree.bucket(batch([3, 2])), like=batch([1] * 9))
    with pytest.raises(scree.ArgumentTypeError, match=r"like must be a scree\.Array"):
        scree.unbucket(scree.bucket(batch([3, 2])), like=np.zeros(5))
