"""What of a file could not be used, told in few lines."""


class LeftOut:
    """Counts faults of one kind and remembers where the first is.

    >>> faults = LeftOut("train.json")
    >>> for annotation in (17, 99):
    ...     faults.add("without area, left out", f"annotation {annotation} (a.jpg)")
    >>> faults.lines()
    ('train.json: boxes without area, left out: 2; the first: annotation 17 (a.jpg)',)
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._kinds: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, fault: str, where: str, *, count: int = 1, what: str = "boxes") -> None:
        """Note one fault, or several of which `where` names the first."""
        found, first = self._kinds.get((what, fault), (0, where))
        self._kinds[what, fault] = (found + count, first)

    def lines(self) -> tuple[str, ...]:
        """One line for each kind of fault."""
        return tuple(
            f"{self._file}: {what} {fault}: {count:,}; the first: {first}"
            for (what, fault), (count, first) in self._kinds.items()
        )
