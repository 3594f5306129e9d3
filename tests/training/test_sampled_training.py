"""Heads with sampled classes through Lightning: clipping, accumulation, and a resumed training."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bisector as bs
from bisector.errors import ArgumentError
from bisector.heads import build_head
from bisector.training import Classifier
from lightning_cases import quiet_trainer


def fitted(folder: Path, resume: Path | None = None) -> Classifier:
    torch.manual_seed(0)
    x = torch.randn(96, 8)
    data = DataLoader(TensorDataset(x, torch.arange(96) % 60), batch_size=8)
    head = bs.IGAM(6, 60, information=None, sample=0.3)
    head.set_amounts(torch.linspace(10, 40, 60))
    model = Classifier(nn.Linear(8, 6), head, schedule="constant", seed=3)
    kept = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    options = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2, "enable_checkpointing": True}
    trainer = quiet_trainer(2, kept, **options)
    trainer.fit(model, data, ckpt_path=resume)
    return model


def all_numbers(model: Classifier) -> list[Tensor]:
    optimizer = model.optimizers(use_pl_optimizer=False)
    state = [value for parts in optimizer.state_dict()["state"].values() for value in parts.values()]
    return [*model.parameters(), *state]


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_training_is_bitwise_the_one_that_was_not_cut(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "whole")
    resumed = fitted(tmp_path / "resumed", tmp_path / "whole" / "epoch=0.ckpt")
    for a, b in zip(all_numbers(whole), all_numbers(resumed), strict=True):
        assert torch.equal(a, b)
    steps = whole.optimizers(use_pl_optimizer=False).state[whole.head.weight]["step"]
    assert steps.shape == (60,)
    assert 0 < steps.mean() < 12


def test_sgd_with_weight_decay_is_refused_before_the_first_step() -> None:
    sparse, dense = (bs.AMSoftmax(6, 60, sample=0.3, sparse=sparse) for sparse in (True, False))
    with pytest.raises(ArgumentError, match=r"weight_decay: got 0.01 with optimizer='sgd'.*sparse=False"):
        Classifier(nn.Linear(8, 6), sparse, optimizer="sgd")
    Classifier(nn.Linear(8, 6), sparse, optimizer="sgd", weight_decay=0.0)
    Classifier(nn.Linear(8, 6), dense, optimizer="sgd")


def test_a_spec_can_ask_for_dense_gradients() -> None:
    head = build_head("am-softmax:sample=0.5:sparse=false", 4, 10)
    assert head.sparse is False
    head(torch.randn(2, 4), torch.tensor([0, 1])).backward()
    assert not head.weight.grad.is_sparse
