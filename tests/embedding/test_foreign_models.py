"""TorchScript files, folders of transformers and ONNX files without names, from real files of these libraries."""

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from bisector.cli.main import main
from bisector.data.dataset import Dataset, Part
from bisector.data.examples import InMemory
from bisector.data.tables import EmbeddingTable, read_embeddings
from bisector.embedding.embed import embed
from bisector.embedding.kinds import MODELS
from bisector.embedding.model import open_model
from bisector.errors import ArgumentError

CPU = torch.device("cpu")


def dataset(*shape: int) -> Dataset:
    values, labels = torch.rand(12, *shape), torch.arange(12) % 3
    part = Part(InMemory(values, [str(row) for row in range(12)]), labels)
    none = Part(InMemory(values[:0], []), labels[:0])
    return Dataset("three", part, none, none, ("a", "b", "c"))


class Network(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.backbone, self.fc = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Dropout()), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Any:
        vectors = self.backbone(x)
        scores = self.fc(vectors)
        forms = {
            "scores": scores,
            "vectors": vectors,
            "tuple": (scores, vectors),
            "dict": {"logits": scores, "image": x, "embedding": vectors},
            "pooled": (vectors[:, :, None, None], scores),
            "alike": (scores, scores * 2),
            "two": {"a": vectors, "b": vectors * 2, "c": scores},
            "doubled": {"embedding": vectors, "first": scores, "second": scores * 2},
            "said": {"embedding": vectors, "probs": scores.softmax(1), "logits": scores, "wide": scores},
            "unsure": {"embedding": vectors, "confidence": scores.amax(1, keepdim=True), "kinds": scores},
            "image": x,
        }
        return forms[self.form]


def script(path: Path, form: str) -> Network:
    network = Network(form).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, torch.rand(2, 3, 2, 2), strict=False), str(path))
    return network


def exported(path: Path, form: str) -> Network:
    network, example = Network(form).eval(), torch.rand(2, 3, 2, 2)
    given = network(example)
    names = list(given) if isinstance(given, dict) else list(map(str, range(len(given))))
    axes = {name: {0: "n"} for name in ["x", *names]}
    torch.onnx.export(
        network, (example,), path, dynamo=False, input_names=["x"], output_names=names, dynamic_axes=axes
    )
    return network


def embedded(model: Path, data: Dataset, **options: Any) -> EmbeddingTable:
    embed(open_model(str(model), device=CPU, **options), data, model.parent / "e.parquet", batch_size=5)
    return read_embeddings(model.parent / "e.parquet")


@pytest.mark.parametrize("form", ["tuple", "dict", "pooled", "vectors"])
def test_torchscript_gives_what_the_network_gives(tmp_path: Path, form: str) -> None:
    network, data = script(tmp_path / "m.pt", form), dataset(3, 2, 2)
    found = embedded(tmp_path / "m.pt", data)
    images = data.train.examples.batch(torch.arange(12))
    with torch.no_grad():
        vectors = network.backbone(images)
    torch.testing.assert_close(found.embeddings, vectors)
    if form == "vectors":
        assert found.scores is None
    else:
        assert found.scores is not None
        torch.testing.assert_close(found.scores, network.fc(vectors).detach())
    with torch.no_grad():
        moved = embedded(tmp_path / "m.pt", data, mean=[0.1, 0.2, 0.3], std=[0.5])
        shift = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
        torch.testing.assert_close(moved.embeddings, network.backbone((images - shift) / 0.5))


def test_scores_alone_are_measured_as_predictions_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch.jit.save(torch.jit.trace(network, torch.rand(2, 1, 8, 8)), "m.ts")
    assert main(["embed", "m.ts", "digits", "--part", "test", "--device", "cpu"]) == 0
    assert main(["measure", "embeddings.parquet", "--out", "m"]) == 0
    assert "540 rows without embeddings, 10 classes" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
@pytest.mark.parametrize(
    ("form", "told", "asked"),
    [
        ("two", r"embedding_output: got none .* 'a' .5 wide., 'b' .5", {"embedding_output": "b"}),
        ("doubled", r"scores_output: got none .* 'first' .3 wide., 'second' .3", {"scores_output": "second"}),
        ("said", None, {}),
        ("unsure", None, {}),
    ],
)  # fmt: skip
def test_of_several_outputs_that_may_be_meant_none_is_guessed(
    tmp_path: Path, suffix: str, form: str, told: str | None, asked: dict[str, str]
) -> None:
    path, data = tmp_path / f"m{suffix}", dataset(3, 2, 2)
    network = script(path, form) if suffix == ".pt" else exported(path, form)
    if told is not None:
        with pytest.raises(ArgumentError, match=told) as caught:
            embedded(path, data)
        assert f"--{next(iter(asked)).replace('_', '-')}" in str(caught.value)
    found = embedded(path, data, **asked)
    images = data.train.examples.batch(torch.arange(12))
    with torch.no_grad():
        vectors = network.backbone(images)
    scores = network.fc(vectors).detach()
    torch.testing.assert_close(found.embeddings, 2 * vectors if form == "two" else vectors)
    assert found.scores is not None
    torch.testing.assert_close(found.scores, 2 * scores if form == "doubled" else scores)


