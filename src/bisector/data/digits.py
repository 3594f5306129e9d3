"""Handwritten digits: small enough to train on in seconds, and part of scikit-learn."""

import torch

from bisector.data.dataset import Dataset
from bisector.data.examples import InMemory
from bisector.data.source import Source
from bisector.data.splits import standard_split
from bisector.errors import missing_extra


def digits(*, imbalance: float = 1.0, seed: int = 0) -> Dataset:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn; nothing is downloaded.

    30% of each class are for test and 10% for validation, in the proportions of the whole; what remains is
    for training, made long-tailed by `long_tail_indices`. Pixels are scaled from 0..16 to 0..1; images are
    (N, 1, 8, 8) float32. The seed decides the split, which classes are rare, and what is kept of them.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998).

    Args:
        imbalance: training count of the commonest class over that of the rarest; 1 leaves the counts as they are.
        seed: from 0 to 2^32 - 1.

    Raises:
        ArgumentError: if the imbalance is below 1 or not finite.
        MissingExtraError: without scikit-learn.

    >>> data = digits(imbalance=100)
    >>> len(data.test), data.train_counts.sort().values[[0, -1]]
    (540, tensor([  1, 109]))
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    pixels, targets = load_digits(return_X_y=True)
    rest, test = train_test_split(range(len(targets)), test_size=0.3, stratify=targets, random_state=seed)
    train, validation = train_test_split(rest, test_size=1 / 7, stratify=targets[rest], random_state=seed)
    source = Source(
        examples=InMemory(torch.from_numpy(pixels / 16).float().reshape(-1, 1, 8, 8)),
        labels=torch.from_numpy(targets).long(),
        class_names=tuple("0123456789"),
        parts={
            "train": torch.tensor(train),
            "validation": torch.tensor(validation),
            "test": torch.tensor(test),
        },
    )
    return standard_split("digits", source, imbalance=imbalance, seed=seed)
