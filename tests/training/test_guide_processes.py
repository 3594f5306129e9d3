"""InformationGuide in several real processes under Lightning, beside Lightning in one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

import bisector as bs
from bisector.data.dataset import Dataset, Part
from bisector.data.examples import InMemory
from bisector.training import Classifier, InformationGuide
from bisector.training.data import DataModule
from lightning_cases import quiet_trainer
from real_processes import in_processes

D, C, ROWS, JOINT = 4, 3, 48, 12  # 4 joint batches an epoch
EPOCHS, HALF = 3, 6  # a checkpoint in the middle of the second epoch


def data(world: int) -> DataModule:
    """The same joint batches whatever the number of processes, each with its part."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS) % C
    spread = torch.tensor([0.2, 0.5, 1.0])[labels, None]
    inputs = nn.functional.one_hot(labels, 6) * 4 + spread * torch.randn(ROWS, 6, generator=draw)
    part = Part(InMemory(inputs.float()), labels)
    dataset = Dataset("rows", part, part, part, ("a", "b", "c"))
    return DataModule(dataset, JOINT // world, seed=0, augmentation="none")


def fit(
    rank: int, world: int, folder: Path, epochs: int = EPOCHS, resumed: str | None = None
) -> dict[str, Any]:
    torch.manual_seed(3)
    head = bs.IGAM(D, C, information={"forgetting": 0.5})
    module = Classifier(nn.Linear(6, D), head, schedule="constant", learning_rate=0.03)
    guide = InformationGuide()
    saved = ModelCheckpoint(folder / f"{world}", "{step}", every_n_train_steps=HALF, save_top_k=-1)
    trainer = quiet_trainer(
        epochs,
        *([guide, saved] if resumed is None else [guide]),
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        precision="64-true",
        limit_val_batches=0,
        default_root_dir=folder,
        enable_checkpointing=resumed is None,
    )
    batches = data(world)
    trainer.fit(module, datamodule=batches, ckpt_path=None if resumed is None else folder / resumed)
    found = {
        "history": [(info.count, info.amount, info.drift) for info in guide.history],
        "margins": head.guide.matrix(),
        "weight": head.weight.detach().clone(),
        "kept": head.information.counts,
    }
    if resumed is None:  # a training that is gone on with in the same processes neither doubles nor loses
        trainer.fit_loop.max_epochs = epochs + 1
        trainer.fit(module, datamodule=batches)
        found["after"] = guide.history[-1].count
    return found


def alike(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7, equal_nan=True)


@pytest.mark.slow
def test_two_epochs_and_a_resumed_one_are_those_of_one_process(tmp_path: Path) -> None:
    one = fit(0, 1, tmp_path)
    straight, *resumed = in_processes(
        tmp_path,
        (2, fit, tmp_path),
        (2, fit, tmp_path, EPOCHS, f"2/step={HALF}.ckpt"),
        (3, fit, tmp_path, EPOCHS, f"2/step={HALF}.ckpt"),
        (2, fit, tmp_path, EPOCHS, f"1/step={HALF}.ckpt"),
    )
    alone = fit(0, 1, tmp_path, EPOCHS, f"2/step={HALF}.ckpt")
    for ranks in (straight, *resumed, [alone]):
        for rank in ranks:
            assert len(rank["history"]) == EPOCHS
            assert torch.equal(rank["margins"], ranks[0]["margins"])
            close(rank["margins"], one["margins"])
            close(rank["weight"], one["weight"])
            for mine, first, expected in zip(
                rank["history"], ranks[0]["history"], one["history"], strict=True
            ):
                assert all(alike(a, b) for a, b in zip(mine, first, strict=True))
                for values, theirs in zip(mine, expected, strict=True):
                    close(values, theirs)
        close(ranks[0]["kept"], one["kept"])  # after the training, all with the first
        assert not any(rank["kept"].any() for rank in ranks[1:])
    assert [int(count.sum()) for count, *_ in one["history"]] == [48, 72, 84]
    assert (
        [float(rank["after"].sum()) for rank in straight] == [90.0, 90.0] == [float(one["after"].sum())] * 2
    )
