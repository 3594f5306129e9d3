"""The example of two processes by torchrun, beside one process that has all rows of each step."""

import re
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

import bisector as bs
from real_processes import python

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_processes.py"


def one_process() -> tuple[list[float], list[float]]:
    """The losses of the steps and the amounts at the end."""
    digits, targets = load_digits(return_X_y=True)
    rows, labels = torch.tensor(digits / 16).float(), torch.tensor(targets)
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 16))
    head = bs.IGAM(16, 10)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for epoch in range(3):
        # torch's DistributedSampler deals this order out in turn: a step of both is the next 64 rows of it.
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch))
        for batch in order[: len(order) // 64 * 64].split(64):
            embeddings = backbone(rows[batch])
            loss = head(embeddings, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            head.observe(embeddings.detach(), labels[batch])
            losses.append(loss.item())
        head.refresh()
    assert head.amounts is not None
    return losses, head.amounts.tolist()


@pytest.mark.slow
def test_two_processes_are_one_with_all_rows(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = python(*torchrun, str(EXAMPLE), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [float(number) for number in re.findall(r"loss (\S+)", done.stdout)]
    ends = re.findall(r"rank (\d): state (\w+), amounts (.*)", done.stdout)
    assert sorted(rank for rank, _, _ in ends) == ["0", "1"]
    assert ends[0][1:] == ends[1][1:]  # to the bit
    expected, amounts = one_process()
    assert len(losses) == 3 * (1797 // 64)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert [float(number) for number in ends[0][2].split()] == pytest.approx(amounts, abs=1e-2)
    assert losses[-1] < losses[0] / 2
