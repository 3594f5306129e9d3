import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bisector.data.dataset import Dataset, Part
from bisector.data.examples import InMemory
from bisector.data.tables import read_embeddings, write_embeddings
from bisector.embedding.embed import embed, score_columns
from bisector.embedding.model import EmbeddingModel, open_model
from bisector.embedding.onnx_file import OnnxModel
from bisector.embedding.published import PublishedModel, load_weights
from bisector.errors import ArgumentError

CPU = torch.device("cpu")


def dataset(
    *shape: int, test_names: tuple[str, ...] | None = None, left_out: tuple[str, ...] = ()
) -> Dataset:
    def part(rows: int, name: str) -> Part:
        values = torch.rand(rows, *shape)
        return Part(InMemory(values, [f"{name}/{row}" for row in range(rows)]), torch.arange(rows) % 3)

    parts = part(10, "train"), part(4, "validation"), part(7, "test")
    return Dataset("three", *parts, ("a", "b", "c"), test_names, left_out=left_out)


class Plain(EmbeddingModel):
    """A source whose numbers can be told by hand: the mean of each channel, and scores that are fixed."""

    name = "plain"

    def __init__(self, class_names: tuple[str, ...] | None = ("a", "b", "c"), columns: int = 3) -> None:
        self.class_names = class_names
        self.columns = columns
        self.batches: list[int] = []

    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        self.batches.append(len(batch))
        means = batch.flatten(2).mean(dim=2)
        return means, means[:, :1] * torch.arange(self.columns) if self.columns else None


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_example_is_embedded_once_whatever_the_batch(tmp_path: Path, batch_size: int) -> None:
    data, source = dataset(2, 4, 4, left_out=("x.jpg: cannot be read",)), Plain()
    told: list[str] = []
    seen: list[int] = []
    rows = embed(
        source, data, tmp_path / "e.parquet", batch_size=batch_size, tell=told.append, progress=seen.append
    )
    found = read_embeddings(tmp_path / "e.parquet")
    assert rows == len(found) == sum(seen) == 21
    assert max(source.batches) <= batch_size
    assert found.splits == ["train"] * 10 + ["validation"] * 4 + ["test"] * 7
    assert found.names == [
        f"{s}/{r}" for s, n in (("train", 10), ("validation", 4), ("test", 7)) for r in range(n)
    ]
    images = [
        part.examples.batch(torch.arange(len(part))) for part in (data.train, data.validation, data.test)
    ]
    torch.testing.assert_close(found.embeddings, torch.cat(images).flatten(2).mean(dim=2))
    assert found.scores is not None
    assert found.losses is not None
    torch.testing.assert_close(found.losses, cross_entropy(found.scores, found.labels, reduction="none"))
    assert found.predictions is not None
    assert found.predictions.tolist() == found.scores.argmax(dim=1).tolist()
    assert found.left_out == ("x.jpg: cannot be read",)
    assert told == ["left out: x.jpg: cannot be read"]
    assert found.settings == {}
    assert (found.model, found.data) == ("plain", "three")


def test_the_file_records_the_settings_and_may_hold_one_part(tmp_path: Path) -> None:
    settings = {"imbalance": 10.0, "seed": 3, "split": "standard", "image_size": None, "mean": [0.5, 0.25]}
    path = tmp_path / "e.parquet"
    assert embed(Plain(), dataset(1, 2, 2), path, settings=settings, part="validation") == 4
    found = read_embeddings(path)
    assert set(found.splits or ()) == {"validation"}
    assert found.settings == {key: value for key, value in settings.items() if value is not None}
    write_embeddings(found, tmp_path / "again.parquet")
    assert read_embeddings(tmp_path / "again.parquet").settings == found.settings


