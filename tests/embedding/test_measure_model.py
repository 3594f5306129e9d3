"""A model from Python is measured as its stored table is, and left as it was."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bisector as bs
from bisector.cli.main import main
from bisector.data.tables import read_embeddings
from bisector.errors import ArgumentError
from bisector.measurement.measurement import Measurement
from bisector.report.measurement_files import write_measurement

WORKBENCH = Path(__file__).parents[2] / "docs" / "workbench.md"


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.backbone(x))
        return found


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x[:600] / 16, dtype=torch.float32), torch.tensor(y[:600])


@pytest.fixture
def trained(digits: tuple[Tensor, Tensor]) -> Network:
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(digits[0]), digits[1]).backward()
        optimizer.step()
    network.backbone[1].eval()  # as who fine-tunes freezes it
    return network


def loader(x: Tensor, y: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), batch_size=77)


def test_the_record_is_that_of_the_stored_table_and_the_model_stays_as_it_was(
    digits: tuple[Tensor, Tensor], trained: Network, tmp_path: Path
) -> None:
    x, y = digits
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    modes = [module.training for module in trained.modules()]
    parts = {"train": loader(x[:400], y[:400]), "test": loader(x[400:], y[400:])}
    found = bs.measure_model(trained, parts, table=tmp_path / "e.parquet")
    assert [module.training for module in trained.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert not any(module._forward_pre_hooks for module in trained.modules())
    assert all(p.grad is None or not p.grad.isnan().any() for p in trained.parameters())

    table = read_embeddings(tmp_path / "e.parquet")
    with torch.no_grad():
        vectors = trained.eval().backbone(x)
    torch.testing.assert_close(table.embeddings, vectors)
    assert table.scores is not None
    torch.testing.assert_close(table.scores, trained(x).detach())
    assert table.splits == ["train"] * 400 + ["test"] * 200
    right = balanced_accuracy_score(y[400:], trained(x[400:]).argmax(1))
    assert found.balanced_accuracy == pytest.approx(right)

    assert main(["measure", str(tmp_path / "e.parquet"), "--out", str(tmp_path / "m")]) == 0
    stored = Measurement.read(tmp_path / "m" / "measure.json")
    write_measurement(found, tmp_path / "own")
    own = Measurement.read(tmp_path / "own" / "measure.json")
    assert (tmp_path / "own" / "measure.html").is_file()

    note = "Embeddings are what 'fc' is given, the last nn.Linear that gives 10 numbers, one a class."
    assert own.notes == [*stored.notes, note]

    def bare(of: Measurement) -> Measurement:
        return replace(of, command="", steps=[], notes=[])

    assert repr(bare(own)) == repr(bare(stored))  # repr: NaN is NaN


class Keywords(nn.Module):
    """A model as those of transformers: keywords in, a dictionary out."""

    class config:  # noqa: N801
        id2label: Mapping[int, str] = {0: "cat", 1: "dog", 2: "owl"}

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1)

    def forward(self, pixel_values: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        pooled = self.pool(pixel_values) * scale
        return {"hidden": pixel_values.flatten(1), "logits": self.classifier(pooled).flatten(1)}


def test_dictionaries_another_layer_and_rows_that_cannot_be_used() -> None:
    images, labels = torch.rand(60, 3, 4, 4), torch.arange(60) % 3
    images[7, 0, 0, 0], labels[3], labels[4] = torch.nan, -100, -1
    batches = [
        {"pixel_values": images[k : k + 20], "scale": 2.0, "labels": labels[k : k + 20]} for k in (0, 20, 40)
    ]
    found = bs.measure_model(Keywords(), batches, layer="classifier")
    assert [one.name for one in found.classes] == ["cat", "dog", "owl"]
    assert (found.rows, found.dimensions) == (57, 3)
    assert found.left_out == ["2 rows: without a label", "1 row: its vector is not finite"]
    assert any("The table was not stored" in note for note in found.notes)


def network(**changes: nn.Module) -> nn.Module:
    model = Network()
    for name, module in changes.items():
        setattr(model, name, module)
    return model


@pytest.mark.parametrize(
    ("model", "batch", "options", "words"),
    [
        (network(), (torch.rand(4, 64), torch.rand(4)), {}, r"labels of shape \(4,\) and type torch.float32"),
        (network(), (torch.rand(4, 64), torch.ones(4, 10).long()), {}, r"expected \(B,\) whole numbers"),
        (
            network(),
            (torch.rand(4, 64), torch.tensor([0, 1, 2, 10])),
            {},
            "label .10.; expected classes from 0 to 9",
        ),
        (network(), torch.rand(4, 64), {}, "a batch that is a Tensor"),
        (network(), {"x": torch.rand(4, 64)}, {}, "a batch with the keys 'x'"),
        (network(), (torch.rand(4, 64), -torch.ones(4).long()), {}, "no row that has a label"),
        (network(), None, {}, "no row that has a label"),
        (
            network(),
            (torch.rand(4, 64), torch.arange(4)),
            {"layer": "head"},
            "layer: got 'head'.*such as.* fc",
        ),
        (
            network(),
            (torch.rand(4, 64), torch.arange(4)),
            {"class_names": ["a", "b"]},
            "10 scores; expected 2",
        ),
        (network(), (torch.rand(4, 64), torch.arange(4)), {"class_names": ["a"] * 10}, "'a'. twice"),
        (network(), (torch.rand(4, 64), torch.arange(4)), {"table": "e.csv"}, "ends in .parquet"),
        (
            network(fc=nn.Identity(), backbone=nn.Identity()),
            (torch.rand(4, 64), torch.arange(4)),
            {},
            "called no nn.Linear",
        ),
        (
            network(fc=nn.Linear(16, 1)),
            (torch.rand(4, 64), torch.arange(4) % 2),
            {},
            r"\(4, 1\).*two classes or",
        ),
        (
            network(fc=nn.Flatten(0)),
            (torch.rand(4, 64), torch.arange(4)),
            {"layer": "fc"},
            r"an output that is \(64,\)",
        ),
        (
            nn.Sequential(nn.Linear(8, 3), nn.Flatten()),
            (torch.rand(4, 5, 8), torch.arange(4)),
            {},
            r"the last nn.Linear, whose input is \(4, 5, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_said(model: nn.Module, batch: Any, options: dict[str, Any], words: str) -> None:
    modes = [module.training for module in model.modules()]
    with pytest.raises(ArgumentError, match=words):
        bs.measure_model(model, [] if batch is None else [batch], **options)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_parts_have_known_names() -> None:
    with pytest.raises(ArgumentError, match="expected some of train, validation, test"):
        bs.measure_model(Network(), {"train": [], "fold 1": []})


def test_the_example_of_the_workbench_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = WORKBENCH.read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["found"].balanced_accuracy > 0.5
    assert Path("runs/digits/measure.html").is_file()
    assert len(read_embeddings("digits.parquet")) == 1797


class Branching(nn.Module):
    """A trained network that returns what is asked for, with a branch whose layers run after the classifier."""

    def __init__(self, trained: Network, form: str) -> None:
        super().__init__()
        self.trained, self.form = trained, form
        self.project, self.five, self.twelve = nn.Linear(16, 8), nn.Linear(16, 5), nn.Linear(5, 12)

    def forward(self, x: Tensor) -> Any:
        vectors = self.trained.backbone(x)
        scores = self.trained.fc(vectors)
        self.twelve(self.five(vectors))
        forms = {
            "features": (vectors, scores),
            "branch": scores.softmax(1),
            "alike": (scores, self.project(vectors)),
        }
        return forms[self.form]


@pytest.mark.parametrize("form", ["features", "branch"])
def test_scores_and_embeddings_are_those_of_the_classifier_beside_features_and_a_later_branch(
    digits: tuple[Tensor, Tensor], trained: Network, form: str, tmp_path: Path
) -> None:
    x, y = (values[:150] for values in digits)
    found = bs.measure_model(Branching(trained, form), loader(x, y), table=tmp_path / "e.parquet")
    table = read_embeddings(tmp_path / "e.parquet")
    with torch.no_grad():
        vectors = trained.eval().backbone(x)
        torch.testing.assert_close(table.embeddings, vectors)
        assert table.scores is not None
        logits = trained.fc(vectors)
        expected = logits.log_softmax(1) if form == "branch" else logits  # of probabilities the logarithm
        torch.testing.assert_close(table.scores, expected, atol=1e-4, rtol=1e-4)
        assert table.losses is not None
        losses = nn.functional.cross_entropy(logits, y, reduction="none")
        torch.testing.assert_close(table.losses, losses, atol=1e-4, rtol=1e-4)
    assert any("The scores are probabilities" in note for note in found.notes) == (form == "branch")
    (note,) = [note for note in found.notes if "'trained.fc'" in note]
    assert ("Scores are the output '1' of '0', '1'." in note) == (form == "features")


def test_two_outputs_that_may_be_the_scores_need_a_layer(
    digits: tuple[Tensor, Tensor], trained: Network
) -> None:
    model, data = Branching(trained, "alike"), loader(digits[0][:150], digits[1][:150])
    with pytest.raises(ArgumentError, match=r"'0' \(10 wide\), '1' \(8 wide\); expected one .* layer="):
        bs.measure_model(model, data)
    found = bs.measure_model(model, data, layer="trained.fc")
    assert (len(found.classes), found.dimensions) == (10, 16)
