"""The classes of a detection data set."""

from dataclasses import dataclass
from typing import Any

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
    def of(cls, file: str, categories: list[dict[str, Any]]) -> "Classes":
        """The classes that a COCO or LVIS file lists.

        Raises:
            ArgumentError: if there is none, or an id is not an integer or there twice.
        """
        if not categories:
            raise ArgumentError(f"{file}: it has no categories")
        ids: list[Any] = [category.get("id") for category in categories]
        for place, category in enumerate(ids):
            if type(category) is not int or category in ids[:place]:
                fault = "is there twice" if type(category) is int else "is no integer"
                raise ArgumentError(f"{file}: category id {category!r} {fault}")
        names = tuple(str(category.get("name", category["id"])) for category in categories)
        frequency = tuple(str(category.get("frequency", "")) for category in categories)
        return cls(names, tuple(ids), frequency if set(frequency) <= {"r", "c", "f"} else None)

    def require_among(self, file: str, others: "Classes", others_file: str) -> None:
        """Require that these are classes of another part, by id and name; they may be fewer and in another order.

        Raises:
            ArgumentError: naming the first that is not.
        """
        known = dict(zip(others.ids, others.names, strict=True))
        for category, name in zip(self.ids, self.names, strict=True):
            if known.get(category) != name:
                has = f"{known[category]!r}" if category in known else "none"
                raise ArgumentError(
                    f"{file}: category {category} is {name!r}, and {has} in {others_file}; "
                    "expected the same ids and names"
                )
