"""`HeadLoss` in sentence-transformers' own trainer, on a small model made here."""

from pathlib import Path

import datasets
import pytest
import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import bisector as bs
from bisector.errors import ArgumentError
from bisector.integrations.sentence_transformers import HeadLoss

WORDS = ["red", "green", "blue", "cat", "dog", "cow"]
TEXTS = [f"{color} {animal}" for color in WORDS[:3] for animal in WORDS[3:]]
LABELS = [WORDS[3:].index(text.split()[1]) for text in TEXTS]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    names = {word: place for place, word in enumerate([*special.values(), *WORDS])}
    words = Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    BertModel(BertConfig(vocab_size=len(names), **small, **none)).save_pretrained(folder)
    return folder


def model_and_head(stored: Path) -> tuple[SentenceTransformer, bs.ArcFace]:
    model = SentenceTransformer(modules=[Transformer(str(stored)), Pooling(16)], device="cpu")
    torch.manual_seed(1)
    return model, bs.ArcFace(16, 3, scale=8, margin=0.3, warmup=10)


@pytest.mark.slow
def test_the_trainer_does_what_a_plain_loop_does(stored: Path, tmp_path: Path) -> None:
    model, head = model_and_head(stored)
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path),
        num_train_epochs=20,
        per_device_train_batch_size=len(TEXTS),  # a batch an epoch: its order changes no loss
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    rows = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=rows, loss=HeadLoss(model, head))
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    plain, other = model_and_head(stored)
    plain.train()
    optimizer = torch.optim.AdamW([*plain.parameters(), *other.parameters()], lr=1e-2, weight_decay=0.0)
    losses, labels = [], torch.tensor(LABELS)
    for _ in range(20):
        embeddings = plain(plain.preprocess(TEXTS))["sentence_embedding"]
        loss = other(embeddings, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        other.observe(embeddings.detach(), labels)
        losses.append(float(loss.detach()))
    assert logged == pytest.approx(losses, abs=2e-3)
    assert losses[-1] < losses[0] / 2
    assert int(head.steps) == 20
    torch.testing.assert_close(head.weight, other.weight, rtol=1e-3, atol=1e-4)
    found = head.predict(model.encode(TEXTS, convert_to_tensor=True))
    assert found.tolist() == LABELS


def test_what_does_not_fit_is_told(stored: Path) -> None:
    model, head = model_and_head(stored)
    with pytest.raises(ArgumentError, match="head: got Linear; expected a head of bisector"):
        HeadLoss(model, torch.nn.Linear(16, 3))
    with pytest.raises(ArgumentError, match="head: got in_features=8; expected 16, the model's"):
        HeadLoss(model, bs.ArcFace(8, 3))
    features = model.preprocess(TEXTS)
    with pytest.raises(
        ArgumentError, match="train_dataset: got 2 columns of texts; expected one, and labels"
    ):
        HeadLoss(model, head)([features, features], torch.tensor(LABELS))
