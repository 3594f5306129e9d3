from typing import NamedTuple

import pytest

from bisector.measurement.stream.tree import MOST_LEAVES, Node, Tree, leaves


class Part(NamedTuple):
    file: str
    group: int
    rows: int
    first: int


def parts_of(*rows: int) -> list[Part]:
    return [Part("a", number, size, sum(rows[:number])) for number, size in enumerate(rows)]


@pytest.mark.parametrize("size", range(1, 71))
def test_every_leaf_is_merged_once_in_order_after_its_partner(size: int) -> None:
    tree, held = Tree(size), {}
    for node in tree:
        assert node not in held
        children = tree.children(node)
        held[node] = [held[child] for child in children] if children else node.number
        if children:
            left, right = children
            assert max(tree.leaves_under(left)) + 1 == min(tree.leaves_under(right))

    def flat(value):
        return [value] if isinstance(value, int) else [leaf for child in value for leaf in flat(child)]

    assert flat(held[tree.root]) == list(range(size))
    assert len(held) == 2 * size - 1


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 64])
def test_ancestors_are_the_nodes_that_hold_it(size: int) -> None:
    tree = Tree(size)
    nodes = list(tree)
    for node in nodes:
        holding = {
            n
            for n in nodes
            if n.level >= node.level and set(tree.leaves_under(node)) <= set(tree.leaves_under(n))
        }
        assert set(tree.ancestors(node)) == holding


def test_few_files_wait_for_a_partner() -> None:
    tree, waiting, most = Tree(64), set(), 0
    for node in tree:
        waiting = (waiting - set(tree.children(node))) | {node}
        most = max(most, len(waiting))
    assert most == 7
    assert waiting == {Node(6, 0)}


@pytest.mark.parametrize(
    ("rows", "wanted", "expected"),
    [
        ([5], 10, [5]),
        ([10], 10, [10]),
        ([4, 4, 4, 4], 7, [8, 8]),
        ([4, 4, 30, 4], 7, [8, 30, 4]),
        ([0, 3], 3, [3]),
        ([], 3, []),
    ],
)
def test_leaves_are_consecutive_parts(rows, wanted, expected) -> None:
    found = leaves(parts_of(*rows), wanted)
    assert [leaf.rows for leaf in found] == expected
    assert [part for leaf in found for part in leaf.parts] == parts_of(*rows)


def test_there_are_never_many() -> None:
    found = leaves(parts_of(*[1000] * 1000), leaf_rows=1)
    assert len(found) <= MOST_LEAVES
    assert min(leaf.rows for leaf in found[:-1]) >= 1000 * 1000 // MOST_LEAVES
