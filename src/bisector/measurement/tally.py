"""What a model predicted for the rows of every class, by split: counts of what occurs, which merge."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bisector.data.tables.columns import SPLITS
from bisector.measurement.draw import Rows

_MOST_PENDING = 2**22  # 32 MiB of codes wait before they are counted


class TallyState(TypedDict):
    """What `Tally.state_dict` returns."""

    codes: Tensor
    times: Tensor
    losses: Tensor
    with_loss: Tensor


class Tally:
    """Counts (split, class, predicted class) and sums the losses of every class and split.

    Only what occurs is held, so a million classes cost what their rows do. Sums of losses are float64.

    Args:
        num_classes: C.

    >>> tally = Tally(2)
    >>> zeros = np.zeros(3, dtype=np.int64)
    >>> tally.add(zeros, np.array([0, 0, 1]), np.array([0, 1, -1]), None)
    >>> tally.tested(0), tally.right(0), tally.confused(0)
    (array([2, 0]), array([1, 0]), {1: 1})
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._codes: Rows = np.empty(0, dtype=np.int64)
        self._times: Rows = np.empty(0, dtype=np.int64)
        self._pending: list[Rows] = []
        self.losses = np.zeros((len(SPLITS), num_classes))
        self.with_loss = np.zeros((len(SPLITS), num_classes), dtype=np.int64)

    def add(
        self,
        splits: Rows,  # (n,)
        labels: Rows,  # (n,)
        predictions: Rows | None,  # (n,)
        losses: npt.NDArray[np.float32] | None,  # (n,)
    ) -> None:
        """Take in rows. One whose prediction is -1 is not counted, and its loss is not summed."""
        cells = splits * self.num_classes + labels
        if predictions is not None:
            there = predictions >= 0
            self._pending.append(cells[there] * self.num_classes + predictions[there])
            if sum(map(len, self._pending)) > max(_MOST_PENDING, len(self._codes)):
                self._settle()
            losses = None if losses is None else np.where(there, losses, np.nan)
        if losses is not None:
            known = ~np.isnan(losses)
            size = self.losses.size
            # One sum a chunk, added to the running ones: the chunks are the same whoever reads them.
            self.losses += np.bincount(cells[known], losses[known], minlength=size).reshape(self.losses.shape)
            self.with_loss += np.bincount(cells[known], minlength=size).reshape(self.losses.shape)

    def merge(self, other: "Tally") -> None:
        """Take in what another counted."""
        self._settle()
        other._settle()
        self._codes, self._times = _summed(
            np.concatenate([self._codes, other._codes]), np.concatenate([self._times, other._times])
        )
        self.losses += other.losses
        self.with_loss += other.with_loss

    def tested(self, split: int | None) -> Rows:  # (C,)
        """Rows with a prediction of every class; in all splits if None."""
        classes, _, times = self._of(split)
        return np.bincount(classes, times, minlength=self.num_classes).astype(np.int64)

    def right(self, split: int | None) -> Rows:  # (C,)
        """Those of them whose prediction is their class."""
        classes, predicted, times = self._of(split)
        same = classes == predicted
        return np.bincount(classes[same], times[same], minlength=self.num_classes).astype(np.int64)

    def confused(self, split: int | None) -> dict[int, int]:
        """How often a class was taken for another: class * C + the other -> rows."""
        classes, predicted, times = self._of(split)
        wrong = classes != predicted
        codes, summed = _summed(classes[wrong] * self.num_classes + predicted[wrong], times[wrong])
        return dict(zip(codes.tolist(), summed.tolist(), strict=True))

    def mean_losses(self, split: int | None) -> npt.NDArray[np.float64]:  # (C,)
        """The mean loss of every class, of the rows that have one; NaN of none."""
        chosen = slice(None) if split is None else slice(split, split + 1)
        with np.errstate(invalid="ignore"):
            means: npt.NDArray[np.float64] = self.losses[chosen].sum(0) / self.with_loss[chosen].sum(0)
        return means

    def state_dict(self) -> TallyState:
        """The counts as tensors, which `torch.load(weights_only=True)` reads."""
        self._settle()
        return {
            "codes": torch.from_numpy(self._codes),
            "times": torch.from_numpy(self._times),
            "losses": torch.from_numpy(self.losses),
            "with_loss": torch.from_numpy(self.with_loss),
        }

    def load_state_dict(self, state: TallyState) -> None:
        """Take over what `state_dict` returned."""
        self._codes, self._times = state["codes"].numpy(), state["times"].numpy()
        self.losses, self.with_loss = state["losses"].numpy(), state["with_loss"].numpy()
        self._pending = []

    def _settle(self) -> None:
        codes = np.concatenate([self._codes, *self._pending])
        ones = np.ones(len(codes) - len(self._times), dtype=np.int64)
        self._codes, self._times = _summed(codes, np.concatenate([self._times, ones]))
        self._pending = []

    def _of(self, split: int | None) -> tuple[Rows, Rows, Rows]:
        """Classes, predicted classes and times of what occurs in a split."""
        self._settle()
        cells, predicted = np.divmod(self._codes, self.num_classes)
        splits, classes = np.divmod(cells, self.num_classes)
        chosen = np.ones(len(cells), dtype=bool) if split is None else splits == split
        return classes[chosen], predicted[chosen], self._times[chosen]


def _summed(codes: Rows, times: Rows) -> tuple[Rows, Rows]:
    """Every code once, ascending, with the sum of its times."""
    order = np.argsort(codes, kind="stable")
    codes, times = codes[order], times[order]
    firsts = (
        np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.empty(0, dtype=np.int64)
    )
    return codes[firsts], np.add.reduceat(times, firsts) if len(firsts) else times
