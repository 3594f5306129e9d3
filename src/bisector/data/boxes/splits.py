"""The parts of a detection data set."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from bisector.data.boxes.box_set import BoxSet
from bisector.data.keyed import keyed_permutation
from bisector.errors import require

VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class BoxSplits:
    """Training, validation and test pictures, of the same classes; `test` is None where the data have none."""

    train: BoxSet
    validation: BoxSet
    test: BoxSet | None = None

    @property
    def parts(self) -> tuple[BoxSet, ...]:
        """Those that there are."""
        return (self.train, self.validation, *([] if self.test is None else [self.test]))

    @property
    def truth(self) -> BoxSet:
        """The part by which a training is scored: test, or validation where there is no other."""
        return self.validation if self.test is None else self.test

    def fingerprint(self) -> str:
        """A digest of the pictures, boxes and files of all parts."""
        return hashlib.sha256("".join(part.fingerprint() for part in self.parts).encode()).hexdigest()[:16]


def drawn_validation(boxes: BoxSet, seed: int) -> tuple[BoxSet, BoxSet]:
    """Divide pictures that nobody divided: 20% of their files, drawn from the seed, are for validation.

    Pictures of one file are in one part. Both parts keep the order of the file, and tell in `left_out` that they
    were drawn.

    Raises:
        ArgumentError: if there are fewer than 2 files.
    """
    numbers: dict[Hashable, int] = {}
    of_picture = torch.tensor([numbers.setdefault(file, len(numbers)) for file in boxes.files()])
    files = len(numbers)
    require(
        files >= 2,
        "data",
        f"{files} {'file' if len(boxes) > files else 'pictures'} in {boxes.name}",
        "at least 2, one for validation",
    )
    count = max(1, round(VALIDATION_SHARE * files))
    held = torch.isin(of_picture, keyed_permutation(seed, 0, files)[:count])
    line = (
        f"{boxes.name}: no validation part: {int(held.sum()):,} of its {len(boxes):,} pictures were drawn "
        f"(seed {seed})"
    )
    validation = boxes.subset(held.nonzero()[:, 0], left_out=[line])
    validation.name = f"{boxes.name} validation"
    return boxes.subset((~held).nonzero()[:, 0], left_out=[*boxes.left_out, line]), validation


def told_repeats(boxes: BoxSet) -> tuple[str, ...]:
    """A line where some pictures of a set are of the same file, under other ids; which."""
    names: dict[Hashable, list[str]] = {}
    for file, picture in zip(boxes.files(), boxes, strict=True):
        names.setdefault(file, []).append(f"{picture.file} (image {picture.id})")
    repeats = [" = ".join(some) for some in names.values() if len(some) > 1]
    told = f"files that several images have, which stay in one part where parts are drawn: {len(repeats):,}"
    return (f"{boxes.name}: {told}: {_first(repeats)}",) if repeats else ()


def told_common(train: BoxSet, other: BoxSet) -> tuple[str, ...]:
    """A line where pictures of another part are those of training, by a mistake of files or folder; which."""
    if train.root is None and train.style != "voc":
        return ()  # files of two lists without a folder are not known to be the same
    known = set(train.files())
    common = [picture.file for file, picture in zip(other.files(), other, strict=True) if file in known]
    where = f", in {train.root}" if train.root == other.root is not None else ""
    told = f"{len(common):,} of {len(other):,} images are those of {train.name}{where}: {_first(common)}"
    hint = "" if other.style == "voc" else "; if they are others, their folder is to be given"
    return (f"{other.name}: {told}{hint}",) if common else ()


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
