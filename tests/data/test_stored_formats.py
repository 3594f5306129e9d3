"""JSON Lines, tensors of PyTorch and safetensors: the same table as an .npz of the same rows, or one line."""

import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from bisector.data.tables import EmbeddingTable, arrow, open_embeddings, read_embeddings
from bisector.data.tables.scores import read_scores
from bisector.errors import ArgumentError

ROWS, DIM, CLASSES = 60, 4, 3


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "embeddings": rng.normal(size=(ROWS, DIM)).astype(np.float32),
        "labels": rng.integers(0, CLASSES, ROWS),
        "logits": rng.normal(size=(ROWS, CLASSES)).astype(np.float32),
        "losses": rng.random(ROWS).astype(np.float32),
    }


def same(one: EmbeddingTable, other: EmbeddingTable) -> None:
    assert one.class_names == other.class_names
    for key in ("embeddings", "labels", "scores", "losses", "predictions"):
        assert torch.equal(getattr(one, key), getattr(other, key)), key


@pytest.fixture
def expected(tmp_path: Path) -> EmbeddingTable:
    np.savez(tmp_path / "expected.npz", **arrays())
    return read_embeddings(tmp_path / "expected.npz")


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "old.pt", "a.safetensors"])
def test_tensors_by_name(tmp_path: Path, expected: EmbeddingTable, name: str) -> None:
    tensors = {key: torch.from_numpy(array) for key, array in arrays().items()}
    if name == "a.safetensors":
        save_file(tensors, tmp_path / name)
    else:
        torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=name != "old.pt")
    same(read_embeddings(tmp_path / name), expected)
    stored = open_embeddings(tmp_path / name)
    assert np.array_equal(stored.vectors_of(np.array([3, 50])), expected.embeddings[[3, 50]].numpy())


def test_names_of_classes_beside_tensors(tmp_path: Path) -> None:
    names, one = ["cat", "dog", "owl"], arrays()
    x, y = torch.from_numpy(one["embeddings"]), torch.from_numpy(one["labels"])
    torch.save({"features": x.bfloat16(), "y": y, "classes": names}, tmp_path / "a.pt")
    torch.save({"features": x.requires_grad_(), "y": [names[c] for c in y]}, tmp_path / "words.pt")
    save_numpy(
        {"x": one["embeddings"], "y": one["labels"]},
        tmp_path / "a.safetensors",
        {"classes": json.dumps(names)},
    )
    for file in ("a.pt", "words.pt", "a.safetensors"):
        table = read_embeddings(tmp_path / file)
        assert table.class_names == tuple(names)
        assert torch.equal(table.labels, y)
    assert torch.equal(read_embeddings(tmp_path / "a.pt").embeddings, x.bfloat16().float())


@pytest.mark.parametrize("turned", [False, True])
def test_a_pair_of_tensors(tmp_path: Path, turned: bool) -> None:
    one = arrays()
    pair = [torch.from_numpy(one["embeddings"]), torch.from_numpy(one["labels"])]
    torch.save(tuple(pair[::-1] if turned else pair), tmp_path / "a.pt")
    table = read_embeddings(tmp_path / "a.pt")
    assert torch.equal(table.embeddings, pair[0])
    assert torch.equal(table.labels, pair[1])


@pytest.mark.parametrize("block", [1, 64, 2**20])
@pytest.mark.parametrize("wide", [False, True])
def test_json_lines_as_pandas_writes_them(
    tmp_path: Path, expected: EmbeddingTable, monkeypatch: pytest.MonkeyPatch, block: int, wide: bool
) -> None:
    monkeypatch.setattr(arrow, "_BLOCK", block)
    one = arrays()
    columns: dict[str, Any] = {"label": one["labels"], "loss": one["losses"].astype(float)}
    for key, name in (("embeddings", "x"), ("logits", "logit_")):
        vectors = one[key].astype(float)
        if wide:
            columns |= {f"{name}{k}": vectors[:, k] for k in range(vectors.shape[1])}
        else:
            columns[key] = vectors.tolist()
    frame = pandas.DataFrame(columns)
    frame.to_json(tmp_path / "a.ndjson", orient="records", lines=True, double_precision=15)
    table = read_embeddings(tmp_path / "a.ndjson")
    assert torch.equal(table.labels, expected.labels)
    assert torch.allclose(table.embeddings, expected.embeddings, atol=1e-6)
    assert table.scores is not None
    assert expected.scores is not None
    assert torch.allclose(table.scores, expected.scores, atol=1e-6)