def test_an_output_may_be_asked_for(tmp_path: Path) -> None:
    network, data = script(tmp_path / "m.pt", "alike"), dataset(3, 2, 2)
    told = r"scores_output: got none .* meant, '0' \(3 wide\), '1' \(3 wide\); .* --scores-output"
    with pytest.raises(ArgumentError, match=told):
        embedded(tmp_path / "m.pt", data)
    found = embedded(tmp_path / "m.pt", data, embedding_output="0", scores_output="1")
    assert found.scores is not None
    torch.testing.assert_close(found.scores, 2 * found.embeddings)
    del network


@pytest.mark.parametrize(
    ("write", "options", "words"),
    [
        (
            lambda path: torch.save({"fc.weight": torch.ones(2)}, path),
            {},
            "weights alone are given with timm/NAME",
        ),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut"), {}, "m.pt cannot be read as TorchScript"),
        (lambda path: path.write_bytes(b""), {}, "m.pt cannot be read as TorchScript"),
        (lambda path: script(path, "image"), {}, r"which returns shape \(5, 3, 2, 2\)"),
        (
            lambda path: script(path, "tuple"),
            {"embedding_output": "2"},
            "embedding_output: got '2'; expected one of 0",
        ),
        (lambda path: script(path, "tuple"), {"mean": [0.1, 0.2]}, "mean: got 2 numbers"),
        (lambda path: script(path, "tuple"), {"std": [0.0]}, "numbers above 0"),
        (lambda path: script(path, "tuple"), {"weights": Path("w")}, "weights: got w"),
    ],
)
def test_a_torchscript_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, write: Callable[[Path], object], options: dict[str, Any], words: str
) -> None:
    write(tmp_path / "m.pt")
    with pytest.raises(ArgumentError, match=words):
        embedded(tmp_path / "m.pt", dataset(3, 2, 2), **options)


def test_examples_of_another_shape_are_refused(tmp_path: Path) -> None:
    script(tmp_path / "m.pt", "tuple")
    with pytest.raises(ArgumentError, match=r"does not take examples of shape \(3, 4, 4\)"):
        embedded(tmp_path / "m.pt", dataset(3, 4, 4))


def vit(folder: Path, *, names: bool = True, classifies: bool = True) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    config.num_labels = 3
    if names:
        config.id2label = {0: "b", 1: "c", 2: "a"}
    kind = transformers.ViTForImageClassification if classifies else transformers.ViTModel
    model = kind(config).eval()
    model.save_pretrained(folder)
    if names:
        processor = transformers.ViTImageProcessor(
            size={"height": 8, "width": 8}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.2, 0.1]
        )
        processor.save_pretrained(folder)
    return model


def test_a_classifier_of_transformers_gives_scores_by_name_and_pooled_features(tmp_path: Path) -> None:
    model, data = vit(tmp_path / "vit"), dataset(3, 8, 8)
    found = embedded(tmp_path / "vit", data)
    images = data.train.examples.batch(torch.arange(12))
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.5, 0.4, 0.3], [0.2, 0.2, 0.1]))
    with torch.no_grad():
        output = model((images - mean) / std, output_hidden_states=True)
        pooled = model.vit((images - mean) / std).last_hidden_state[:, 0]
    torch.testing.assert_close(found.embeddings, pooled)
    assert found.scores is not None
    torch.testing.assert_close(found.scores, output.logits[:, [2, 0, 1]])  # of a, b, c


def test_an_encoder_of_transformers_gives_its_pooled_output(tmp_path: Path) -> None:
    model, data = vit(tmp_path / "vit", names=False, classifies=False), dataset(3, 8, 8)
    source = open_model(str(tmp_path / "vit"), device=CPU)
    assert "without preprocessor_config.json" in source.notes[0]
    images = data.train.examples.batch(torch.arange(12))
    vectors, scores = source.embed(images)
    with torch.no_grad():
        torch.testing.assert_close(vectors, model(images).pooler_output)
    assert scores is None


def test_a_resnet_of_transformers_without_names_takes_the_order_of_the_data(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[6], depths=[1], layer_type="basic", num_labels=3
    )
    model = transformers.ResNetForImageClassification(config).eval()
    model.save_pretrained(tmp_path / "resnet")
    data = dataset(3, 32, 32)
    found = embedded(tmp_path / "resnet", data)
    with torch.no_grad():
        images = data.train.examples.batch(torch.arange(12))
        torch.testing.assert_close(found.embeddings, model.resnet(images).pooler_output.flatten(1))
        assert found.scores is not None
        torch.testing.assert_close(found.scores, model(images).logits)


