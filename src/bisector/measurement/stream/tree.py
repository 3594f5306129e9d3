"""Which rows are read together, and in which order what was read is merged: fixed by the data alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bisector.data.tables import Part

LEAF_ROWS = 2**18
"""Rows of a leaf, at least: enough that reading them takes longer than writing what was measured on them."""

MOST_LEAVES = 64
"""Above which leaves are larger: each costs writing, reading and merging what all classes hold."""


@dataclass(frozen=True)
class Leaf:
    """Parts that are read in one go, one after another.

    Args:
        parts: of the stored embeddings.
        rows: of all of them.
    """

    parts: "tuple[Part, ...]"
    rows: int


class Node(NamedTuple):
    """A place in the tree: a leaf at level 0; above, the merge of nodes 2 n and 2 n + 1 below."""

    level: int
    number: int

    @property
    def name(self) -> str:
        """The name of its file.

        >>> Node(0, 7).name
        'L0-7.pt'
        """
        return f"L{self.level}-{self.number}.pt"


def leaves(parts: "Sequence[Part]", leaf_rows: int = LEAF_ROWS) -> tuple[Leaf, ...]:
    """Consecutive parts, each leaf of at least `leaf_rows` rows but the last; 64 leaves at most.

    >>> from bisector.data.tables import Part
    >>> [leaf.rows for leaf in leaves([Part("a", n, 10, 10 * n) for n in range(5)], leaf_rows=15)]
    [20, 20, 10]
    """
    wanted = max(leaf_rows, -(-sum(part.rows for part in parts) // MOST_LEAVES))
    found: list[Leaf] = []
    held: list[Part] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += part.rows
        if rows >= wanted:
            found.append(Leaf(tuple(held), rows))
            held, rows = [], 0
    return (*found, Leaf(tuple(held), rows)) if held else tuple(found)


@dataclass(frozen=True)
class Tree:
    """The merge tree over `size` leaves. The last node of a level that has no partner is its own parent's value.

    >>> tree = Tree(3)
    >>> tree.root, list(tree)
    (Node(level=2, number=0), [Node(level=0, number=0), Node(level=0, number=1), Node(level=1, number=0),
     Node(level=0, number=2), Node(level=2, number=0)])
    """

    size: int

    @property
    def root(self) -> Node:
        """The node that holds all leaves."""
        return Node((self.size - 1).bit_length(), 0)

    def children(self, node: Node) -> tuple[Node, ...]:
        """None of a leaf; else two, of which one without a partner of its own stands for what it passes on."""
        if node.level == 0:
            return ()
        below = Node(node.level - 1, 2 * node.number), Node(node.level - 1, 2 * node.number + 1)
        return tuple(self._real(child) for child in below)

    def ancestors(self, node: Node) -> Iterator[Node]:
        """The node itself and those above it."""
        for level in range(node.level, self.root.level + 1):
            above = Node(level, node.number >> (level - node.level))
            if self._real(above) == above:
                yield above

    def leaves_under(self, node: Node) -> range:
        """The leaves whose rows a node holds."""
        return range(node.number << node.level, min(self.size, (node.number + 1) << node.level))

    def __iter__(self) -> Iterator[Node]:
        """All nodes, each after its children, so that few files wait for a partner."""
        yield from self._under(self.root)

    def _under(self, node: Node) -> Iterator[Node]:
        for child in self.children(node):
            yield from self._under(child)
        yield node

    def _real(self, node: Node) -> Node:
        """The node, or the one below that it would be a copy of."""
        while node.level > 0 and ((2 * node.number + 1) << (node.level - 1)) >= self.size:
            node = Node(node.level - 1, 2 * node.number)
        return node
