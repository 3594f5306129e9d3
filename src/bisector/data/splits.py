"""How a data set is divided: training, validation and test, always apart, and the long tail of training."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from bisector.data.dataset import Dataset, Part
from bisector.data.examples import Subset
from bisector.data.keyed import keyed_uniform
from bisector.data.long_tail import first_of_each_class, long_tail_indices
from bisector.data.source import Source
from bisector.errors import require

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


def standard_split(name: str, source: Source, *, imbalance: float = 1.0, seed: int = 0) -> Dataset:
    """Divide a data set so that every class is trained on, and thin its training part to a long tail.

    The test part is the data's own where it has one (a validation part, where it has only that); otherwise 20%
    of each class, at least one example of a class with two. Validation is the data's own where it has that beside a
    test part; otherwise 10% of each class of the remaining, at least one of a class that began with three. A class
    with one example is only trained on; a class without an example to train on is left out, and named.

    Raises:
        ArgumentError: if the imbalance is below 1, fewer than two classes have an example to train on, or the
            data's own test part holds none of the classes of its training part.

    >>> from bisector.data.examples import InMemory
    >>> labels = torch.tensor([0] * 50 + [1] * 10 + [2])
    >>> data = standard_split("three", Source(InMemory(torch.zeros(61, 4)), labels, ("a", "b", "c")))
    >>> data.train_counts, data.validation.labels.bincount(), data.test_counts
    (tensor([36,  7,  1]), tensor([4, 1]), tensor([10,  2,  0]))
    """
    strangers = "its test part holds none of the classes of its training part"
    require(not _open(source), "split", f"'standard', but {strangers}", "'open-set' for such data")
    parts = _own_parts(source.parts)
    train = parts.get("train", torch.arange(len(source.labels)))
    whole = _counts(source, train)
    if "test" in parts:
        test = parts["test"]
    else:
        counts = _share(whole, TEST_SHARE).maximum((whole >= 2).long())
        test, train = _drawn(train, source.labels, counts, seed, "test")
    if "validation" in parts:
        validation = parts["validation"]
    else:
        counts = _validation_counts(_counts(source, train), whole)
        validation, train = _drawn(train, source.labels, counts, seed, "choose")

    trained = _counts(source, train) > 0
    known = int(trained.sum())
    require(known >= 2, "data", f"{known} class with examples to train on", "at least 2")
    others = _counts(source, torch.cat([validation, test]))
    lost = [
        f"class {source.class_names[c]!r}: no example to train on; {int(others[c])} for validation and test"
        for c in (~trained).nonzero()[:, 0].tolist()
    ]
    train = _long_tail(train, source.labels, imbalance, seed)
    validation, test = (rows[trained[source.labels[rows]]] for rows in (validation, test))
    return _dataset(name, source, (train, validation, test), trained, left_out=lost)


def open_set_split(name: str, source: Source, *, imbalance: float = 1.0, seed: int = 0) -> Dataset:
    """Divide the classes: some are trained on, the others are only tested on, as for faces of strangers.

    Where the data's own test part holds other classes than its training part, these are the two groups. Otherwise
    half of the classes, drawn once for all seeds, are trained on. Every example belongs to the part of its class;
    10% of each class trained on are for validation. Labels are numbered anew within each group.

    Raises:
        ArgumentError: if the imbalance is below 1, or there are fewer than four classes.

    >>> from bisector.data.examples import InMemory
    >>> data = open_set_split("x", Source(InMemory(torch.zeros(40, 4)), torch.arange(40) % 4, tuple("abcd")))
    >>> data.class_names, data.test_names, data.train_counts, data.test_counts
    (('c', 'd'), ('a', 'b'), tensor([9, 9]), tensor([10, 10]))
    """
    whole = _counts(source, torch.arange(len(source.labels)))
    present = (whole > 0).nonzero()[:, 0]
    require(len(present) >= 4, "data", f"{len(present)} classes", "at least 4, to train on 2 and test on 2")
    tested = torch.zeros(len(whole), dtype=torch.bool)
    if _open(source):
        tested[source.labels[_own_parts(source.parts)["test"]]] = True
    else:
        # The same classes whatever the seed, so that trainings with several seeds speak of the same ones.
        order = keyed_uniform(0, 0, present, 1, "classes")[:, 0].argsort(stable=True)
        tested[present[order[: len(present) // 2]]] = True
    known = ~tested & (whole > 0)
    rows = known[source.labels].nonzero()[:, 0]
    validation, train = _drawn(rows, source.labels, _validation_counts(whole, whole), seed, "choose")
    train = _long_tail(train, source.labels, imbalance, seed)
    test = tested[source.labels].nonzero()[:, 0]
    return _dataset(name, source, (train, validation, test), known, tested)


SPLITS: Mapping[str, Callable[..., Dataset]] = {"standard": standard_split, "open-set": open_set_split}
"""The ways to divide a data set that `load` knows."""


def _own_parts(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts that the data itself has: none if it names nothing to train on; a lone validation is for test."""
    own = {part: rows for part, rows in parts.items() if len(rows)}
    if "train" not in own:
        return {"train": torch.cat(list(own.values())).sort().values} if own else {}
    if "test" not in own and "validation" in own:
        own["test"] = own.pop("validation")
    return own