def test_an_error_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    class Failing(Plain):
        def embed(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
            found = super().embed(batch)
            return (found[0] * (torch.nan if len(self.batches) == 3 else 1), found[1])

    with pytest.raises(ArgumentError, match="not finite, of train/8"):
        embed(Failing(), dataset(1, 2, 2), tmp_path / "e.parquet", batch_size=4)
    assert list(tmp_path.iterdir()) == []


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    told: list[str] = []
    embed(Plain(("c", "x", "b", "a"), 4), dataset(1, 2, 2), tmp_path / "e.parquet", tell=told.append)
    found = read_embeddings(tmp_path / "e.parquet")
    assert found.scores is not None
    # Plain's scores are 0, m, 2m, 3m for c, x, b, a.
    torch.testing.assert_close(found.scores, found.embeddings * torch.tensor([[3.0, 2.0, 0.0]]))
    assert told == ["the scores are those of 3 of the 4 classes of the model"]


@pytest.mark.parametrize(
    ("names", "columns", "words"),
    [
        (("a", "b", "z"), 3, "1 classes of the data are none of the model's"),
        (None, 4, "the model has 4 classes"),
        (None, 0, "the model has no classes"),
    ],
)
def test_a_foreign_model_of_other_classes_has_no_predictions(
    tmp_path: Path, names: tuple[str, ...] | None, columns: int, words: str
) -> None:
    told: list[str] = []
    embed(Plain(names, columns), dataset(1, 2, 2), tmp_path / "e.parquet", tell=told.append)
    found = read_embeddings(tmp_path / "e.parquet")
    assert found.predictions is found.losses is found.scores is None
    assert words in told[0]


def test_classes_that_are_written_alike_match_and_a_model_of_ours_must_know_them() -> None:
    composed, apart = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    for model, data in ((composed, apart), (apart, composed)):
        columns, told = score_columns(("tea", model), (data, "tea"), 2, required=True)
        assert columns is not None
        assert (columns.tolist(), told) == ([1, 0], "")
    with pytest.raises(ArgumentError, match="'b', of which the model knows nothing"):
        score_columns(("a", "c"), ("a", "b"), 2, required=True)


def test_classes_never_trained_on_follow_the_others(tmp_path: Path) -> None:
    embed(Plain(), dataset(1, 2, 2, test_names=("d", "e", "f")), tmp_path / "e.parquet")
    found = read_embeddings(tmp_path / "e.parquet")
    assert found.class_names == ("a", "b", "c", "d", "e", "f")
    assert found.labels[found.rows_of("test")].tolist() == [3, 4, 5, 3, 4, 5, 3]
    assert found.predictions is None


@pytest.mark.parametrize(
    ("note", "names"),
    [
        (str({0: "person", 1: "it's", 2: "bus"}), ("person", "it's", "bus")),  # as Ultralytics writes it
        ("{2: 'bus', 0: 'person', 1: 'car'}", ("person", "car", "bus")),
        ('{"0": "person", "1": "car"}', ("person", "car")),
        ('["crane", "dog", "crane"]', ("crane (0)", "dog", "crane (2)")),
        ("{0: __import__('os')}", None),
        ("person, car", None),
        ("[" * 100000, None),
    ],
)
def test_names_in_an_onnx_file(tmp_path: Path, note: str, names: tuple[str, ...] | None) -> None:
    path = tmp_path / "m.onnx"
    onnx_model(path, "n")
    model = onnx.load(path)
    helper.set_model_props(model, {"names": note})
    onnx.save(model, path)
    assert OnnxModel(path).class_names == names


def save_onnx(
    path: Path, nodes: Any, given: Any, outputs: Any, constants: Any, names: Sequence[str] | None
) -> None:
    graph = helper.make_graph(nodes, "graph", [given], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if names:
        helper.set_model_props(model, {"class_names": json.dumps(names)})
    onnx.save(model, path)


def onnx_model(
    path: Path,
    batch: int | str,
    *,
    channels_last: bool = False,
    kind: int = TensorProto.FLOAT,
    names: tuple[str, ...] | None = None,
) -> None:
    """Channel means as `features`, twice them as `logits`, and the sum of both as a last output, `out`."""
    axes = [1, 2] if channels_last else [2, 3]
    shape = [batch, 4, 4, 3] if channels_last else [batch, 3, 4, 4]
    two = helper.make_tensor("two", kind, [1], [2.0])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["features"], keepdims=0),
        helper.make_node("Mul", ["features", "two"], ["logits"]),
        helper.make_node("Add", ["features", "logits"], ["out"]),
    ]
    given = helper.make_tensor_value_info("x", kind, shape)
    outputs = [
        helper.make_tensor_value_info(name, kind, [batch, 3]) for name in ("features", "logits", "out")
    ]
    save_onnx(
        path, nodes, given, outputs, [two, helper.make_tensor("axes", TensorProto.INT64, [2], axes)], names
    )


