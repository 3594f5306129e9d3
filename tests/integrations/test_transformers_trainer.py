from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

import bisector as bs
from bisector.errors import ArgumentError
from bisector.integrations.transformers import HeadCallback, ImageClassifier


def rows(number: int) -> list[dict[str, Any]]:
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels[:number] / 16).float().view(-1, 1, 8, 8)
    return [{"pixel_values": x, "labels": int(y)} for x, y in zip(images, labels[:number], strict=True)]


def resnet(head: str, seed: int = 0) -> ImageClassifier:
    torch.manual_seed(seed)
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[8], depths=[1], layer_type="basic")
    return ImageClassifier(ResNetModel(config), bs.heads.build_head(head, 8, 10))


@pytest.mark.parametrize("head", ["adaface", "igam", "seesaw", "am-softmax"])
def test_the_trainer_does_what_a_plain_loop_does(head: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    batches: list[dict[str, torch.Tensor]] = []

    def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = torch.stack([example["pixel_values"] for example in examples])
        batches.append({"pixel_values": images, "labels": torch.tensor([one["labels"] for one in examples])})
        return dict(batches[-1])

    model = resnet(head)
    arguments = TrainingArguments(
        str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=32,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=3,
    )
    trainer = Trainer(
        model, arguments, train_dataset=rows(96), data_collator=collate, callbacks=[HeadCallback()]
    )
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    plain = resnet(head).train()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.0)
    losses = []
    assert len(batches) == 6
    for step, batch in enumerate(batches):
        embeddings = plain.encoder(pixel_values=batch["pixel_values"]).pooler_output.flatten(1)
        loss = plain.head(embeddings, batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if head != "am-softmax":
            plain.head.observe(embeddings.detach(), batch["labels"])
        if head == "igam" and step in {2, 5}:
            plain.head.refresh()
    assert logged == pytest.approx(losses, abs=1e-3)
    assert losses[5] < losses[0]
    theirs = model.state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-6)
    if head == "igam":
        assert plain.head.guide.largest() > 0


def test_every_accumulated_batch_is_observed(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    model = resnet("seesaw")
    Trainer(model, arguments, train_dataset=rows(80), callbacks=[HeadCallback()]).train()
    labels = torch.tensor([row["labels"] for row in rows(80)])
    assert model.head.seen.tolist() == (2 * torch.bincount(labels, minlength=10)).tolist()


def test_embeddings_are_pooled_or_the_first_token() -> None:
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_channels=1,
    )
    images = torch.rand(3, 1, 8, 8)
    for pools in (True, False):
        encoder = ViTModel(config, add_pooling_layer=pools).eval()
        model = ImageClassifier(encoder, bs.LogitAdjusted(16, 4, class_counts=[4, 3, 2, 1])).eval()
        output = encoder(pixel_values=images)
        expected = output.pooler_output if pools else output.last_hidden_state[:, 0]
        torch.testing.assert_close(model(images)["logits"], model.head.logits(expected))


def test_what_is_no_head_is_named() -> None:
    with pytest.raises(ArgumentError, match="head: got Linear; expected a head of bisector"):
        ImageClassifier(torch.nn.Identity(), torch.nn.Linear(2, 2))