GOOD = '{"embedding":[1,2.5],"label":"owl"}\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "which is empty"),
        ("\n\n", "which is empty"),
        ("[1]\n", "line 1, with '[1]'"),
        ("{}\n", "0 columns of vectors"),
        (GOOD * 30 + "nope\n", "line 31, with 'nope'; expected a JSON object a line"),
        (GOOD * 30 + '{"embedding":[1,2],\n"label":"owl"}\n', "line 31, "),
        (GOOD * 30 + GOOD.strip() + GOOD, "line 31, "),
        (GOOD * 30 + "[" * 100_000, "line 31, "),
        (GOOD * 30 + '{"a":' * 100_000, "line 31, "),
        (
            GOOD * 30 + '{"embedding":[1,"x"],"label":"owl"}',
            "line 31, with [1, 'x'] as 'embedding'; expected a list",
        ),
        (GOOD * 30 + '{"embedding":[1,2],"label":3}', "line 31, with 3 as 'label'; expected text"),
        (GOOD + '{"embedding":[1,2,3],"label":"a"}', "vectors of 2 to 3 numbers"),
        ('{"embedding":[1,2],"label":["a","b"]}', "several labels a row"),
        ('{"embedding":[1,2],"label":[1,2]}\n{"embedding":[1,2],"label":[1]}', "several labels a row"),
        ('{"embedding":[1,2],"label":[0,1,1]}', "several labels a row"),
        ('{"embedding":[1,2],"label_0":1,"label_1":0}', "label_0, label_1, a column a class: several labels"),
    ],
)
def test_json_lines_that_are_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ArgumentError) as raised:
        read_embeddings(tmp_path / "a.jsonl")
    assert told in str(raised.value)
    assert "a.jsonl" in str(raised.value) or "labels: got shape" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_lines_of_blanks_are_no_rows(tmp_path: Path) -> None:
    blank = " \t\r\n"
    (tmp_path / "a.jsonl").write_text(blank + GOOD * 15 + blank + GOOD * 15 + blank)
    assert len(read_embeddings(tmp_path / "a.jsonl")) == 30
    (tmp_path / "a.jsonl").write_text(blank + GOOD * 30 + blank + "nope")
    with pytest.raises(ArgumentError, match="line 33, with 'nope'"):
        read_embeddings(tmp_path / "a.jsonl")


def test_true_and_false_are_two_classes_in_every_format(tmp_path: Path) -> None:
    x, labels = torch.arange(12.0).reshape(6, 2), [True, False, False, True, False, True]
    rows = [{"embedding": v, "label": y} for v, y in zip(x.tolist(), labels, strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"embedding": [0, 0]}])))
    pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    torch.save({"embedding": x, "label": torch.tensor(labels)}, tmp_path / "a.pt")
    for name in ("a.jsonl", "a.parquet", "a.pt"):
        table = read_embeddings(tmp_path / name)
        assert table.class_names == ("0", "1")
        assert table.labels.tolist() == [1, 0, 0, 1, 0, 1]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"embedding": [0, 0], "label": 7}])))
    with pytest.raises(ArgumentError, match="line 7, with 7 as 'label'; expected true or false"):
        read_embeddings(tmp_path / "a.jsonl")