@pytest.mark.parametrize("batch", ["n", 4])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_an_onnx_file_is_what_onnxruntime_computes(
    tmp_path: Path, batch: int | str, channels_last: bool, kind: int
) -> None:
    path = tmp_path / "m.onnx"
    onnx_model(path, batch, channels_last=channels_last, kind=kind, names=("a", "b", "c"))
    source = OnnxModel(path, mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 2.0])
    images = torch.rand(7, 3, 4, 4)
    embeddings, scores = source.embed(images)
    sides = (1, 3, 1, 1)
    given = (images - torch.tensor([0.1, 0.2, 0.3]).view(sides)) / torch.tensor([0.5, 0.5, 2.0]).view(sides)
    near = {"atol": 2e-3, "rtol": 2e-3} if kind == TensorProto.FLOAT16 else {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(embeddings, given.mean(dim=(2, 3)), **near)
    torch.testing.assert_close(scores, 2 * given.mean(dim=(2, 3)), **near)
    assert source.class_names == ("a", "b", "c")
    assert source.input_size == (4, 4)
    if batch == "n" and not channels_last and kind == TensorProto.FLOAT:
        session = onnxruntime.InferenceSession(path)
        expected = session.run(["features"], {"x": given.numpy()})[0]
        np.testing.assert_allclose(embeddings.numpy(), expected, rtol=1e-6)


def test_an_output_can_be_named_and_images_are_fitted(tmp_path: Path) -> None:
    onnx_model(tmp_path / "m.onnx", "n")
    source = OnnxModel(tmp_path / "m.onnx", embedding_output="out")
    embeddings, scores = source.embed(torch.full((2, 1, 9, 9), 0.5))  # gray, of another size
    torch.testing.assert_close(embeddings, torch.full((2, 3), 1.5))
    assert scores is not None
    for options, *expected in (  # features are the means, logits twice and out three times these
        ({"scores_output": "out"}, 0.5, 1.5),
        ({"scores_output": "features"}, 1.5, 0.5),
        ({"embedding_output": "logits", "scores_output": "logits"}, 1.0, 1.0),
    ):
        found = OnnxModel(tmp_path / "m.onnx", **options).embed(torch.full((2, 3, 4, 4), 0.5))
        torch.testing.assert_close(found, tuple(torch.full((2, 3), value) for value in expected))
    with pytest.raises(ArgumentError, match="one of features, logits, out"):
        OnnxModel(tmp_path / "m.onnx", embedding_output="absent")
    with pytest.raises(ArgumentError, match="data: got examples of shape"):
        source.embed(torch.rand(2, 5))
    with pytest.raises(
        ArgumentError, match="scores_output: got 'absent'; expected one of features, logits, out"
    ):
        OnnxModel(tmp_path / "m.onnx", scores_output="absent")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ArgumentError, match="cannot be read as ONNX"):
        OnnxModel(tmp_path / "bad.onnx")


