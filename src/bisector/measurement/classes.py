"""How every class fares: its count, its information amount, its accuracy, its loss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from bisector.errors import missing_extra
from bisector.statistics.bootstrap import Estimate

FEWEST = 13
"""Rows below which no amount says much about its class, whatever the dimension; see `fewest_rows`."""

_LEFT_OUT = 0.05
"""Share of the classes that are large enough that an equal count may leave out."""

_FEWEST_CLASSES = 10
"""Classes large enough from which those that are not are left out of equal amounts."""

DRAWN_ROW = 16
"""Bytes of a row drawn for equal amounts beside its vector: its number and its class."""

_LEAST_DRAWN = 2**26
"""Bytes that the rows drawn may take whatever else is held, where there is no budget."""

_FEWEST_ERRORS = 5
"""Errors of a class below which nothing is said of where they go."""

_OVERLAPPING = 10.8
"""Squared distance of two normal classes of one covariance at which the best boundary takes 5 % of the rows of
either for the other: Phi(-d / 2) = 0.05."""

_NAMED = 5
_LONGEST = 40  # letters of a name


def fewest_rows(dimensions: int) -> int:
    """Rows from which the amount of a class says more about the class than about its number of rows.

    `max(13, dimensions / 8)`. Of 30 to 60 classes whose spectra and lengths differ, the amounts on m rows, all
    classes alike, correlated with those on thousands of rows by

    ==========  =====  =====  =====  =====  =====
    dimensions  m = 8     13     32     64    128
    ==========  =====  =====  =====  =====  =====
            64    .89    .95    .99   1.00   1.00
           256    .55    .61    .96    .99   1.00
          1024    .65    .68    .74    .95    .99
    ==========  =====  =====  =====  =====  =====

    and at m = 13 with 256 dimensions the mean lay above the true one by 1.3 standard deviations of the classes: a
    small class seems large. So the border is no fixed number. From an eighth of the dimensions on the correlation
    was .92 or more, and what is left of the shift is what `ClassMeasure.equal_amount` and a partial correlation
    take out.

    >>> fewest_rows(64), fewest_rows(512)
    (13, 64)
    """
    return max(FEWEST, math.ceil(dimensions / 8))


def choose_equal_count(
    counts: Tensor,  # (C,)
    dimensions: int,
) -> int:
    """The number of rows to measure all classes on alike: large, and reached by nearly all that can be read.

    Of the classes with `fewest_rows` or more, the 5th percentile of the counts: more rows say more of each class,
    but leave out the classes that have fewer. Where neither half of the classes nor 10 are as large, of those with
    13 rows or more; 0 where fewer than 2 classes are.

    >>> import torch
    >>> choose_equal_count(torch.tensor([5, 200, 90, 40]), 64), choose_equal_count(torch.tensor([5, 9]), 64)
    (40, 0)
    """
    there = counts[counts > 1]
    large = there[there >= fewest_rows(dimensions)]
    if len(large) < min(_FEWEST_CLASSES, math.ceil(len(there) / 2)) or len(large) < 2:
        large = there[there >= FEWEST]
    return int(large.sort().values[int(_LEFT_OUT * len(large))]) if len(large) > 1 else 0


def affordable_equal_count(
    counts: Tensor,  # (C,)
    dimensions: int,
    memory_budget: int | None = None,
) -> int:
    """`choose_equal_count`, as far as the rows drawn leave memory for what they are drawn from.

    They may take a quarter of `memory_budget`, or without one of what the exact amounts of the classes take,
    `4 D min(n, D)` bytes each, or 64 MiB where that is more. 0 where fewer than 13 rows a class are left.

    >>> import torch
    >>> affordable_equal_count(torch.full((100,), 500), 64)
    500
    >>> affordable_equal_count(torch.full((100,), 500), 64, memory_budget=2**24)
    154
    """
    held = 4 * dimensions * int(counts.clip(max=dimensions).sum())
    room = max(_LEAST_DRAWN, held // 4) if memory_budget is None else memory_budget // 4
    row = 4 * dimensions + DRAWN_ROW
    most = room // (row * max(1, int((counts > 0).sum())))
    chosen = min(choose_equal_count(counts, dimensions), most)
    return chosen if chosen >= FEWEST else 0


@dataclass(frozen=True)
class ClassMeasure:
    """One class. What cannot be said is NaN.

    Args:
        name: of the class.
        count: rows that the amount is measured on: those of training, or all.
        tested: rows that accuracy is measured on.
        amount: information amount in bits; NaN with fewer than 2 rows.
        accuracy: 0 to 1.
        loss: mean cross-entropy in nats, of the rows that have one.
        equal_amount: the amount on as many random rows as of every other class; NaN with fewer.
        error_bound: bits that the amount is off by at most; 0 where it is exact, NaN where no bound is known.
        error_estimate: bits that it may be off by where no bound is known, an estimate that can be exceeded.
        neighbour: name of the class whose mean is nearest; empty where there is none.
        squared_distance: to that mean, noise-corrected, so that it may be below 0: see
            `bisector.information.geometry.ClassGeometry.nearest`.
        taken_for_neighbour: tested rows that were predicted to be of that class.
        false_positives: tested rows of other classes that were predicted to be of this one.
        intrinsic_dimension: directions that as many random rows as of every other class spread in; NaN with fewer.
        accuracy_low: from where the accuracy may be, with 95 % confidence (Wilson): ten rows are few.
        accuracy_high: up to where.
        mistaken_for: the class that most of its errors go to; empty without errors.
        as_mistaken: how many of its rows do.
        probe_accuracy: of a probe on these embeddings, not of the model, where there are no predictions.
        probed: rows that the probe was asked about.
    """

    name: str
    count: int
    tested: int
    amount: float
    accuracy: float
    loss: float
    equal_amount: float = math.nan
    error_bound: float = 0.0
    error_estimate: float = math.nan
    neighbour: str = ""
    squared_distance: float = math.nan
    taken_for_neighbour: int = 0
    false_positives: int = 0
    intrinsic_dimension: float = math.nan
    accuracy_low: float = math.nan
    accuracy_high: float = math.nan
    mistaken_for: str = ""
    as_mistaken: int = 0
    probe_accuracy: float = math.nan
    probed: int = 0

    @property
    def errors(self) -> int:
        """Tested rows that were predicted to be of another class."""
        return self.tested - round(self.accuracy * self.tested) if self.tested else 0

    @property
    def accuracy_interval(self) -> Estimate:
        """Accuracy with its 95% interval over the tested rows."""
        return Estimate(self.accuracy, self.accuracy_low, self.accuracy_high)


def most_mistaken(confused: Mapping[int, int], class_names: Sequence[str]) -> dict[int, tuple[int, str]]:
    """The class that most of the errors of each class go to: how many, and its name.

    Args:
        confused: rows of class i that were predicted to be j, under i * C + j.
        class_names: of the C classes.

    >>> most_mistaken({1: 2, 2: 5, 3: 1}, ("a", "b", "c"))
    {0: (5, 'c'), 1: (1, 'a')}
    """
    most: dict[int, tuple[int, str]] = {}
    for code, rows in confused.items():
        one, other = divmod(code, len(class_names))
        if rows > most.get(one, (0, ""))[0]:
            most[one] = rows, class_names[other]
    return most


def hardest(classes: Sequence[ClassMeasure]) -> list[ClassMeasure]:
    """The classes with an accuracy, the lowest first; of equal ones that of fewest rows, then of highest loss."""
    known = [one for one in classes if math.isfinite(one.accuracy)]
    return sorted(known, key=lambda one: (one.accuracy, one.count, -one.loss if one.loss > 0 else 0.0))


def hard_with_neighbour(classes: Sequence[ClassMeasure], most: int = 5) -> list[tuple[ClassMeasure, bool]]:
    """The hardest classes, and of each whether it is hard because its neighbour is near.

    Hard is a class that is less accurate than the mean of all, and has a neighbour. That the neighbour is why is
    said where all of this holds: it is no further away than those of half of the classes, or so near that the best
    boundary would take 5 % of the rows of either for the other (a squared distance of 10.8); the class has 5 errors
    or more; more than half of them go to the neighbour, at least twice the share of those of the classes that have
    another neighbour, and more than that share would bring by chance (binomial test, 5 %): what a model takes all
    classes for explains nothing by being near.

    Args:
        classes: all that were measured.
        most: of the hardest.

    Raises:
        MissingExtraError: without scipy.

    >>> rows = [("horse", 0.5, 4, "deer", 8, 0), ("deer", 1.0, 4, "horse", 0, 9), ("ship", 0.6, 90, "car", 1, 7)]
    >>> classes = [ClassMeasure(n, 50, 20, 9.0, a, 0.1, neighbour=to, squared_distance=d, taken_for_neighbour=k,
    ...            false_positives=f) for n, a, d, to, k, f in rows]
    >>> classes.append(ClassMeasure("car", 50, 20, 9.0, 0.9, 0.1, false_positives=2))
    >>> [(one.name, near) for one, near in hard_with_neighbour(classes)]
    [('horse', True), ('ship', False)]
    """
    ranked = hardest(classes)
    mean = sum(one.accuracy for one in ranked) / max(1, len(ranked))
    hard = [one for one in ranked if one.accuracy < mean and one.neighbour][:most]
    middle = median([d for one in classes if math.isfinite(d := one.squared_distance)] or [math.nan])
    near = max(middle, _OVERLAPPING)
    return [(one, one.squared_distance <= near and _drawn_there(one, classes)) for one in hard]


def _drawn_there(one: ClassMeasure, classes: Sequence[ClassMeasure]) -> bool:
    """Whether most errors of a class go to its neighbour, and more than of classes that are not near it."""
    try:
        from scipy.special import bdtrc
    except ImportError:
        raise missing_extra("scipy", "measure") from None
    taken, errors = one.taken_for_neighbour, one.errors
    if errors < _FEWEST_ERRORS or 2 * taken <= errors:
        return False
    attracted = [other for other in classes if other.neighbour == one.neighbour]  # to the same, this one too
    neighbour = next(other for other in classes if other.name == one.neighbour)
    elsewhere = sum(other.errors for other in classes) - neighbour.errors - sum(k.errors for k in attracted)
    from_afar = neighbour.false_positives - sum(k.taken_for_neighbour for k in attracted)
    share = from_afar / elsewhere if elsewhere else 0.0
    share = max(share, 1 / (sum(other.count > 0 for other in classes) - 1))
    return taken >= 2 * share * errors and bool(bdtrc(taken - 1, errors, share) < 0.05)


def small_note(classes: Sequence[ClassMeasure], dimensions: int) -> str:
    """Which classes are too small, and how many of those that have rows; empty if none is.

    >>> small_note([ClassMeasure("owl", 9, 0, 4.0, 0.5, 0.5), ClassMeasure("wren", 70, 0, 5.0, 0.5, 0.5)], 64)
    '1 of 2 classes has fewer than 13 rows (owl): its amount says more about its number of rows than about it.'
    """
    fewest = fewest_rows(dimensions)
    there = [one for one in classes if one.count]
    small = sorted((one for one in there if one.count < fewest), key=lambda one: one.count)
    if not small:
        return ""
    has, its, says, it = (
        ("has", "its", "amount says", "it") if len(small) == 1 else ("have", "their", "amounts say", "them")
    )
    eighth = ", an eighth of the dimensions" if fewest > FEWEST else ""
    return (
        f"{len(small):,} of {len(there):,} classes {has} fewer than {fewest} rows{eighth} ({_some(small)}): {its} "
        f"{says} more about {its} number of rows than about {it}."
    )


def _some(classes: Sequence[ClassMeasure]) -> str:
    """The names of the first few."""
    names = [
        one.name if len(one.name) <= _LONGEST else f"{one.name[: _LONGEST - 1]}…" for one in classes[:_NAMED]
    ]
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    return ", ".join(names) + more
