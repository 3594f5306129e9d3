import pytest
import torch

from bisector.errors import ArgumentError
from bisector.information.holding import Holding, sketch_bytes
from bisector.information.memory import memory_need, require_budget

MIB, GB = 2**20, 1e9


@pytest.mark.parametrize(
    ("instances", "dim", "classes", "queue", "all_embeddings", "scheme", "merged"),
    [
        (55_800, 128, 20, 11_517, "27.25", "11.87", "2.2"),
        (605_638, 128, 80, 68_182, "295.72", "78.29", "6.0"),
    ],
)
def test_the_papers_table(instances, dim, classes, queue, all_embeddings, scheme, merged):
    need = memory_need(instances, dim, classes, queue)
    assert f"{need.all_embeddings / MIB:.2f}" == all_embeddings
    assert f"{need.local_covariances / MIB:.2f}" == scheme
    assert f"{memory_need(instances, dim, classes, 2000).running_merge / MIB:.1f}" == merged


def test_the_papers_table_for_lvis():
    def need(queue):
        return memory_need(1_270_000, 1024, 1203, queue)

    assert f"{need(2000).all_embeddings / GB:.1f}" == "5.2"
    assert f"{need(2000).running_merge / GB:.1f}" == "5.1"
    # Whatever the queue, from a tenth of the data to all of it.
    assert min(need(1_270_000 * k // 100).local_covariances for k in range(10, 101)) > 12 * GB


def test_bytes_of_the_forms_are_what_they_hold():
    dim = 130
    rows = torch.randn(400, dim)
    holding = Holding(dim)
    holding.append(rows[:100])
    assert (holding.form, holding.nbytes) == ("rows", 4 * 100 * dim)
    holding.append(rows[100:])
    assert (holding.form, holding.nbytes) == ("scatter", 8 * (128 * 130 + 2 * 2) + 16 * dim)
    holding.sketch(20)
    for start in range(0, 400, 7):
        holding.append(rows[start : start + 7])
        assert holding.form == "sketch"
        assert holding.nbytes <= sketch_bytes(20, dim)


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


def test_complaints():
    for name in ("instances", "dim", "num_classes", "queue", "bytes_per_number"):
        sizes = {"instances": 1, "dim": 1, "num_classes": 1, "queue": 1, "bytes_per_number": 1, name: 0}
        with pytest.raises(ArgumentError, match=f"{name}: got 0"):
            memory_need(**sizes)
