"""The work of one node of the tree, which any process can do that sees the data and the folder of partials."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bisector.errors import DamagedFileError
from bisector.files import note
from bisector.measurement.stream.options import Options
from bisector.measurement.stream.partial import Partial
from bisector.measurement.stream.tree import Leaf, Node, Tree, leaves

if TYPE_CHECKING:
    from bisector.data.tables import StoredEmbeddings


_lock = threading.Lock()
_held = {"by": 0, "before": 1}


@dataclass(frozen=True)
class Job:
    """One measurement: what is read, what is asked, and where partials lie. It is small, and can be pickled.

    Args:
        stored: embeddings.
        options: of the measurement.
        folder: of the partials of this very measurement.
    """

    stored: "StoredEmbeddings"
    options: Options
    folder: Path

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """What is read in one go."""
        return leaves(self.stored.parts, self.options.leaf_rows)

    @cached_property
    def tree(self) -> Tree:
        """Over the leaves."""
        return Tree(len(self.leaves))

    def path(self, node: Node) -> Path:
        """The file of a node."""
        return self.folder / node.name

    def done(self, node: Node) -> bool:
        """Whether the node, or one above it that holds the same rows, is written."""
        return any(self.path(above).exists() for above in self.tree.ancestors(node))

    def rows_done(self) -> int:
        """Rows of the leaves that need not be read again."""
        return sum(leaf.rows for index, leaf in enumerate(self.leaves) if self.done(Node(0, index)))

    def run(self, node: Node, progress: Callable[[int], None] = lambda rows: None) -> None:
        """Write the node's file and remove those of its children. What is done is not done again.

        Raises:
            ArgumentError: if a part cannot be read, or the memory budget would be broken.
            OSError: if a file cannot be written.
        """
        if self.done(node):
            return
        children = self.tree.children(node)
        with one_thread():
            if children:
                try:
                    first, second = children
                    partial = self._loaded(first)
                    partial.merge(self._loaded(second))
                except FileNotFoundError:
                    if self.done(node):  # a worker that was taken for dead has done it meanwhile
                        return
                    raise
            else:
                partial = Partial(self.stored, self.options)
                partial.add(self.stored, self.leaves[node.number].parts, progress)
            partial.save(self.path(node))
        for child in children:
            self.path(child).unlink(missing_ok=True)

    def run_all(self, progress: Callable[[int], None]) -> None:
        """Run every node in this process, one after another."""
        for node in self.tree:
            self.run(node, progress)

    def result(self) -> Partial:
        """What all rows gave, when the root is written."""
        return self._loaded(self.tree.root)

    def tidy(self) -> None:
        """Remove what was left by somebody who was killed between writing a node and removing its children."""
        for node in self.tree:
            if any(self.path(above).exists() for above in self.tree.ancestors(node) if above != node):
                self.path(node).unlink(missing_ok=True)
        for draft in self.folder.glob(".L*"):  # this folder is held by one command, which begins now
            draft.unlink(missing_ok=True)

    def _loaded(self, node: Node) -> Partial:
        """What the node's rows gave, measured again where its file is damaged."""
        try:
            return self._read(node)
        except DamagedFileError as error:
            note(f"{error}: its rows are measured again")
        self.path(node).unlink(missing_ok=True)
        self._run_again(node)
        return self._read(node)

    def _read(self, node: Node) -> Partial:
        partial = Partial(self.stored, self.options)
        partial.load(self.path(node))
        return partial

    def _run_again(self, node: Node) -> None:
        """Run a node and, before it, those below that are not there any more."""
        for child in self.tree.children(node):
            if not self.path(child).exists():
                self._run_again(child)
        self.run(node)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread in here: on several, a product may add its terms in another order.

    On as many as before when the last that is in here has left: a Dask worker may run several tasks at once, each
    on a thread of its own.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    with _lock:
        if _held["by"] == 0:
            _held["before"] = torch.get_num_threads()
        _held["by"] += 1
        torch.set_num_threads(1)  # by everyone: the number is in part a matter of the calling thread
    try:
        yield
    finally:
        with _lock:
            _held["by"] -= 1
            if _held["by"] == 0:
                torch.set_num_threads(_held["before"])
