"""Where stored embeddings may lie: folders of Hugging Face, URLs, and what is none of it."""

import io
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisector.data.tables import is_embeddings, open_embeddings, read_embeddings
from bisector.errors import ArgumentError

FEATURES = {
    "embedding": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "List"},
    "label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"},
}


def table(rows: int, first: int = 0) -> pa.Table:
    vectors = np.arange(first * 4, (first + rows) * 4, dtype=np.float32)
    return pa.table(
        {"embedding": pa.FixedSizeListArray.from_arrays(vectors, 4), "label": np.arange(rows) % 2}
    )


def save_to_disk(folder: Path, tables: list[pa.Table], *, in_schema: bool = False, **state: object) -> None:
    """The layout that Dataset.save_to_disk of datasets 5.2 writes."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    if in_schema:
        notes = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
        tables = [rows.replace_schema_metadata(notes) for rows in tables]
    for name, rows in zip(names, tables, strict=True):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
            stream.write_table(rows, max_chunksize=1000)
    files = [{"filename": name} for name in names]
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None, **state}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def read(path: str | Path) -> np.ndarray:
    chunks = list(open_embeddings(path).chunks())
    return np.concatenate([chunk.embeddings for chunk in chunks])


@pytest.mark.parametrize("in_schema", [True, False])
def test_a_data_set_of_hugging_face(tmp_path: Path, in_schema: bool) -> None:
    folder = tmp_path / "set"
    save_to_disk(folder, [table(2500), table(1300, 2500)], in_schema=in_schema)
    (folder / "cache-0123.arrow").write_bytes((folder / "data-00000-of-00002.arrow").read_bytes())
    stored = open_embeddings(folder)
    assert stored.class_names == ("cat", "dog", "owl")
    assert stored.counts.tolist() == [1900, 1900, 0]
    assert [(part.groups, part.rows, part.first) for part in stored.parts] == [(3, 2500, 0), (2, 1300, 2500)]
    assert np.array_equal(read(folder), np.arange(3800 * 4, dtype=np.float32).reshape(-1, 4))
    assert np.array_equal(read_embeddings(folder).embeddings.numpy(), read(folder))
    assert is_embeddings(folder)
    assert not stored.has_splits


def test_the_splits_of_a_data_set_of_hugging_face(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    save_to_disk(tmp_path / "test", [table(5, 10)])
    save_to_disk(tmp_path / "train", [table(10)])
    stored = open_embeddings(tmp_path)
    assert stored.split_rows == {"train": 10, "test": 5}
    assert stored.counts.tolist() == [5, 5, 0]
    assert [chunk.splits.tolist() for chunk in stored.chunks()] == [[0] * 10, [2] * 5]
    assert read_embeddings(tmp_path).splits == ["train"] * 10 + ["test"] * 5


def test_rows_in_an_order_that_lies_elsewhere_are_refused(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "set", [table(5)], _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(ArgumentError, match="flatten_indices"):
        open_embeddings(tmp_path / "set")


def test_a_folder_of_arrow_files_that_nobody_described(tmp_path: Path) -> None:
    for name, first in (("train-0", 0), ("test-0", 6)):
        with pa.OSFile(str(tmp_path / f"{name}.arrow"), "wb") as file:
            rows = table(6, first)
            with pa.ipc.new_file(file, rows.schema) as writer:
                writer.write_table(rows, max_chunksize=4)
    assert open_embeddings(tmp_path).split_rows == {"train": 6, "test": 6}
    assert read(tmp_path)[:, 0].tolist() == [*range(24, 48, 4), *range(0, 24, 4)]


def test_words_that_are_stored_once(tmp_path: Path) -> None:
    rows = table(6).set_column(1, "label", pa.array(["b", "a", "b"] * 2).dictionary_encode())
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=2)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
        stream.write_table(rows, max_chunksize=2)
    for path in (tmp_path / "a.parquet", tmp_path / "a.arrow"):
        stored = open_embeddings(path)
        assert stored.class_names == ("a", "b")
        assert [label for chunk in stored.chunks() for label in chunk.labels] == [1, 0, 1] * 2


def test_a_file_url(tmp_path: Path) -> None:
    pq.write_table(table(5), tmp_path / "a.parquet")
    save_to_disk(tmp_path / "set", [table(5)])
    for name in ("a.parquet", "set"):
        url = (tmp_path / name).as_uri()
        assert np.array_equal(read(url), read(tmp_path / name))
        assert len(read_embeddings(url)) == 5
        assert is_embeddings(url)
        assert open_embeddings(url).reader.stamps == open_embeddings(tmp_path / name).reader.stamps


def test_a_url_that_fsspec_opens(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    save_to_disk(tmp_path / "set", [table(2500), table(1300, 2500)])
    pq.write_table(table(3000), tmp_path / "a.parquet", row_group_size=700)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/stored-here", recursive=True)
    try:
        for name in ("set", "a.parquet"):
            assert np.array_equal(read(f"memory://stored-here/{name}"), read(tmp_path / name))
            found = read_embeddings(f"memory://stored-here/{name}")
            assert np.array_equal(found.embeddings.numpy(), read(tmp_path / name))
    finally:
        memory.rm("/stored-here", recursive=True)


class _Ranges(SimpleHTTPRequestHandler):
    """A web server that gives out ranges of bytes, as any but Python's own does."""

    def send_head(self) -> io.BytesIO | None:  # type: ignore[override]
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return None
        content = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (
            (int(wanted[1]), int(wanted[2] or len(content) - 1)) if wanted else (0, len(content) - 1)
        )
        part = content[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.end_headers()
        return io.BytesIO(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_on_the_web(tmp_path: Path, served: str) -> None:
    pytest.importorskip("aiohttp")
    pq.write_table(table(3000), tmp_path / "a.parquet", row_group_size=700)
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table(1).schema) as stream,
    ):
        stream.write_table(table(3000), max_chunksize=700)
    for name in ("a.parquet", "a.arrow"):
        assert np.array_equal(read(f"{served}/{name}"), read(tmp_path / name))
    with pytest.raises(ArgumentError, match=r"absent\.parquet"):
        open_embeddings(f"{served}/absent.parquet")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nowhere://a/b.parquet", "nowhere.*expected a URL"),
        ("memory://not/there.parquet", "not there"),
        ("file:///not/there.parquet", "not there"),
        ("http://127.0.0.1:9/a.parquet", r"127\.0\.0\.1"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, told: str) -> None:
    if url.startswith("http"):
        pytest.importorskip("aiohttp")
    with pytest.raises(ArgumentError, match=told) as raised:
        open_embeddings(url)
    assert "\n" not in str(raised.value)
    with pytest.raises(ArgumentError):
        read_embeddings(url)


def test_what_is_no_table_of_embeddings(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.txt").write_text("a")
    for path in (tmp_path / "empty", tmp_path / "t.txt", tmp_path / "absent", tmp_path / "absent.npz"):
        with pytest.raises(ArgumentError, match=re.escape(str(path))):
            open_embeddings(path)
        assert not is_embeddings(path)


def test_what_is_hidden_is_not_read(tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "_data"  # what is above does not count
    for folder in ("a", ".ipynb_checkpoints", "_temporary/0", "a/.hidden"):
        (root / folder).mkdir(parents=True)
        pq.write_table(table(3), root / folder / "part.parquet")
    pq.write_table(table(3), root / "_draft.parquet")
    for path in (root, f"{root}/", f"file://{root}"):
        assert open_embeddings(path).rows == len(read_embeddings(path)) == 3


def test_a_folder_of_hugging_face_that_names_no_file(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "set", [table(5)])
    for files in ([{"name": "a.arrow"}], 3):
        (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": files}))
        with pytest.raises(ArgumentError, match=r"state\.json with .* as _data_files; expected a list"):
            open_embeddings(tmp_path / "set")