def without_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    del held["classifier.bias"]
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read as a model of transformers"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "cannot be read as a model of"),
        (
            lambda folder: (folder / "config.json").write_text("{}"),
            "cannot be read as a model of transformers",
        ),
        (without_a_weight, "without the weights classifier.bias"),
    ],
)
def test_a_folder_of_transformers_that_is_not_whole_is_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    vit(tmp_path / "vit")
    spoil(tmp_path / "vit")
    with pytest.raises(ArgumentError, match=words):
        open_model(str(tmp_path / "vit"), device=CPU)


def test_outputs_of_onnx_without_names_are_told_by_the_classes_of_the_data(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.fc = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            vectors = self.first(x)
            return vectors, self.fc(vectors)

    network, data = Two().eval(), dataset(6)
    torch.onnx.export(
        network, (torch.rand(2, 6),), tmp_path / "m.onnx", dynamo=False, output_names=["u", "v"],
        input_names=["x"], dynamic_axes={"x": {0: "n"}, "u": {0: "n"}, "v": {0: "n"}},
    )  # fmt: skip
    found = embedded(tmp_path / "m.onnx", data)
    vectors = network.first(data.train.examples.batch(torch.arange(12))).detach()
    torch.testing.assert_close(found.embeddings, vectors)
    assert found.scores is not None
    torch.testing.assert_close(found.scores, network.fc(vectors).detach())


def test_a_config_that_is_no_json_is_one_line(tmp_path: Path, refused: Callable[[list[str]], str]) -> None:
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps({"model_type": "no-such"}))
    said = refused(["embed", str(tmp_path / "vit"), "digits"])
    assert "cannot be read as a model of transformers" in said


def test_code_in_a_folder_of_transformers_is_not_run_whoever_says_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[list[str]], str]
) -> None:
    pytest.importorskip("transformers")
    folder, left = tmp_path / "own", tmp_path / "left"
    folder.mkdir()
    config = {"model_type": "own", "auto_map": {"AutoConfig": "code.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(
        f"open({str(left)!r}, 'w').close()\nfrom transformers import PreTrainedConfig\n\n\n"
        "class OwnConfig(PreTrainedConfig):\n    model_type = 'own'\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    assert "contains custom code" in refused(["embed", str(folder), "digits", "--device", "cpu"])
    assert not left.exists()


def test_the_help_and_the_refusal_say_the_same_of_what_a_model_may_be(
    refused: Callable[[list[str]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert MODELS in refused(["embed", "no-such-model", "digits"])
    with pytest.raises(SystemExit):
        main(["embed", "--help"])
    assert "".join(MODELS.split()) in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("MobileViT", {"size": {"shortest_edge": 12}, "crop_size": {"height": 8, "width": 8}}),  # BGR
        (
            "EfficientNet",
            {"size": {"height": 8, "width": 8}, "rescale_factor": 1 / 127.5, "rescale_offset": True},
        ),
        ("CLIP", {"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}}),
    ],
)
def test_images_are_prepared_as_transformers_prepares_them(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    transformers = pytest.importorskip("transformers")
    model = vit(tmp_path / "vit")
    getattr(transformers, f"{kind}ImageProcessor")(**settings).save_pretrained(tmp_path / "vit")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 18, 24, 3), dtype=np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "vit")
    given = processor(images=[Image.fromarray(one) for one in pixels], return_tensors="pt")
    with torch.no_grad():
        logits = model(**given).logits
    source = open_model(str(tmp_path / "vit"), device=CPU)
    _, scores = source.embed(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    assert scores is not None
    torch.testing.assert_close(scores, logits)
    side = settings["size"].get("shortest_edge", 8)
    assert source.input_size == (side, side)


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_probabilities_have_the_losses_of_their_logits(tmp_path: Path, suffix: str) -> None:
    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.fc = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            vectors = self.first(x)
            return vectors, self.fc(30 * vectors).softmax(1)

    network, data, told = Shares().eval(), dataset(6), []
    path, example = tmp_path / f"m{suffix}", torch.rand(2, 6)
    if suffix == ".pt":
        torch.jit.save(torch.jit.trace(network, example), str(path))
    else:
        torch.onnx.export(
            network, (example,), path, dynamo=False, output_names=["u", "v"], input_names=["x"],
            dynamic_axes={"x": {0: "n"}, "u": {0: "n"}, "v": {0: "n"}},
        )  # fmt: skip
    embed(open_model(str(path), device=CPU), data, tmp_path / "e.parquet", tell=told.append)
    found = read_embeddings(tmp_path / "e.parquet")
    with torch.no_grad():
        logits = network.fc(30 * network.first(data.train.examples.batch(torch.arange(12))))
    losses = nn.functional.cross_entropy(logits, data.train.labels, reduction="none")
    assert found.losses is not None
    assert found.scores is not None
    torch.testing.assert_close(found.losses, losses, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.scores, logits.log_softmax(1), atol=1e-4, rtol=1e-4)
    assert any("the scores are probabilities" in line for line in told)