def flat_onnx(path: Path, outputs: dict[str, int], *, last: str = "Identity", classes: int = 0) -> None:
    """Outputs of these names and widths, each one `last` of the first so many values of a vector."""
    nodes, constants = [], []
    for name, width in outputs.items():
        bounds = {f"{name}-{n}": value for n, value in enumerate((0, width, 1))}
        constants += [helper.make_tensor(each, TensorProto.INT64, [1], [v]) for each, v in bounds.items()]
        nodes.append(helper.make_node("Slice", ["x", *bounds], [f"{name}-cut"]))
        nodes.append(helper.make_node(last, [f"{name}-cut"], [name]))
    made = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    found = [made(name, shape=["n", width]) for name, width in outputs.items()]
    save_onnx(path, nodes, made("x", shape=["n", 8]), found, constants, list(map(str, range(classes))))


@pytest.mark.parametrize(
    ("outputs", "options", "embedding", "scores"),
    [
        ({"logits": 3, "output": 5}, {}, 5, 3),
        ({"output": 5, "class_probabilities": 3}, {}, 5, 3),
        ({"output_logits": 3, "hidden": 4}, {}, 4, 3),
        ({"hidden": 4, "Predictions": 3}, {}, 4, 3),
        ({"feature_scores": 6, "scores": 3}, {}, 6, 3),  # said to be features before it is said to be scores
        ({"first": 4, "second": 3}, {"classes": 3}, 4, 3),  # as wide as the file names classes
        ({"second": 3, "first": 4}, {"classes": 4}, 3, 4),
        ({"first": 4, "logit": 3}, {"classes": 5}, 4, 3),
        ({"second": 3}, {}, 3, None),
    ],
)
def test_scores_are_never_taken_for_the_embedding(
    tmp_path: Path, outputs: dict[str, int], options: dict[str, int], embedding: int, scores: int | None
) -> None:
    flat_onnx(tmp_path / "m.onnx", outputs, **options)
    source = OnnxModel(tmp_path / "m.onnx")
    found = source.embed(torch.rand(2, 8))
    assert found[0].shape[1] == embedding
    assert (None if found[1] is None else found[1].shape[1]) == scores
    widths = {width: name for name, width in outputs.items()}
    told = f"output {widths[embedding]!r} is taken for the embedding"
    told += "" if scores is None else f", {widths[scores]!r} for the scores"
    assert source.notes == (f"{tmp_path / 'm.onnx'}: {told}",)


@pytest.mark.parametrize(
    ("outputs", "options", "told"),
    [
        ({"logits": 3}, {}, r"with no output but scores \(logits\)"),
        ({"y_prob": 3, "logits": 3}, {}, r"no output but scores \(y_prob, logits\)"),
        ({"output": 3}, {"classes": 3}, r"no output but scores \(output\)"),
        ({"output": 3}, {"last": "Softmax"}, "'output' has shares that sum to 1: probabilities"),
    ],
)
def test_a_file_of_scores_alone_is_refused_unless_they_are_asked_for(
    tmp_path: Path, outputs: dict[str, int], options: dict[str, object], told: str
) -> None:
    path = tmp_path / "m.onnx"
    flat_onnx(path, outputs, **options)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=f"{told}.*; expected an embedding: .* --embedding-output"):
        OnnxModel(path).embed(torch.rand(2, 8))
    name = next(iter(outputs))
    assert OnnxModel(path, embedding_output=name).embed(torch.rand(2, 8))[0].shape == (2, 3)


def test_outputs_that_nothing_tells_apart_are_asked_for(tmp_path: Path) -> None:
    flat_onnx(tmp_path / "m.onnx", {"first": 4, "second": 3})
    told = r"embedding_output: got none of several that may be meant, 'first' \(4 wide\), 'second' \(3 wide\)"
    with pytest.raises(ArgumentError, match=told):
        OnnxModel(tmp_path / "m.onnx").embed(torch.rand(2, 8))
    found = OnnxModel(tmp_path / "m.onnx", embedding_output="second").embed(torch.rand(2, 8))
    assert found[0].shape == (2, 3)


