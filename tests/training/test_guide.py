from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bisector.errors import ArgumentError
from bisector.heads import IGAM, AMSoftmax, Head
from bisector.training import Classifier, InformationGuide
from lightning_cases import quiet_trainer as trainer


def loader(rows: int = 96) -> DataLoader[tuple[Tensor, ...]]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 3
    spread = torch.tensor([0.2, 0.5, 1.0])[labels, None]
    inputs = nn.functional.one_hot(labels, 6).float() * 4 + spread * torch.randn(rows, 6, generator=draw)
    return DataLoader(TensorDataset(inputs, labels), batch_size=32)


def classifier(head: Head) -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Linear(6, head.in_features), head, learning_rate=0.03)


def test_margins_follow_the_amounts_epoch_by_epoch() -> None:
    model, guide = classifier(IGAM(4, 3)), InformationGuide()
    run = trainer(3, guide)
    run.fit(model, loader())
    assert len(guide.history) == 3
    assert all(bool((info.count == 32).all()) for info in guide.history)
    assert isinstance(model.head, IGAM)
    assert model.head.amounts is not None
    assert torch.equal(model.head.amounts, guide.history[-1].amount)
    logged = run.callback_metrics
    assert float(logged["information/max"]) == pytest.approx(float(guide.history[-1].amount.max()))
    assert model.head.guide is not None
    assert float(logged["information/margin"]) == pytest.approx(float(model.head.guide.largest()))
    assert float(logged["information/margin"]) > 0.1  # the classes differ in spread


def test_every_second_epoch_counts_the_instances_of_two() -> None:
    model, guide = classifier(IGAM(4, 3)), InformationGuide(every_n_epochs=2)
    trainer(4, guide).fit(model, loader())
    assert [int(info.count.sum()) for info in guide.history] == [192, 192]


def test_a_checkpoint_carries_amounts_and_half_an_epoch_of_the_meter(tmp_path: Path) -> None:
    model, guide = classifier(IGAM(4, 3)), InformationGuide()
    run = trainer(1, guide, enable_checkpointing=True, default_root_dir=tmp_path)
    run.fit(model, loader())
    assert isinstance(model.head, IGAM)
    x, y = torch.randn(12, 4), torch.arange(12) % 3
    model.head.observe(x, y)  # in the middle of the next epoch
    run.save_checkpoint(tmp_path / "half.ckpt")

    stored = torch.load(tmp_path / "half.ckpt", weights_only=True)
    other = classifier(IGAM(4, 3))
    assert isinstance(other.head, IGAM)
    other.load_state_dict(stored["state_dict"])
    assert other.head.information is not None
    other.head.information.load_state_dict(stored["meters"]["head"])
    assert other.head.amounts is not None
    assert torch.equal(other.head.amounts, model.head.amounts)  # type: ignore[arg-type]
    assert torch.equal(other.head(x, y), model.head(x, y))
    assert torch.equal(other.head.refresh().amount, model.head.refresh().amount)


def test_a_head_that_is_no_igam_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"AMSoftmax as \.head of the module; expected an IGAM"):
        trainer(1, InformationGuide()).fit(classifier(AMSoftmax(4, 3)), loader())
    with pytest.raises(ArgumentError, match=r"no attribute \.classifier of the module; expected an IGAM"):
        trainer(1, InformationGuide(head="classifier")).fit(classifier(IGAM(4, 3)), loader())
    with pytest.raises(ArgumentError, match="information: got None; expected a meter"):
        trainer(1, InformationGuide()).fit(classifier(IGAM(4, 3, information=None)), loader())


def test_an_igam_that_nobody_feeds_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="no InformationGuide is among the Trainer's callbacks"):
        trainer(1).fit(classifier(IGAM(4, 3)), loader())


unwrapped = classifier


def compiled(head: Head) -> Any:
    return torch.compile(head, backend="eager")


@pytest.mark.parametrize(("every", "wrap"), [(3, None), (6, None), (3, compiled)])
def test_a_resumed_training_refreshes_as_an_uninterrupted_one(tmp_path: Path, every: int, wrap: Any) -> None:
    # 3 steps an epoch: the checkpoint is taken on an epoch's last step, before its end and its refresh.
    def classifier(head: Head) -> Classifier:
        return unwrapped(head if wrap is None else wrap(head))

    whole = classifier(IGAM(4, 3))
    saved = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=every, save_top_k=-1)
    trainer(3, InformationGuide(), saved, enable_checkpointing=True).fit(whole, loader())
    first = min(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    resumed = classifier(IGAM(4, 3))
    trainer(3, InformationGuide()).fit(resumed, loader(), ckpt_path=first)
    assert torch.equal(whole.head.weight, resumed.head.weight)
    assert torch.equal(whole.head.amounts, resumed.head.amounts)  # type: ignore[arg-type]


def test_a_module_that_returns_no_embeddings_is_told_what_to_return() -> None:
    class LossOnly(Classifier):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx)["loss"]

    model = LossOnly(nn.Linear(6, 4), IGAM(4, 3))
    with pytest.raises(ArgumentError, match="'loss', 'embeddings', 'labels'"):
        trainer(1, InformationGuide()).fit(model, loader())


def test_the_head_is_trained_and_validation_is_logged() -> None:
    model = classifier(IGAM(4, 3))
    before = model.head.weight.detach().clone()
    run = trainer(20, InformationGuide())
    run.fit(model, loader(), loader())
    assert not torch.equal(before, model.head.weight)
    assert float(run.callback_metrics["val/accuracy"]) > 0.8
