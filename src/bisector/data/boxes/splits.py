"""The parts of a detection data set."""

from dataclasses import dataclass

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


def drawn_validation(boxes: BoxSet, seed: int) -> tuple[BoxSet, BoxSet]:
    """Divide pictures that nobody divided: 20% of them, drawn from the seed, are for validation.

    Both parts keep the order of the file, and tell in `left_out` that they were drawn.

    Raises:
        ArgumentError: if there are fewer than 2 pictures.
    """
    pictures = len(boxes)
    require(pictures >= 2, "data", f"{pictures} pictures in {boxes.name}", "at least 2, one for validation")
    count = max(1, round(VALIDATION_SHARE * pictures))
    order = keyed_permutation(seed, 0, pictures)
    line = (
        f"{boxes.name}: no validation part: {count:,} of its {pictures:,} pictures were drawn (seed {seed})"
    )
    held, rest = order[:count].sort().values, order[count:].sort().values
    validation = boxes.subset(held, left_out=[line])
    validation.name = f"{boxes.name} validation"
    return boxes.subset(rest, left_out=[*boxes.left_out, line]), validation
