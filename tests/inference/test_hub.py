"""A trained classifier in one file and in a folder of the Hub: the same predictions as those of the training."""

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import bisector as bs
from bisector.cli.main import main
from bisector.errors import MissingExtraError, install_command
from bisector.inference.export import export
from real_processes import ENVIRONMENT

pytest.importorskip("safetensors")
WORDS = ["--data", "digits", "--imbalance", "20", "--accelerator", "cpu", "--no-tensorboard", "--epochs", "1"]
IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def train(out: Path, *words: str) -> Path:
    assert main(["train", *WORDS, *words, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("hub") / "run", "--head", "am-softmax", "--decide", "geometry")


def equal(model: bs.Predictor, other: bs.Predictor) -> bool:
    assert (model.class_names, model.shape) == (other.class_names, other.shape)
    return torch.equal(model.scores(IMAGES), other.scores(IMAGES))


@pytest.mark.parametrize(
    "words",
    [
        ["--head", "igam", "--decide", "fitted"],  # a head with a state, offsets alone
        ["--head", "seesaw", "--backbone", "resnet20", "--class-weights", "3=2"],  # no decision
    ],
)
def test_an_exported_file_predicts_as_its_training(words: list[str], tmp_path: Path) -> None:
    run = bs.load(train(tmp_path / "run", *words), device="cpu")
    export(run, tmp_path / "m.safetensors", "safetensors", IMAGES)
    model = bs.load(tmp_path / "m.safetensors", device="cpu")
    assert equal(run, model)
    assert (model.decision is None) == (run.decision is None)
    assert model.trained.recipe == run.trained.recipe
    assert model.trained.epochs == run.trained.epochs == 1


def test_commands_take_an_exported_file(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    assert main(["export", str(trained), "--out", str(file)]) == 0
    for model, out in ((trained, "a.jsonl"), (file, "b.jsonl")):
        asked = ["predict", str(model), "digits", "--device", "cpu", "--out", str(tmp_path / out)]
        assert main(asked) == 0
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    assert main(["embed", str(file), "digits", "--device", "cpu", "--out", str(tmp_path / "e.parquet")]) == 0
    # Exported again, it is a graph with the same card.
    first = (tmp_path / "README.md").read_text()
    assert main(["export", str(file), "--out", str(tmp_path / "again" / "m.safetensors")]) == 0
    assert (tmp_path / "again" / "README.md").read_text() == first
    assert str(tmp_path).encode() not in file.read_bytes()


def test_a_file_that_holds_no_classifier_is_one_line(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for texts, told in (({}, "weights of something else"), ({"bisector": "{}"}, "export it again")):
        save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", texts)
        with pytest.raises(bs.ArgumentError, match=rf"model: got .*a\.safetensors; .*{told}"):
            bs.load(tmp_path / "a.safetensors")
    file = tmp_path / "m.safetensors"
    export(bs.load(trained, device="cpu"), file, "safetensors", IMAGES)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(bs.ArgumentError, match="expected the safetensors of bisector export"):
        bs.load(file)
    with pytest.raises(bs.ArgumentError, match=r"or an exported \.safetensors"):
        bs.load(tmp_path / "absent.safetensors")


def test_a_run_is_loaded_without_the_hub(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bisector.inference.hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # which cannot be imported now
    model = bs.load(trained, device="cpu")
    with pytest.raises(MissingExtraError, match=re.escape(install_command("hf"))):
        model.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_folder_of_the_hub(trained: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    run, folder = bs.load(trained, device="cpu"), tmp_path / "digits-model"
    run.save_pretrained(folder, license="apache-2.0")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for model in (bs.load(folder, device="cpu"), bs.Predictor.from_pretrained(folder, device="cpu")):
        assert equal(run, model)
    assert json.loads((folder / "config.json").read_text())["class_names"] == list("0123456789")
    # What the Hub reads of the card, by its own library.
    card = hub.ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.license) == ("bisector", "apache-2.0")
    assert (card.data.model_name, card.data.pipeline_tag) == ("digits-model", "image-classification")
    told = {result.metric_type: result for result in card.data.eval_results}
    result = json.loads((trained / "result.json").read_text())
    found = result["decided"]["metrics"]["balanced_accuracy"]
    assert told["balanced_accuracy"].metric_value == pytest.approx(100 * found, abs=0.01)
    assert told["balanced_accuracy"].dataset_name == "digits"
    # Saved again, from the folder alone: our card is written anew and the same, another's is left.
    before = (folder / "README.md").read_text()
    (tmp_path / "other").mkdir()
    bs.load(folder, device="cpu").save_pretrained(folder, license="apache-2.0")
    assert (folder / "README.md").read_text() == before
    (tmp_path / "other" / "README.md").write_text("mine")
    run.save_pretrained(tmp_path / "other")
    assert (tmp_path / "other" / "README.md").read_text() == "mine"


class _Hub(BaseHTTPRequestHandler):
    """Takes what a client of the Hub uploads, by its published addresses, and gives it out again."""

    asked: ClassVar[list[str]] = []
    files: ClassVar[dict[str, bytes]] = {}
    commit = "0" * 40

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        self.asked.append(f"POST {path}")
        if path.endswith("/repos/create"):
            self._answer({"url": f"http://{self.headers['Host']}/me/photos", "name": "me/photos", "id": "1"})
        elif "/preupload/" in path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._answer({"files": files})
        elif "/commit/" in path:
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer(
                {"commitUrl": f"http://{self.headers['Host']}/me/photos/commit/1", "commitOid": self.commit}
            )
        else:  # the card is checked
            self._answer({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        name = path.rpartition("/")[2]
        if "/resolve/" in path and name in self.files:
            self._answer(self.files[name], X_Repo_Commit=self.commit, ETag=f'"{name}"')
        elif "/tree/" in path:
            self._answer(
                [{"type": "file", "path": n, "size": len(b), "oid": n} for n, b in self.files.items()]
            )
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": name} for name in self.files]
            self._answer({"id": "me/photos", "sha": self.commit, "siblings": siblings, "tags": []})
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_model_goes_to_the_hub_and_comes_back(trained: Path, endpoint: str, tmp_path: Path) -> None:
    """What the page says, run against what takes and gives files as the Hub does."""
    pytest.importorskip("huggingface_hub")
    page = (Path(__file__).parents[2] / "docs" / "use.md").read_text(encoding="utf-8")
    (block,) = (
        code for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "push_to" in code
    )
    check = (
        "import torch\n"
        "images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))\n"
        "assert torch.equal(model.scores(images), again.scores(images))\n"
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "photos").symlink_to(trained)
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_none"}
    own |= {"HF_HUB_DISABLE_XET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", block + check],
        env={**ENVIRONMENT, **own},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stderr, _Hub.asked)
    assert sorted(_Hub.files) == ["README.md", "config.json", "model.safetensors"]
    assert 'from_pretrained("me/photos")' in _Hub.files["README.md"].decode()
