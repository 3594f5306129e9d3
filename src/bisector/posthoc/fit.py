r"""Offsets fitted on labelled scores: a convex problem in a few numbers, solved to the end.

With weights :math:`w_n = 1 / (C' n_{y_n})` (C' classes occur, :math:`n_c` times each), so that every class weighs
the same, a direction d of the offsets in each column of D and :math:`a = s / T`,

.. math:: \min_{a, u}\; -\sum_n w_n \log \mathrm{softmax}(a z_n / s + D u)_{y_n}
          + \frac{\lambda}{2 C'} |D u|^2 + \frac{\epsilon}{2} (a - 1)^2.

The unit s of the logits is the median over the rows of their standard deviation over the classes. So logits that
are all multiplied by a number are only another unit: T takes it, and nothing else changes.

Balanced cross-entropy and not balanced accuracy is minimised: it is convex, its minimum is where the scores are
the posterior of classes that are equally frequent, and the largest of those is the choice of highest balanced
accuracy.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bisector.checks import require_classes
from bisector.errors import ArgumentError, require, require_integer
from bisector.guides.amount import check_class_values
from bisector.posthoc.adjustment import Adjustment, BaseAdjustment, Kind, logits_of

PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""The strengths lambda that cross-validation chooses from, strongest first; the first hardly allows an offset."""

LEAST_GAIN = 1e-4
"""Nats by which a log-loss must fall for a gain to be one."""

_LEAST_INVERSE = 0.1  # of the temperature; below, the scores are as good as forgotten
_EPSILON = 1e-6  # keeps the temperature finite where the scores separate the classes without an error


@dataclass(frozen=True, eq=False)
class Fit:
    """What was found."""

    coefficients: Tensor  # (K,) u
    offsets: Tensor  # (C,) D u
    temperature: float
    penalty: float
    absent: int  # classes without a label to fit on

    @property
    def adjustment(self) -> Adjustment:
        """The same as an adjustment of logits."""
        return Adjustment(self.offsets, self.temperature)


class _Space(NamedTuple):
    """The offsets among which the best are sought, D as a function: for 100,000 classes it is no matrix."""

    size: int  # K
    offsets: Callable[[Tensor], Tensor]  # (K,) -> (C,)


