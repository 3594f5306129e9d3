"""Which part of a data set a file or folder belongs to, by its name."""

import re

_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
}


def part_of(name: str) -> str | None:
    """Say whether a name tells of training, validation or test: "train", "validation", "test" or None.

    >>> part_of("train-00000-of-00002.parquet"), part_of("t10k-images-idx3"), part_of("Val"), part_of("trains")
    ('train', 'test', 'validation', None)
    """
    found = [_WORDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in _WORDS]
    return found[0] if found else None
