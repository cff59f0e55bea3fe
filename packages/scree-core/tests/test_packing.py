"""Rows into bins: nothing is lost, no bin is too full, and each algorithm does what its name says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scree_core as scree
from scree_core.packing import pack_lengths
from scree_core.packing.number_set import NumberSet

ALGORITHMS = ("bfd", "ffd", "next", "concat")


def bins_of(packing):
    return [rows.tolist() for rows in packing]


def check(packing, lengths, over, max_rows=None, multiple_of=1):
    """Check that every element of every row is in one bin exactly, but for those that ``over`` leaves out."""
    capacity = packing.capacity
    seen = [np.zeros(length, int) for length in lengths]
    empty = np.zeros(len(lengths), int)
    for b in range(len(packing)):
        indices, starts, sizes = packing.pieces(b)
        assert 1 <= len(indices) <= (max_rows or len(indices))
        assert np.sum(-(-sizes // multiple_of) * multiple_of) <= capacity
        for i, start, size in zip(indices, starts, sizes, strict=True):
            assert 0 <= start <= start + size <= lengths[i]
            seen[i][start : start + size] += 1
            empty[i] += size == 0
    dropped = {i for i, length in enumerate(lengths) if over == "drop" and length > capacity}
    assert packing.dropped.tolist() == sorted(dropped)
    lost = 0
    for i, length in enumerate(lengths):
        kept = 0 if i in dropped else min(length, capacity) if over == "truncate" else length
        assert seen[i].tolist() == [1] * kept + [0] * (length - kept)
        assert empty[i] == (length == 0)
        lost += length - kept
    assert packing.lost == lost
    assert packing.totals.tolist() == [packing.pieces(b)[2].sum() for b in range(len(packing))]
    assert packing.padding == len(packing) * capacity - sum(lengths) + lost


@given(
    st.lists(st.integers(0, 60) | st.sampled_from([0, 1, 7, 8, 24]), max_size=60),
    st.sampled_from([1, 2, 3, 4, 8, 9, 24]),
    st.sampled_from(ALGORITHMS),
    st.sampled_from(["truncate", "split", "drop"]),
    st.none() | st.integers(1, 5),
    st.sampled_from([1, 1, 4]),
    st.none() | st.integers(0, 3),
)
def test_every_element_is_in_one_bin_and_no_bin_is_too_full(
    lengths, units, algorithm, over, max_rows, multiple_of, seed
):
    options = {"over": over, "max_rows": max_rows, "multiple_of": multiple_of}
    packing = pack_lengths(lengths, units * multiple_of, algorithm, seed=seed, **options)
    check(packing, lengths, **options)
    if seed is not None:
        assert len(packing) == len(pack_lengths(lengths, units * multiple_of, algorithm, **options))


# ------------------------------------------------------------------ algorithms


def one_by_one(lengths, capacity, max_rows, choose):
    """Place the longest row first, each where ``choose`` says among the bins with room; return how many hold what."""
    bins = []
    for length in sorted(lengths, reverse=True):
        fits = [b for b in bins if sum(b) + length <= capacity and len(b) < (max_rows or len(lengths))]
        if fits:
            choose(fits).append(length)
        else:
            bins.append([length])
    return bins


def fullest(fits):
    return max(fits, key=lambda b: (sum(b), len(b)))


@given(
    st.lists(st.integers(1, 20) | st.sampled_from([1, 2, 5]), max_size=60),
    st.integers(20, 40),
    st.none() | st.integers(1, 6),
)
def test_placing_equal_rows_at_once_is_placing_one_after_another(lengths, capacity, max_rows):
    for algorithm, choose in (("bfd", fullest), ("ffd", lambda fits: fits[0])):
        expected = one_by_one(lengths, capacity, max_rows, choose)
        packing = pack_lengths(lengths, capacity, algorithm, over="error", max_rows=max_rows)
        found = [packing.pieces(b)[2].tolist() for b in range(len(packing))]
        if algorithm == "bfd":  # among bins of equal room, any is the best
            limited = max_rows is not None and max_rows < len(lengths)
            found, expected = (sorted((sum(b), limited and len(b)) for b in bins) for bins in (found, expected))
        assert found == expected


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("bfd", [[0, 3], [1, 2]]),  # the 2 goes where it leaves 1, not 2
        ("ffd", [[0, 3], [1, 2]]),
        ("next", [[0], [1, 2], [3]]),
        ("concat", [[0, 1], [1, 2, 3]]),
    ],
)
def test_four_rows_by_each_algorithm(algorithm, expected):
    packing = pack_lengths([6, 5, 3, 2], 8, algorithm, over="error")
    assert bins_of(packing) == expected


def test_best_fit_and_first_fit_differ_where_the_first_bin_has_more_room():
    lengths = [6, 7, 3]  # a 7, then a 6: the 3 fits in both
    assert bins_of(pack_lengths(lengths, 10, "bfd", over="error")) == [[1, 2], [0]]
    assert bins_of(pack_lengths([5, 4, 4, 1, 1], 9, "ffd", over="error")) == [[0, 1], [2, 3, 4]]
    assert bins_of(pack_lengths([6, 5, 4, 1, 1], 8, "ffd", over="error")) == [[0, 3, 4], [1], [2]]
    assert bins_of(pack_lengths([5, 6, 3, 2], 8, "bfd", over="error")) == [[1, 3], [0, 2]]


def test_concat_cuts_rows_where_a_bin_is_full():
    packing = pack_lengths([3, 6, 0, 2], 4, "concat", over="split")
    assert bins_of(packing) == [[0, 1], [1], [1, 2, 3]]
    assert packing.starts.tolist() == [0, 0, 1, 5, 0, 0]
    assert packing.lengths.tolist() == [3, 1, 4, 1, 0, 2]
    assert packing.fill == 11 / 12


def test_concat_with_max_rows_closes_a_bin_that_has_room():
    packing = pack_lengths([1, 1, 1, 9], 4, "concat", over="split", max_rows=2)
    assert bins_of(packing) == [[0, 1], [2, 3], [3], [3]]
    assert packing.lengths.tolist() == [1, 1, 1, 3, 4, 2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_rows_make_no_bins(algorithm):
    packing = pack_lengths([], 8, algorithm, over="error")
    assert (len(packing), packing.fill, packing.padding, bins_of(packing)) == (0, 1.0, 0, [])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_empty_rows_alone_share_bins(algorithm):
    assert len(pack_lengths([0, 0, 0], 8, algorithm, over="error")) == 1
    assert len(pack_lengths([0, 0, 0], 8, algorithm, over="error", max_rows=2)) == 2


# ------------------------------------------------------------------ rows that are too long


def test_a_row_that_is_too_long_is_cut_into_full_pieces_and_a_rest():
    packing = pack_lengths([3, 19], 8, over="split")
    assert bins_of(packing) == [[1], [1], [0, 1]]
    assert packing.starts.tolist() == [0, 8, 0, 16]
    assert packing.lengths.tolist() == [8, 8, 3, 3]


def test_a_row_that_is_too_long_is_truncated():
    packing = pack_lengths([3, 19], 8, over="truncate")
    assert (bins_of(packing), packing.lengths.tolist(), packing.lost) == ([[1], [0]], [8, 3], 11)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_row_that_is_too_long_is_dropped_by_name(algorithm):
    packing = pack_lengths([3, 19, 4, 20], 8, algorithm, over="drop")
    assert (packing.dropped.tolist(), packing.lost, packing.totals.tolist()) == ([1, 3], 39, [7])


# ------------------------------------------------------------------ options


def test_a_piece_takes_up_a_multiple():
    packing = pack_lengths([5, 4, 3, 1], 8, over="error", multiple_of=4)
    assert bins_of(packing) == [[0], [1, 2], [3]]
    assert packing.totals.tolist() == [5, 7, 1]


def test_a_seed_gives_the_same_bins_again_and_another_gives_others():
    lengths = np.arange(200) % 7 + 1

    def bins(seed, algorithm="bfd"):
        return bins_of(pack_lengths(lengths, 16, algorithm, over="error", seed=seed))

    assert bins(1) == bins(1) != bins(2)
    assert bins(None) == bins(None)
    assert sorted(bins(1, "next")) == sorted(bins(None, "next")) != bins(1, "next")


def test_texts_of_log_normal_length_fill_their_bins():
    lengths = np.random.default_rng(0).lognormal(5.5, 1.0, 20_000).astype(np.int64)
    for algorithm in ("bfd", "ffd", "concat"):
        assert pack_lengths(lengths, 4096, algorithm, over="split").fill >= 0.99


def test_a_bin_of_a_million_elements_is_packed():
    lengths = np.minimum(np.random.default_rng(0).lognormal(11.0, 1.0, 3000), 1_000_000).astype(np.int64)
    packing = pack_lengths(lengths, 1_000_000, over="error")
    assert len(packing) == np.ceil(lengths.sum() / 1_000_000)  # no fewer would do
    check_sums = np.add.reduceat(lengths[packing.indices], packing.offsets[:-1])
    assert (check_sums == packing.totals).all()
    assert packing.totals.max() <= 1_000_000


# ------------------------------------------------------------------ the result


def test_the_result_is_read_by_bin_and_can_not_be_written():
    packing = pack_lengths([5, 3, 2, 6], 8, over="error")
    assert packing[-1].tolist() == packing[np.int64(1)].tolist() == [0, 1]
    assert [part.tolist() for part in packing.pieces(1)] == [[0, 1], [0, 0], [5, 3]]
    assert repr(packing) == (
        "Packing(2 bins of 8, 4 pieces, fill 1.000, 0 elements of padding, 0 lost, 0 rows dropped)"
    )
    with pytest.raises(ValueError, match="read-only"):
        packing.indices[0] = 3
    with pytest.raises(IndexError, match="bin 2 of 2"):
        packing[2]
    with pytest.raises(scree.ArgumentTypeError, match="several by a loop"):
        packing[0:1]


def test_what_was_given_is_not_changed_or_frozen():
    lengths = np.array([5, 3])
    pack_lengths(lengths, 8, over="error")
    lengths[0] = 4
    assert lengths.tolist() == [4, 3]


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: pack_lengths([9, 3, 10], 8, over="error"),
            "ArgumentError",
            r"lengths\[0\]=9 .* so are 1 more; .*'spl",
        ),
        (lambda: pack_lengths([1, -2], 8, over="error"), "ArgumentError", r"lengths\[1\]=-2 is negative"),
        (lambda: pack_lengths([1.0], 8, over="error"), "ArgumentTypeError", "float64.*use int64"),
        (lambda: pack_lengths([True], 8, over="error"), "ArgumentTypeError", "bool"),
        (lambda: pack_lengths([[1, 2]], 8, over="error"), "ShapeError", r"shape \(1, 2\).*len\(row\)"),
        (lambda: pack_lengths([[1], [1, 2]], 8, over="error"), "ShapeError", r"len\(row\)"),
        (lambda: pack_lengths([2**62, 2**62], 8, over="drop"), "ArgumentError", "add up to more"),
        (lambda: pack_lengths([1], 0, over="error"), "ArgumentError", "capacity=0 must be at least 1"),
        (lambda: pack_lengths([1], 2**63, over="error"), "ArgumentError", "at most"),
        (lambda: pack_lengths([1], 8.0, over="error"), "ArgumentTypeError", "capacity .* got 8.0"),
        (lambda: pack_lengths([1], True, over="error"), "ArgumentTypeError", "capacity .* got True"),
        (lambda: pack_lengths([1], 8, over="cut"), "ArgumentError", "over='cut' must be one of 'error', 'truncate'"),
        (lambda: pack_lengths([1], 8, "best", over="error"), "ArgumentError", "algorithm='best' must be one of 'bfd'"),
        (lambda: pack_lengths([1], 8, over="error", max_rows=0), "ArgumentError", "max_rows=0"),
        (lambda: pack_lengths([1], 100, over="error", multiple_of=16), "ArgumentError", "use 96 or 112"),
        (lambda: pack_lengths([1], 10, over="error", multiple_of=16), "ArgumentError", "use 16"),
        (lambda: pack_lengths([1], 8, over="error", seed=-1), "ArgumentError", "seed=-1"),
        (lambda: pack_lengths([1], 8, over="error", seed=None, max_rows="2"), "ArgumentTypeError", "max_rows"),
    ],
)
def test_what_can_not_be_is_refused_by_name(call, error, message):
    with pytest.raises(getattr(scree, error), match=message):
        call()


def test_what_to_do_with_long_rows_has_no_default():
    with pytest.raises(TypeError, match="over"):
        pack_lengths([1], 8)


# ------------------------------------------------------------------ the set of rooms


@given(st.sampled_from([1, 512, 513, 300_000, 2**40]), st.lists(st.integers(0), max_size=40))
def test_a_set_of_numbers_finds_the_next(size, changes):
    numbers, expected = NumberSet(size), set()
    for number in changes:
        number %= size
        (numbers.remove if number in expected else numbers.add)(number)
        expected ^= {number}
        for low in {0, number, max(number - 1, 0), min(number + 1, size - 1), size // 2}:
            assert numbers.at_least(low) == min((n for n in expected if n >= low), default=-1)