def fit_offsets(
    logits: Tensor,  # (N, C)
    labels: Tensor,  # (N,)
    *,
    directions: Tensor | None = None,  # (C, K)
    penalty: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Fit:
    """Fit offsets and a temperature.

    Args:
        logits: scores that are not those to be reported on.
        labels: their classes.
        directions: D; None for the unit matrix: an offset for every class. A class without a label then keeps
            offset 0, the mean of the others: nothing is known of it.
        penalty: lambda, at least 0; None to choose among `PENALTIES` by the balanced cross-entropy on held-out
            folds, the strongest of several that do as well. Directions of one's own have none unless it is given.
        folds: of the cross-validation, which splits every class evenly; at least 2.
        seed: of the folds.

    Raises:
        ArgumentError: the shapes do not fit, or there is no row.
    """
    with torch.inference_mode(False):  # autograd takes no tensor that was made in that mode
        logits, labels = logits.to("cpu", torch.float64), labels.to("cpu", torch.int64).clone()
        classes = logits.shape[1]
        present = torch.bincount(labels, minlength=classes) > 0
        unit = unit_of(logits)
        logits = logits / unit
        if directions is None:
            space = _Space(classes, lambda u: (u - u[present].mean()) * present)
            chosen = _cross_validate(logits, labels, space, folds, seed) if penalty is None else penalty
        else:
            along = directions.clone()
            space = _Space(along.shape[1], lambda u: along @ u)
            chosen = penalty or 0.0
        coefficients, inverse = _solve(logits, labels, space, chosen)
        return Fit(coefficients, space.offsets(coefficients), unit / inverse, chosen, int((~present).sum()))


def fit_temperature(
    logits: Tensor,  # (N, C)
    labels: Tensor,  # (N,)
) -> float:
    """Return the temperature of least balanced cross-entropy; large where the logits tell nothing.

    >>> labels = torch.arange(300) % 3
    >>> noise = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    >>> fit_temperature(noise, labels) > 5
    True
    """
    with torch.inference_mode(False):  # autograd takes no tensor that was made in that mode
        logits, labels = logits.to("cpu", torch.float64), labels.to("cpu", torch.int64).clone()
        unit = unit_of(logits)
        nothing = _Space(1, lambda u: torch.zeros(logits.shape[1], dtype=torch.float64, device="cpu") * u)
        _, inverse = _minimize(logits / unit, labels, nothing, 0.0, False)
        return unit / max(inverse, _EPSILON)


def cross_validated_predictions(
    scores: Tensor,  # (N, C)
    labels: Tensor,  # (N,)
    *,
    kind: Kind = "logits",
    penalty: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Tensor:  # (N,)
    """Predictions of fitted offsets where there is no validation split: the largest of `cross_validated_scores`.

    Raises:
        ArgumentError: an argument is not as described.

    >>> scores = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    >>> cross_validated_predictions(scores, torch.arange(60) % 3, penalty=1.0).shape
    torch.Size([60])
    """
    adjusted = cross_validated_scores(scores, labels, kind=kind, penalty=penalty, folds=folds, seed=seed)
    return adjusted.argmax(1)


def cross_validated_scores(
    scores: Tensor,  # (N, C)
    labels: Tensor,  # (N,)
    *,
    kind: Kind = "logits",
    penalty: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Tensor:  # (N, C)
    """Logits, float64, adjusted by fitted offsets where there is no validation split: each row's by other rows.

    The rows are split into folds, every class evenly; those of a fold are adjusted by what was fitted on
    all others, its penalty included. So no row is reported with offsets that have seen its label. That estimates
    how well offsets that are fitted on all rows would do on new ones.

    Raises:
        ArgumentError: an argument is not as described.
    """
    logits = logits_of("scores", scores, kind).to("cpu", torch.float64)
    require_classes("labels", labels, logits.shape[1], rows=len(logits))
    return cross_validated_logits(
        logits,
        labels.cpu().long(),
        lambda z, y: fit_offsets(z, y, penalty=penalty, folds=folds, seed=(seed + 1) % 2**63).adjustment,
        folds=folds,
        seed=seed,
    )


def cross_validated_folds(
    logits: Tensor,  # (N, C)
    labels: Tensor,  # (N,) int64
    fit: Callable[..., BaseAdjustment],
    embeddings: Tensor | None = None,  # (N, D)
    *,
    folds: int = 5,
    seed: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each fold, (N,) bool, and its logits, float64, adjusted by what `fit` finds on the other folds.

    Args:
        logits: of all rows.
        labels: their classes.
        fit: returns an adjustment of logits and labels; where there are embeddings it is given them by that name.
        embeddings: of all rows.
        folds: how many.
        seed: of the folds.

    Raises:
        ArgumentError: there are fewer rows than folds, or `fit` raises it.
    """
    require_integer("folds", folds, least=2)
    require(len(labels) >= folds, "scores", f"{len(labels)} rows", f"at least {folds}, one a fold")
    fold = dealt_folds(labels, folds, seed)
    for held_out in range(folds):
        out = fold == held_out
        if bool(out.any()):
            more = {} if embeddings is None else {"embeddings": embeddings[~out]}
            found = fit(logits[~out].double(), labels[~out], **more)
            yield (
                out,
                found.adjusted_logits(logits[out].double(), None if embeddings is None else embeddings[out]),
            )


def cross_validated_logits(
    logits: Tensor,  # (N, C)
    labels: Tensor,  # (N,) int64
    fit: Callable[..., BaseAdjustment],
    embeddings: Tensor | None = None,  # (N, D)
    *,
    folds: int = 5,
    seed: int = 0,
) -> Tensor:  # (N, C)
    """Return all logits, float64, as `cross_validated_folds` yields them."""
    adjusted = torch.empty_like(logits, dtype=torch.float64)
    for out, found in cross_validated_folds(logits, labels, fit, embeddings, folds=folds, seed=seed):
        adjusted[out] = found
    return adjusted


def unit_of(
    logits: Tensor,  # (N, C)
) -> float:
    """The unit of logits: the median over the rows of the standard deviation of a row; 1 where all are even.

    >>> unit_of(torch.tensor([[5.0, -5.0], [0.0, 2.0], [1.0, 1.0]]))
    1.0
    """
    spread = logits.double().std(dim=1, correction=0)
    return float(spread.median()) or float(spread.mean()) or 1.0


def _solve(logits: Tensor, labels: Tensor, space: _Space, penalty: float) -> tuple[Tensor, float]:
    """The coefficients and a, of logits in their unit; a stays 1 where scores tell next to nothing or mislead.

    A few validation rows are easily fitted best by forgetting the scores (a near 0) for the offsets.
    """
    for fixed in (False, True):
        coefficients, inverse = _minimize(logits, labels, space, penalty, fixed)
        if inverse > _LEAST_INVERSE:
            break
    return coefficients, inverse


def _minimize(
    logits: Tensor, labels: Tensor, space: _Space, penalty: float, fixed: bool
) -> tuple[Tensor, float]:
    weights = balanced_weights(labels, logits.shape[1])
    present = max(int((torch.bincount(labels) > 0).sum()), 1)
    inverse = torch.ones(1, dtype=torch.float64, device="cpu")
    coefficients = torch.zeros(space.size, dtype=torch.float64, device="cpu")
    parameters = [coefficients] if fixed else [coefficients, inverse]
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=500,
        history_size=20,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        offsets = space.offsets(coefficients)
        loss = (weights * cross_entropy(inverse * logits + offsets, labels, reduction="none")).sum()
        loss = loss + penalty / (2 * present) * offsets.square().sum()
        loss = loss + _EPSILON / 2 * (inverse - 1).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    with torch.enable_grad():
        optimizer.step(objective)  # type: ignore[no-untyped-call]
    return coefficients.detach(), float(inverse.detach())


def _cross_validate(logits: Tensor, labels: Tensor, space: _Space, folds: int, seed: int) -> float:
    require_integer("folds", folds, least=2)
    fold = dealt_folds(labels, folds, seed)
    losses = torch.zeros(len(PENALTIES), dtype=torch.float64, device="cpu")
    weights = balanced_weights(labels, logits.shape[1])
    for held_out in range(folds):
        out = fold == held_out
        if not bool(out.any()) or bool(out.all()):
            continue
        for place, penalty in enumerate(PENALTIES):
            coefficients, inverse = _solve(logits[~out], labels[~out], space, penalty)
            adjusted = inverse * logits[out] + space.offsets(coefficients)
            losses[place] += (weights[out] * cross_entropy(adjusted, labels[out], reduction="none")).sum()
    return PENALTIES[int((losses <= losses.min() + 1e-6).nonzero()[0])]


def dealt_folds(labels: Tensor, folds: int, seed: int) -> Tensor:  # (N,)
    """A fold for each row, every class dealt out evenly."""
    require_integer("seed", seed, least=0)
    require(seed < 2**63, "seed", seed, "an integer below 2**63")
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator, device="cpu")
    order = shuffled[labels[shuffled].argsort(stable=True)]
    # Dealing goes on from class to class, so that small classes do not all begin with the first fold.
    fold = torch.empty_like(labels)
    fold[order] = torch.arange(len(labels), device="cpu") % folds
    return fold


def balanced_weights(labels: Tensor, classes: int) -> Tensor:  # (N,)
    """The weights of rows with which every class that has one counts the same; they sum to 1."""
    counts = torch.bincount(labels, minlength=classes).double()
    return 1 / (counts[labels] * (counts > 0).sum().clamp_min(1))


def balanced_mean(
    values: Tensor,  # (N,)
    labels: Tensor,  # (N,)
) -> tuple[float, float]:
    """Return the mean over the classes of the means of their rows, and its standard error over rows drawn anew.

    A class with one row has the variance that the others have within them; where all have one, that of all rows.
    """
    counts = torch.bincount(labels).double()
    mean = torch.zeros_like(counts).index_add(0, labels, values) / counts
    deviations = (values - mean[labels]).square()
    free = (counts - 1).clamp_min(0)
    spread = values.var(correction=1) if len(values) > 1 else values.new_tensor(torch.inf)
    pooled = deviations.sum() / free.sum() if bool(free.any()) else spread
    variance = torch.zeros_like(counts).index_add(0, labels, deviations) / free
    variance = torch.where(free > 0, variance, pooled)
    present = counts > 0
    error = (variance[present] / counts[present]).sum().sqrt() / present.sum()
    return float(mean[present].mean()), float(error)


def require_fit_rows(scores: Tensor, labels: Tensor | Sequence[int] | None, method: str) -> Tensor:
    """Return the labels that a fit needs."""
    require(labels is not None, "labels", "None", f"the classes of the validation scores, to fit {method}")
    try:
        labels = torch.as_tensor(labels, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ArgumentError(
            f"labels: got {short(labels)}; expected {len(scores)} classes ({error})"
        ) from None
    require_classes("labels", labels, scores.shape[1], rows=len(scores))
    require(len(labels) > 0, "scores", "no row", f"validation scores, to fit {method}")
    return labels


def class_values(name: str, values: Tensor | Sequence[float] | None, classes: int) -> Tensor:  # (C,)
    """Return a number for each class, float64; NaN is one that is not known."""
    try:
        vector = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ArgumentError(f"{name}: got {short(values)}; expected {classes} numbers ({error})") from None
    numbers = check_class_values(name, vector)
    require(len(numbers) == classes, name, f"{len(numbers)} classes", f"the {classes} of the scores")
    return numbers


def short(value: object) -> str:
    """What was given, for a message: its beginning."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
