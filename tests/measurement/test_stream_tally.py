import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from bisector.measurement import tally as tallies
from bisector.measurement.tally import Tally

CLASSES = 4


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, CLASSES - 1),
            st.integers(-1, CLASSES - 1),
            st.sampled_from([0.5, 2.0, np.nan]),
        ),
        max_size=60,
    ),
    parts=st.integers(1, 4),
)
def test_any_cut_counts_what_scikit_learn_counts(rows, parts) -> None:
    splits, labels, predictions = (np.array([row[k] for row in rows], dtype=np.int64) for k in range(3))
    losses = np.array([row[3] for row in rows], dtype=np.float32)
    whole = Tally(CLASSES)
    for piece in np.array_split(np.arange(len(rows)), parts):
        other = Tally(CLASSES)
        other.add(splits[piece], labels[piece], predictions[piece], losses[piece])
        whole.merge(other)
    for split in (0, 1, 2, None):
        chosen = (predictions >= 0) & (True if split is None else splits == split)
        matrix = np.zeros((CLASSES, CLASSES), dtype=int)
        if chosen.any():
            matrix = confusion_matrix(labels[chosen], predictions[chosen], labels=range(CLASSES))
        assert whole.tested(split).tolist() == matrix.sum(1).tolist()
        assert whole.right(split).tolist() == matrix.diagonal().tolist()
        wrong = {i * CLASSES + j: matrix[i, j] for i, j in np.argwhere(matrix).tolist() if i != j}
        assert whole.confused(split) == wrong
        for c, mean in enumerate(whole.mean_losses(split)):
            known = losses[chosen & (labels == c)]
            known = known[~np.isnan(known)]
            assert np.isnan(mean) if len(known) == 0 else mean == np.float64(known).mean()


def test_codes_are_counted_before_they_pile_up(monkeypatch) -> None:
    monkeypatch.setattr(tallies, "_MOST_PENDING", 10)
    tally, ones = Tally(2), np.ones(7, dtype=np.int64)
    for _ in range(50):
        tally.add(0 * ones, ones, ones, None)
    assert sum(map(len, tally._pending)) <= 10
    assert tally.tested(0).tolist() == [0, 350]
    assert np.isnan(tally.mean_losses(0)).all()


def test_without_predictions_losses_are_kept(tmp_path) -> None:
    tally = Tally(2)
    tally.add(np.array([0, 0]), np.array([1, 1]), None, np.array([1.0, 3.0], dtype=np.float32))
    torch.save(tally.state_dict(), tmp_path / "t.pt")
    other = Tally(2)
    other.load_state_dict(torch.load(tmp_path / "t.pt", weights_only=True))
    assert other.tested(None).tolist() == [0, 0]
    assert other.mean_losses(0)[1] == 2