def test_a_list_of_tensors_is_one_tensor(tmp_path: Path) -> None:
    x, labels = torch.arange(8.0).reshape(4, 2), [torch.tensor(number) for number in (0, 0, 0, 1)]
    torch.save({"embeddings": list(x), "labels": labels}, tmp_path / "a.pt")
    table = read_embeddings(tmp_path / "a.pt")
    assert table.class_names == ("0", "1")
    assert table.labels.tolist() == [0, 0, 0, 1]
    assert torch.equal(table.embeddings, x)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.ones(3, 2), "one tensor of shape (3, 2)"),
        ([1, 2], "a list"),
        ({}, "holds nothing"),
        ({"conv.weight": torch.ones(2, 2)}, "holds conv.weight; expected one of embedding"),
        ({"x": torch.ones(3, 2), "y": torch.ones(2)}, "3 rows, as the embeddings"),
        ({"x": torch.ones(3, 2).to_sparse(), "y": torch.ones(3)}, "a sparse or quantized tensor"),
        ({"x": torch.ones(3, 2), "y": torch.tensor([[1, 0], [1, 1], [0, 1]])}, "several labels a row"),
        ({"x": torch.ones(2, 2), "y": [["a"], ["a", "b"]]}, "several labels a row"),
        ({"x": torch.ones(2, 2), "y": [torch.tensor(1), 0]}, "'y', a list of tensors and of int"),
        ({"x": torch.ones(2, 2), "y": [torch.ones(1), torch.ones(2)]}, "tensors of the shapes [(1,), (2,)]"),
        ({"x": torch.ones(2, 2), "y": [torch.float32, 0]}, "'y', a list of dtype; expected words"),
        ({"x": torch.ones(3, 2, dtype=torch.complex64), "y": torch.ones(3)}, "real numbers"),
    ],
)
def test_tensors_that_are_wrong(tmp_path: Path, content: Any, told: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ArgumentError) as raised:
        read_embeddings(tmp_path / "a.pt")
    assert told in str(raised.value)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_tensors_cut_short_or_turned_over(tmp_path: Path, name: str) -> None:
    tensors = {key: torch.from_numpy(array) for key, array in arrays().items()}
    save = torch.save if name == "a.pt" else save_file
    save(tensors, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for size in (0, 1, 9, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(ArgumentError, match=name):
            read_embeddings(tmp_path / name)
    if name == "a.pt":  # which has checksums
        place = whole.index(arrays()["embeddings"].tobytes()[:16])
        (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ArgumentError, match="damaged"):
            read_embeddings(tmp_path / name)


@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "frame.pkl", "a.npz"])
def test_a_pickle_is_refused_with_the_line_that_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    one = arrays()
    x, y = one["embeddings"], one["labels"]
    if name == "a.pt":
        torch.save(
            {"embeddings": torch.from_numpy(x), "labels": y}, name
        )  # numpy, which weights_only refuses
    elif name == "a.npz":
        column = np.empty(ROWS, dtype=object)
        column[:] = [f"c{c}" for c in y]
        np.savez(name, embeddings=x, labels=column)
    else:
        held: Any = {"embeddings": x, "labels": y}
        if name == "frame.pkl":
            held = pandas.DataFrame({"embeddings": list(x), "labels": y})
        Path(name).write_bytes(pickle.dumps(held))
    with pytest.raises(ArgumentError, match="a pickle") as raised:
        read_embeddings(name)
    assert "\n" not in str(raised.value)
    words = shlex.split(str(raised.value).partition(": python ")[2])
    before = set(Path.cwd().iterdir())
    subprocess.run([sys.executable, *words], check=True)
    (made,) = set(Path.cwd().iterdir()) - before
    table = read_embeddings(made.name)
    assert np.array_equal(table.embeddings.numpy(), x)
    assert table.labels.tolist() == y.tolist()


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "embeddings.npy", np.array([[1, 2], None], dtype=object), allow_pickle=True)
    np.save(tmp_path / "labels.npy", np.array([0, 1]))
    with pytest.raises(ArgumentError, match=r"a pickle.*numpy\.save"):
        read_embeddings(tmp_path)


@pytest.mark.parametrize("how", ["npz", "csv", "list.csv", "jsonl", "pt"])
def test_probabilities_of_scikit_learn(tmp_path: Path, how: str) -> None:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    x, y = load_iris(return_X_y=True)
    found = LogisticRegression(max_iter=500).fit(x, y).predict_proba(x)
    path = tmp_path / f"p.{how}"
    if how == "npz":
        np.savez(path, scores=found, labels=y)
    elif how == "pt":
        torch.save({"y_true": torch.from_numpy(y), "predict_proba": torch.from_numpy(found)}, path)
    else:
        frame = pandas.DataFrame({"y_true": y} | {f"proba_{k}": found[:, k] for k in range(3)})
        if how == "list.csv":
            frame = pandas.DataFrame({"y_true": y, "y_pred": found.argmax(1), "scores": found.tolist()})
        frame.to_json(path, orient="records", lines=True) if how == "jsonl" else frame.to_csv(
            path, index=False
        )
    scores = read_scores(path)
    assert "probabilities" in scores.told
    given = scores.scores if scores.kind == "probabilities" else scores.scores.softmax(1)
    assert np.allclose(given, found, atol=1e-4)
    assert scores.labels is not None
    assert scores.labels.tolist() == y.tolist()
