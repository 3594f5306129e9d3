"""Lightning with sharded classes beside Lightning in one process: training, clipping, checkpoints, resuming."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

import bisector as bs
from bisector.engine.gradients import GradScaler
from bisector.training import Classifier, ShardedDDP
from real_processes import in_processes

D, C, B = 6, 11, 8


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


def fit(
    rank: int, world: int, folder: Path, epochs: int, resumed: str | None = None, mixed: bool = False
) -> Any:
    torch.manual_seed(3)
    backbone = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, D))
    head = bs.AMSoftmax(D, C, learnable_scale=True, device="meta" if mixed else None)
    module = Classifier(backbone, head, schedule="constant", learning_rate=0.02)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=world,
        strategy=ShardedDDP() if world > 1 else "auto",
        max_epochs=epochs,
        gradient_clip_val=0.5,
        use_distributed_sampler=False,
        default_root_dir=folder / f"{world}",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
        if mixed
        else None,
    )
    data = torch.utils.data.DataLoader(Batches(rank, world), batch_size=None)
    path = None if resumed is None else folder / resumed
    trainer.fit(module, data, data if world == 1 else None, ckpt_path=path)
    if not mixed and resumed is None:
        trainer.save_checkpoint(folder / f"{world}-{epochs}.ckpt")
    if mixed:
        assert not any(value.isnan().any() for value in module.state_dict().values())
        assert type(trainer.precision_plugin.scaler) is GradScaler
    return {
        n: p.full_tensor() if hasattr(p, "full_tensor") else p.clone() for n, p in module.state_dict().items()
    }


@pytest.mark.slow
def test_lightning_trains_saves_and_resumes_as_one_process(tmp_path: Path) -> None:
    expected = fit(0, 1, tmp_path, 4)
    fit(0, 1, tmp_path, 2)
    halves, resumed, of_one, straight, _ = in_processes(
        tmp_path,
        (2, fit, tmp_path, 2),
        (2, fit, tmp_path, 4, "2-2.ckpt"),
        (2, fit, tmp_path, 4, "1-2.ckpt"),
        (2, fit, tmp_path, 4),
        (2, fit, tmp_path, 1, None, True),
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
    # Resuming is exact where the number of processes is the same.
    assert all(torch.equal(resumed[0][name], straight[0][name]) for name in expected)
