"""Files cut short and bytes turned over: one line that names the file and the group, and never other numbers in
silence where the format has a checksum."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisector.data.tables import open_embeddings, read_embeddings
from bisector.errors import ArgumentError

ROWS, GROUP = 40, 10


def table() -> pa.Table:
    vectors = np.random.default_rng(0).normal(size=(ROWS, 6)).astype(np.float32)
    return pa.table({"embedding": vectors.tolist(), "label": np.arange(ROWS) % 3})


def write(path: Path, rows: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(rows, path, row_group_size=GROUP, compression="none", write_page_checksum=True)
    elif path.suffix == ".npz":
        save = np.savez_compressed if "packed" in path.name else np.savez
        save(path, embeddings=np.array(rows["embedding"].to_pylist()), labels=rows["label"].to_numpy())
    else:
        new = pa.ipc.new_file if path.suffix == ".feather" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as file, new(file, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=GROUP)


def numbers(path: Path) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(open_embeddings(path).chunks())
    return (
        np.concatenate([chunk.embeddings for chunk in chunks]),
        np.concatenate([chunk.labels for chunk in chunks]),
    )


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.arrow", "a.npz", "packed.npz"])
def test_a_file_cut_short_anywhere(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, table())
    whole = (tmp_path / name).read_bytes()
    for size in {0, 1, 7, len(whole) - 1, *range(11, len(whole), max(len(whole) // 40, 1))}:
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(ArgumentError, match=name) as raised:
            numbers(tmp_path / name)
        assert "\n" not in str(raised.value)
        with pytest.raises(ArgumentError):
            read_embeddings(tmp_path / name)


def test_a_pair_cut_short(tmp_path: Path) -> None:
    for name, array in (("embeddings", np.ones((30, 4), np.float32)), ("labels", np.zeros(30, np.int64))):
        np.save(tmp_path / f"{name}.npy", array)
    for name in ("embeddings", "labels"):
        file = tmp_path / f"{name}.npy"
        whole = file.read_bytes()
        file.write_bytes(whole[:-5])
        with pytest.raises(ArgumentError, match=rf"{name}\.npy"):
            numbers(tmp_path)
        file.write_bytes(whole)


def test_a_stream_cut_between_two_batches(tmp_path: Path) -> None:
    """A reader of Arrow takes this for the end."""
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table().schema) as writer:
        for batch in table().to_batches(GROUP)[:3]:
            writer.write_batch(batch)
        whole_batches = file.tell()
    path.write_bytes(path.read_bytes()[:whole_batches])
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 30
    with pytest.raises(ArgumentError, match=r"a\.arrow, cut short after record batch 2"):
        open_embeddings(path)


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("group", [0, 2, 3])
def test_a_byte_turned_over_in_a_row_group(tmp_path: Path, group: int, column: int) -> None:
    path = tmp_path / "a.parquet"
    write(path, table())
    expected = numbers(path)
    about = pq.ParquetFile(path).metadata.row_group(group).column(column)
    starts = [about.data_page_offset, about.dictionary_page_offset]
    first = min(start for start in starts if start is not None)
    whole = path.read_bytes()
    values = first + about.total_compressed_size - 1  # of the last page: never of a header
    positions = random.Random(group).sample(range(first, first + about.total_compressed_size), 12)
    for position in [values, *positions]:
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            found = numbers(path)
        except ArgumentError as error:
            assert f"a.parquet, row group {group}, " in str(error), error  # noqa: PT017
        else:
            assert position != values
            assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["a.npz", "packed.npz"])
def test_a_byte_turned_over_in_an_archive(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, table())
    expected = numbers(path)
    whole = path.read_bytes()
    for position in random.Random(1).sample(range(len(whole)), 60):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            found = numbers(path)
        except ArgumentError as error:
            assert name in str(error) or "holds" in str(error), error  # noqa: PT017
        else:
            assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["a.feather", "a.arrow"])
def test_the_lengths_of_a_damaged_batch_are_not_believed(tmp_path: Path, name: str) -> None:
    """Arrow has no checksums, but a length that points out of the batch would read what is not ours."""
    path = tmp_path / name
    write(path, table())
    whole = path.read_bytes()
    offsets = np.arange(0, 6 * GROUP + 1, 6, dtype=np.int32).tobytes()
    places = [at for at in range(len(whole)) if whole.startswith(offsets, at)]
    assert len(places) == ROWS // GROUP
    damaged = bytearray(whole)
    damaged[places[2] + 4 * GROUP + 3] = 0x7F
    path.write_bytes(damaged)
    with pytest.raises(ArgumentError, match=rf"{name}, record batch 2, cannot be read"):
        numbers(path)


def test_vectors_of_two_lengths_name_the_row_group(tmp_path: Path) -> None:
    rows = {"embedding": [[1.0, 2.0]] * 5 + [[1.0]], "label": [0] * 6}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=2)
    with pytest.raises(
        ArgumentError, match=r"a\.parquet, row group 2, column 'embedding': got vectors of 1 to 2"
    ):
        numbers(tmp_path / "a.parquet")


def test_a_file_that_changed_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, table())
    stored = open_embeddings(path)
    write(path, table().slice(0, 15))
    with pytest.raises(ArgumentError, match=r"a\.parquet"):
        list(stored.chunks())
    path.unlink()
    with pytest.raises(ArgumentError, match=r"a\.parquet"):
        list(stored.chunks())


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.arrow", "a.npz", "packed.npz"])
def test_bits_turned_over_anywhere_are_one_line_or_nothing(tmp_path: Path, name: str) -> None:
    words = pa.table(
        {**{column: table()[column] for column in ("embedding",)}, "label": ["é", "ü", "a", "b"] * 10}
    )
    write(tmp_path / name, table() if name.endswith(".npz") else words)
    whole = (tmp_path / name).read_bytes()
    draw = random.Random(0)
    for _ in range(150):  # the notes of Arrow's formats, names of columns among them, stand near both ends
        damaged = bytearray(whole)
        edge = min(int(draw.expovariate(1 / 300)), len(whole) - 1)
        damaged[draw.choice((edge, len(whole) - 1 - edge))] ^= 1 << draw.randrange(8)
        (tmp_path / name).write_bytes(damaged)
        for read in (numbers, read_embeddings):
            try:
                read(tmp_path / name)
            except ArgumentError as error:
                assert name in str(error)  # noqa: PT017, most of the damage is of no consequence
