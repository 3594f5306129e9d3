"""Two processes that train one network with IGAM, in plain PyTorch.

``torchrun --nproc-per-node 2 examples/two_processes.py`` trains on scikit-learn's digits, on CPUs (gloo).
"""

import hashlib
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import bisector as bs

EPOCHS, BATCH = 3, 32  # rows of a step in each process


class Model(nn.Module):
    """Backbone and head in one module: DistributedDataParallel averages the gradients of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.head = bs.IGAM(16, 10)

    def forward(self, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of this process' rows, and their embeddings for the meter."""
        embeddings = self.backbone(rows)
        return self.head(embeddings, labels), embeddings.detach()


def main() -> None:
    """Train; each process prints the losses over both and what it ends with."""
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    digits, targets = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(digits / 16).float(), torch.tensor(targets))
    # Batches of one size in all processes: the mean of their losses is the loss of all rows.
    sampler: DistributedSampler[Any] = DistributedSampler(data, world, rank, seed=0, drop_last=True)
    loader = DataLoader(data, BATCH, sampler=sampler, drop_last=True)

    torch.manual_seed(0)
    model = Model()
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for rows, labels in loader:
            loss, embeddings = wrapped(rows, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.head.observe(embeddings, labels)  # its own rows; sends nothing
            total = loss.detach().clone()
            distributed.all_reduce(total)
            if rank == 0:
                print(f"loss {total.item() / world:.6f}\n", end="", flush=True)
        model.head.refresh()  # all processes together: the meters are merged, the margins are the same in all

    held = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    amounts = model.head.amounts
    assert amounts is not None
    told = " ".join(f"{amount:.4f}" for amount in amounts.tolist())
    # The end of the line in one piece with it: two processes write to one pipe.
    print(f"rank {rank}: state {hashlib.sha256(held).hexdigest()[:16]}, amounts {told}\n", end="", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