def test_an_onnx_file_is_computed_on_the_device_that_is_asked_for(tmp_path: Path) -> None:
    onnx_model(tmp_path / "m.onnx", "n")
    source = open_model(str(tmp_path / "m.onnx"), device=CPU)
    assert isinstance(source, OnnxModel)
    assert source.providers == ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(
            ArgumentError, match="device: got cuda:1, which this onnxruntime does not have; expected cpu"
        ):
            open_model(str(tmp_path / "m.onnx"), device=torch.device("cuda:1"))
    with pytest.raises(ArgumentError, match="device: got mps"):
        open_model(str(tmp_path / "m.onnx"), device=torch.device("mps"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mean": [0.1, 0.2]}, "mean: got 2 numbers; expected 1 or 3"),
        ({"std": [0.1] * 4}, "std: got 4 numbers; expected 1 or 3"),
        ({"std": [0.1, 0.0, 1.0]}, "std: got .*; expected numbers above 0"),
        ({"mean": [math.nan]}, "mean: got .*; expected finite numbers"),
    ],
)
def test_a_mean_that_does_not_fit_the_channels_is_told(
    tmp_path: Path, options: dict[str, list[float]], told: str
) -> None:
    onnx_model(tmp_path / "m.onnx", "n")
    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(ArgumentError, match=told):
        OnnxModel(tmp_path / "m.onnx", **options).embed(images)
    one, three = (OnnxModel(tmp_path / "m.onnx", mean=mean).embed(images) for mean in ([0.25], [0.25] * 3))
    torch.testing.assert_close(one, three)  # one is that of all


def test_a_network_of_timm_gives_what_its_classifier_is_given() -> None:
    timm = pytest.importorskip("timm")
    source = PublishedModel("timm/test_resnet", pretrained=False, device=CPU)
    config = timm.data.resolve_data_config({}, model=timm.create_model("test_resnet"))
    assert source.input_size == config["input_size"][1:]
    images = torch.rand(2, 3, *config["input_size"][1:])
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0).eval()
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(source.embed(images)[0], network((images - mean) / std))
    assert source.embed(torch.rand(2, 1, 20, 30))[0].shape == (2, network.num_features)
    with pytest.raises(ArgumentError, match="images of 1 or 3 channels"):
        source.embed(torch.rand(2, 5))


Weights = dict[str, Tensor]


def prefixed(weights: Weights, *prefixes: str) -> Weights:
    return {prefix + key: value for key, value in weights.items() for prefix in prefixes}


WRAPPED: dict[str, tuple[Callable[[Weights], object], str]] = {
    "plain": (lambda w: w, ""),
    "DDP": (lambda w: {"state_dict": prefixed(w, "module.")}, "state_dict/module."),
    "compiled": (lambda w: prefixed(w, "_orig_mod."), ""),
    "compiled DDP": (lambda w: {"epoch": 3, "model": prefixed(w, "module._orig_mod.")}, "model/module."),
    "compiled inside": (lambda w: {key.replace(".", "._orig_mod.", 1): v for key, v in w.items()}, ""),
    "Lightning": (
        lambda w: {"epoch": 1, "callbacks": {}, "state_dict": prefixed(w, "net."), "loops": {"a": {}}},
        "state_dict/net.",
    ),
    "nested": (lambda w: {"checkpoint": {"model_state_dict": w}}, "checkpoint/model_state_dict/"),
    "an average alone": (lambda w: {"ema": {"module": w}, "n": torch.tensor(1)}, "ema/module/"),
}


@pytest.mark.parametrize(("wrap", "place"), WRAPPED.values(), ids=WRAPPED)
def test_weights_are_found_in_usual_wrappers(
    tmp_path: Path, wrap: Callable[[Weights], object], place: str
) -> None:
    trained, fresh = (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(2))
    torch.save(wrap(trained.state_dict()), tmp_path / "w.pt")
    loaded = load_weights(fresh, tmp_path / "w.pt")
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value)
    assert (loaded.place, loaded.others, loaded.unused) == (place, [], {})