def _open(source: Source) -> bool:
    """Whether the data's own test part holds at least two classes, none of them in its training part."""
    own = _own_parts(source.parts)
    if "test" not in own:
        return False
    tested, trained = (torch.unique(source.labels[own[part]]) for part in ("test", "train"))
    return len(tested) >= 2 and len(trained) >= 2 and not torch.isin(tested, trained).any()


def _counts(source: Source, rows: Tensor) -> Tensor:  # (C,)
    return torch.bincount(source.labels[rows], minlength=len(source.class_names))


def _share(counts: Tensor, share: float) -> Tensor:  # (C,)
    return (counts * share + 1e-6).round().long()


def _validation_counts(rest: Tensor, whole: Tensor) -> Tensor:  # (C,)
    return _share(rest, VALIDATION_SHARE).maximum((whole >= 3).long())


def _drawn(
    rows: Tensor,  # (M,) positions
    labels: Tensor,  # (N,)
    counts: Tensor,  # (C,)
    seed: int,
    purpose: str,
) -> tuple[Tensor, Tensor]:
    """Draw so many of each class: those drawn and the others, each in the order of `rows`."""
    order = keyed_uniform(seed, 0, rows, 1, purpose)[:, 0].argsort(stable=True)
    taken = first_of_each_class(order, labels[rows], counts)
    return rows[taken], rows[~taken]


def _long_tail(rows: Tensor, labels: Tensor, imbalance: float, seed: int) -> Tensor:
    if imbalance == 1:  # also data that is unequal by nature stays as it is
        return rows
    present = torch.unique(labels[rows], return_inverse=True)[1]
    return rows[long_tail_indices(present, imbalance, seed)]


def _dataset(
    name: str,
    source: Source,
    parts: tuple[Tensor, Tensor, Tensor],
    known: Tensor,  # (C,) classes to train on
    tested: Tensor | None = None,  # (C,) those to test on, where these are others
    *,
    left_out: Sequence[str] = (),
) -> Dataset:
    """Return the data set of these rows for training, validation and test, each group of classes numbered anew."""
    new = known.cumsum(0) if tested is None else torch.where(known, known.cumsum(0), tested.cumsum(0))

    def names(chosen: Tensor) -> tuple[str, ...]:
        return tuple(source.class_names[c] for c in chosen.nonzero()[:, 0].tolist())

    train, validation, test = (
        Part(Subset(source.examples, rows), new[source.labels[rows]] - 1) for rows in parts
    )
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        class_names=names(known),
        test_names=None if tested is None else names(tested),
        augmentation=source.augmentation,
        left_out=(*source.left_out, *left_out),
        notes=source.notes,
        pixel_range=source.pixel_range,
    )
