"""Which part of a data set a file or folder belongs to, by its name."""

import re

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a split may be called, in the name of a file or in a column of splits."""

_WORDS = {**SPLIT_WORDS, "t10k": "test"}


def part_of(name: str) -> str | None:
    """Say whether a name tells of training, validation or test: "train", "validation", "test" or None.

    >>> part_of("train-00000-of-00002.parquet"), part_of("t10k-images-idx3"), part_of("Val"), part_of("trains")
    ('train', 'test', 'validation', None)
    """
    found = [_WORDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in _WORDS]
    return found[0] if found else None