def test_of_a_network_and_its_average_the_network_is_taken_and_told(tmp_path: Path) -> None:
    trained, average, fresh = (nn.Linear(4, 3) for _ in range(3))
    torch.save({"ema": average.state_dict(), "model": trained.state_dict()}, tmp_path / "w.pt")
    loaded = load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.weight, trained.weight)
    assert loaded.told(None) == (f"weights of {tmp_path / 'w.pt'}: those of 'model/'; not those of 'ema/'",)


@pytest.mark.parametrize(
    "name", ["timm/test_resnet", "timm/test_vit", "timm/test_convnext", "torchvision/resnet18"]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_last_layer_of_your_own_classifier_gives_the_scores(
    tmp_path: Path, name: str, wrapped: bool
) -> None:
    library, _, model = name.partition("/")
    zoo = pytest.importorskip("timm" if library == "timm" else "torchvision.models")
    make = zoo.create_model if library == "timm" else zoo.get_model
    whole = make(model, num_classes=7).eval()
    weights = prefixed(whole.state_dict(), "module._orig_mod.") if wrapped else whole.state_dict()
    torch.save({"state_dict": weights} if wrapped else weights, tmp_path / "own.pth")
    source = open_model(name, weights=tmp_path / "own.pth", device=CPU)
    assert isinstance(source, PublishedModel)
    images = torch.rand(3, 3, *source.input_size)
    embeddings, scores = source.embed(images)
    normalize = source._network[0]
    with torch.no_grad():
        torch.testing.assert_close(scores, whole(normalize(images)))
    assert embeddings.shape[0] == 3
    (line,) = source.notes
    assert "gives scores of 7 classes" in line


def test_weights_that_are_not_used_are_told(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    whole = models.get_model("resnet18", num_classes=7)
    extra = {"projection.weight": torch.rand(5, 512), "queue": torch.rand(2)}
    torch.save({**whole.state_dict(), **extra}, tmp_path / "own.pth")
    source = open_model("torchvision/resnet18", weights=tmp_path / "own.pth", device=CPU)
    assert source.embed(torch.rand(1, 3, 9, 9))[1] is None  # which of the two classifies cannot be told
    assert source.notes == (
        f"weights of {tmp_path / 'own.pth'}: 4 not used, for which the network has no place: fc.weight, fc.bias, "
        "projection.weight, …",
    )


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    class Danger:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "executed",))  # type: ignore[return-value]

    network, path = nn.Linear(4, 3), tmp_path / "w.pt"
    for content, told in (
        ({"weight": torch.rand(3, 4)}, "without bias"),
        ({"weight": torch.rand(3, 5), "bias": torch.rand(3)}, "of shape"),
        ([1, 2], "no state dictionary"),
        (Danger(), "weights alone"),
    ):
        torch.save(content, path)
        with pytest.raises(ArgumentError, match=told):
            load_weights(network, path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("absent", {}, "which is not there"),
        ("torchvision/resnet19", {}, "did you mean"),
        ("m.txt", {}, "expected a folder of a run"),
        ("m.txt", {"embedding_output": "x"}, "only with an ONNX file"),
        ("m.txt", {"scores_output": "x"}, "only with an ONNX file"),
        (
            "timm/test_resnet",
            {"device": torch.device("meta"), "pretrained": False},
            "device: got meta, on which",
        ),
        ("m.txt", {"weights": Path("w")}, "only with timm/NAME"),
    ],
)
def test_a_model_that_is_none_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, options: dict[str, object], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.txt").write_text("nothing")
    with pytest.raises(ArgumentError, match=told):
        open_model(model, **options)  # type: ignore[arg-type]
