import pytest

from bisector.errors import ArgumentError
from bisector.information.memory_budget import require_budget


def test_a_broken_budget_says_what_fits():
    def needed(dim):
        return 100 * dim

    require_budget(None, needed, 10**6)
    require_budget(700, needed, 7)
    with pytest.raises(
        ArgumentError, match=r"got 799 bytes; .*800 bytes .*dimension 8, .*dimension 7 or less"
    ):
        require_budget(799, needed, 8)
    with pytest.raises(ArgumentError, match="fewer classes"):
        require_budget(99, needed, 8)
