import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bisector.measurement.draw import EqualDraw

CLASSES = 5


def drawn(draw: EqualDraw) -> dict[int, list[int]]:
    """The rows of each class that were drawn; a row's vector is its number."""
    assert np.array_equal(draw.embeddings[:, 0].astype(np.int64), draw.rows)
    return {c: sorted(draw.rows[draw.labels == c].tolist()) for c in range(CLASSES)}


def whole(labels: np.ndarray, count: int, seed: int) -> EqualDraw:
    draw = EqualDraw(count, dim=1, seed=seed)
    rows = np.arange(len(labels))
    draw.add(rows, labels, rows[:, None].astype(np.float32))
    return draw


@given(
    labels=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=80),
    count=st.integers(1, 9),
    seed=st.integers(0, 2**70),
    order=st.randoms(use_true_random=False),
    data=st.data(),
)
def test_who_sees_which_rows_and_when_changes_nothing(labels, count, seed, order, data) -> None:
    labels = np.array(labels, dtype=np.int64)
    wanted = whole(labels, count, seed)
    rows = list(range(len(labels)))
    order.shuffle(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    pieces = [np.array(piece, dtype=np.int64) for piece in np.split(np.array(rows, dtype=np.int64), cuts)]
    draws = []
    for piece in pieces:
        draw = EqualDraw(count, dim=1, seed=seed)
        for half in np.array_split(piece, 2):
            draw.add(half, labels[half], half[:, None].astype(np.float32))
        draws.append(draw)
    while len(draws) > 1:
        other = draws.pop(order.randrange(len(draws)))
        draws[order.randrange(len(draws))].merge(other)
    assert drawn(draws[0]) == drawn(wanted)
    fewer = data.draw(st.integers(1, count))
    for got, expected in zip(
        draws[0].of_full_classes(CLASSES, fewer), wanted.of_full_classes(CLASSES, fewer), strict=True
    ):
        assert torch.equal(got, expected)  # the order too: sums depend on it


def test_every_class_gives_as_many_as_it_has_or_as_were_asked_for() -> None:
    labels = np.repeat(np.arange(CLASSES), [0, 1, 3, 4, 500])
    draw = whole(labels, 4, seed=0)
    assert np.bincount(draw.labels, minlength=CLASSES).tolist() == [0, 1, 3, 4, 4]
    vectors, classes = draw.of_full_classes(CLASSES, draw.count)
    assert classes.tolist() == [3] * 4 + [4] * 4
    assert set(vectors[:4, 0].tolist()) == {4.0, 5.0, 6.0, 7.0}
    vectors, classes = draw.of_full_classes(CLASSES, 3)
    assert classes.tolist() == [2] * 3 + [3] * 3 + [4] * 3


def test_a_draw_is_uniform() -> None:
    """Each of 100 rows is drawn as often as any other, and so is each pair: by chi-squared, over 4,000 seeds."""
    labels = np.zeros(100, dtype=np.int64)
    rows = np.array([whole(labels, 2, seed).rows for seed in range(4000)])
    assert stats.chisquare(np.bincount(rows.ravel(), minlength=100)).pvalue > 1e-3
    distances = np.abs(rows[:, 0] - rows[:, 1])
    expected = (100 - np.arange(1, 100)) / 4950 * len(rows)
    kept = expected >= 5
    got = np.bincount(distances, minlength=100)[1:][kept]
    expected = expected[kept] * got.sum() / expected[kept].sum()
    assert stats.chisquare(got, expected).pvalue > 1e-3


def test_its_state_is_tensors(tmp_path) -> None:
    draw = whole(np.array([0, 1, 1, 0, 1]), 2, seed=3)
    torch.save(draw.state_dict(), tmp_path / "draw.pt")
    other = EqualDraw(2, dim=1, seed=3)
    other.load_state_dict(torch.load(tmp_path / "draw.pt", weights_only=True))
    assert drawn(other) == drawn(draw)


@pytest.mark.parametrize("rows", [0, 1])
def test_of_few_rows(rows: int) -> None:
    draw = whole(np.zeros(rows, dtype=np.int64), 2, seed=0)
    vectors, labels = draw.of_full_classes(CLASSES, draw.count)
    assert len(vectors) == len(labels) == 0
