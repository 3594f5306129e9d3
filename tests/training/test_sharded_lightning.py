"""Lightning with sharded classes beside Lightning in one process: training, clipping, checkpoints, resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

import bisector as bs
from bisector.engine.gradients import GradScaler
from bisector.training import Classifier, ShardedDDP
from lightning_cases import quiet_trainer
from real_processes import in_processes

D, C, B = 6, 11, 8
MANY = 60  # of which the data has the first C


class Batches(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """The rows of one rank of three joint batches, in unequal parts."""

    def __init__(self, rank: int, world: int) -> None:
        self.here = slice(rank * 3, B if rank == world - 1 else (rank + 1) * 3)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number >= 3:
            raise IndexError
        generator = torch.Generator().manual_seed(number)
        inputs = torch.randn(B, 4, generator=generator)
        return inputs[self.here], torch.randint(C, (B,), generator=generator)[self.here]


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def fit(
    rank: int, world: int, folder: Path, epochs: int, resumed: str | None = None, mixed: bool = False
) -> Any:
    torch.manual_seed(3)
    backbone = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, D))
    head = bs.AMSoftmax(D, C, learnable_scale=True, device="meta" if mixed else None)
    module = Classifier(backbone, head, schedule="constant", learning_rate=0.02)
    half = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
    trainer = quiet_trainer(
        epochs,
        devices=world,
        strategy=ShardedDDP() if world > 1 else "auto",
        gradient_clip_val=0.5,
        default_root_dir=folder / f"{world}",
        plugins=half if mixed else None,
    )
    data = torch.utils.data.DataLoader(Batches(rank, world), batch_size=None)
    path = None if resumed is None else folder / resumed
    trainer.fit(module, data, data if world == 1 else None, ckpt_path=path)
    if not mixed and resumed is None:
        trainer.save_checkpoint(folder / f"{world}-{epochs}.ckpt")
    if mixed:
        assert not any(value.isnan().any() for value in module.state_dict().values())
        assert type(trainer.precision_plugin.scaler) is GradScaler
    return {name: whole(value).clone() for name, value in module.state_dict().items()}


def fit_sampled(
    rank: int, world: int, folder: Path, strategy: str, epochs: int, resumed: str | None = None
) -> list[Tensor]:
    """Classes, of which only those of the batch are drawn; then weights and counts of steps, whole."""
    torch.manual_seed(3)
    head = bs.LinearSoftmax(D, MANY, sample=0.02)
    start = head.weight.detach().clone()
    module = Classifier(nn.Linear(4, D), head, schedule="constant", learning_rate=0.02, seed=1)
    chosen = ShardedDDP() if strategy == "sharded" else strategy
    trainer = quiet_trainer(epochs, devices=world, strategy=chosen, default_root_dir=folder)
    data = torch.utils.data.DataLoader(Batches(rank, world), batch_size=None)
    trainer.fit(module, data, ckpt_path=None if resumed is None else folder / resumed)
    if resumed is None:
        trainer.save_checkpoint(folder / f"{strategy}-{epochs}.ckpt")
    assert head.sparse == (strategy != "ddp")  # where DDP would fail at sparse gradients
    steps = module.optimizers(use_pl_optimizer=False).state[head.weight]["step"]
    weight, steps, bias = map(whole, (head.weight.detach(), steps, head.bias.detach()))
    seen = torch.cat([batch[1] for batch in (Batches(0, 1)[n] for n in range(3))]).unique()
    moved = (weight != start).any(dim=1)
    assert torch.equal(moved.nonzero()[:, 0], seen)
    assert torch.equal(steps > 0, moved)
    return [weight, steps, bias]


@pytest.mark.slow
def test_lightning_trains_saves_and_resumes_as_one_process(tmp_path: Path) -> None:
    expected = fit(0, 1, tmp_path, 4)
    fit(0, 1, tmp_path, 2)
    halves, resumed, of_one, straight, _, *sampled, replicas = in_processes(
        tmp_path,
        (2, fit, tmp_path, 2),
        (2, fit, tmp_path, 4, "2-2.ckpt"),
        (2, fit, tmp_path, 4, "1-2.ckpt"),
        (2, fit, tmp_path, 4),
        (2, fit, tmp_path, 1, None, True),
        (2, fit_sampled, tmp_path, "sharded", 4),
        (2, fit_sampled, tmp_path, "sharded", 2),
        (2, fit_sampled, tmp_path, "sharded", 4, "sharded-2.ckpt"),
        (2, fit_sampled, tmp_path, "ddp", 2),
    )
    back = fit(0, 1, tmp_path, 4, "2-2.ckpt")
    for found in (*resumed, *of_one, *straight, back):
        assert found.keys() == expected.keys()
        for name, theirs in expected.items():
            torch.testing.assert_close(found[name], theirs, rtol=1e-4, atol=1e-5)
    # What is stored is whole: any head takes it.
    stored = torch.load(tmp_path / "2-2.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(stored["head.weight"], halves[1]["head.weight"])
    assert torch.equal(stored["head.weight"], halves[0]["head.weight"])
    # Of sampled classes each row has a count of steps, which goes with it to its process.
    for found in (*sampled[0], *sampled[2]):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, sampled[0][0], strict=True))
    assert torch.equal(sampled[0][0][1], 2 * sampled[1][0][1])
    alone = fit_sampled(0, 1, tmp_path, "auto", 4, "sharded-2.ckpt")
    torch.testing.assert_close(alone, sampled[0][0], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(*both) for both in zip(*replicas, strict=True))
    # Resuming is exact where the number of processes is the same.
    assert all(torch.equal(resumed[0][name], straight[0][name]) for name in expected)
