"""The classes of a detection data set."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bisector.data.boxes.left_out import LeftOut
from bisector.errors import ArgumentError


@dataclass(frozen=True)
class Classes:
    """Names, ids in the file, and how frequent the file says that each is.

    >>> Classes(("cat", "dog"), (17, 18)).labels()
    {17: 1, 18: 2}
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    frequency: tuple[str, ...] | None = None

    def labels(self) -> dict[int, int]:
        """The label (1..C) of each id."""
        return {category: label for label, category in enumerate(self.ids, 1)}

    @classmethod
    def of(
        cls, file: str, categories: list[dict[str, Any]], faults: LeftOut, *, lvis: bool = False
    ) -> "Classes":
        """The classes that a COCO or LVIS file lists.

        Args:
            file: its name, for people.
            categories: as it has them.
            faults: is told where only some have a frequency, or none of a file of LVIS: groups of frequency are
                those of the training images then.
            lvis: whether the file is of LVIS, whose categories should have one.

        Raises:
            ArgumentError: if there is none, or an id is not an integer or there twice.
        """
        if not categories:
            raise ArgumentError(f"{file}: it has no categories")
        ids: list[Any] = [category.get("id") for category in categories]
        seen: set[int] = set()
        for category in ids:
            if type(category) is not int or category in seen:
                fault = "is there twice" if type(category) is int else "is no integer"
                raise ArgumentError(f"{file}: category id {category!r} {fault}")
            seen.add(category)
        given = [category.get("name") for category in categories]
        called = [str(own if name in (None, "") else name) for name, own in zip(given, ids, strict=True)]
        times = Counter(called)
        # Two of one name stay two: people are to see which is which.
        names = tuple(
            f"{name} ({own})" if times[name] > 1 else name for name, own in zip(called, ids, strict=True)
        )
        letters = tuple(str(category.get("frequency", "")) for category in categories)
        without = [place for place, letter in enumerate(letters) if letter not in {"r", "c", "f"}]
        if not without:
            return cls(names, tuple(ids), letters)
        if lvis or len(without) < len(letters):
            first = f"category {ids[without[0]]} ({names[without[0]]})"
            fault = "without a frequency of r, c or f; groups are by the training images"
            faults.add(fault, first, count=len(without), what="categories")
        return cls(names, tuple(ids))

    def require_among(self, file: str, others: "Classes", others_file: str) -> None:
        """Require that these are classes of another part, by id and name; they may be fewer and in another order.

        Raises:
            ArgumentError: naming the first that is not.
        """
        known = dict(zip(others.ids, others.names, strict=True))
        for category, name in zip(self.ids, self.names, strict=True):
            if known.get(category) not in {name, f"{name} ({category})"}:
                has = f"{known[category]!r}" if category in known else "none"
                raise ArgumentError(
                    f"{file}: category {category} is {name!r}, and {has} in {others_file}; "
                    "expected the same ids and names"
                )
