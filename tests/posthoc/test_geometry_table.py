"""The geometry of a stored table beside that of its rows in memory."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from bisector.data.tables import EmbeddingTable, read_embeddings, write_embeddings
from bisector.errors import ArgumentError
from bisector.information.geometry import ClassGeometry
from bisector.posthoc import geometry_of_table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Rows of six classes in row groups of 70, some without a vector; one class has more than 2 D rows."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([12.0, 1, 1, 1, 1, 1]), 900, replacement=True, generator=draw)
    vectors = torch.randn(900, 40, generator=draw) + 5 * torch.randn(6, 40, generator=draw)[labels]
    vectors[[4, 300]] = torch.nan
    splits = [("train", "test")[k] for k in torch.randint(2, (900,), generator=draw).tolist()]
    file = tmp_path / "t.parquet"
    write_embeddings(EmbeddingTable(vectors, labels, tuple("abcdef"), splits=splits), file)
    pq.write_table(pq.read_table(file), file, row_group_size=70)
    return file


@pytest.mark.parametrize("scale", ["raw", "unit"])
@pytest.mark.parametrize("split", ["train", "test", None])
def test_it_is_that_of_the_rows(path: Path, split: str | None, scale: str, monkeypatch) -> None:
    monkeypatch.setattr("bisector.data.tables.reader.ROWS", 50)  # chunks of a few rows
    table = read_embeddings(path)
    rows = torch.arange(len(table)) if split is None else table.rows_of(split)
    expected = ClassGeometry.fit(table.embeddings[rows], table.labels[rows], 6, scale=scale, kappa=2.0)
    found = geometry_of_table(path, split, scale=scale, kappa=2.0)
    assert torch.equal(found.counts, expected.counts)
    torch.testing.assert_close(found.means, expected.means, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.log_volume, expected.log_volume, rtol=1e-6, atol=1e-6)
    few = torch.where((found.counts > 1) & (found.counts <= 2 * 40))[0].tolist()
    assert len(few) == 5
    for c in few:
        torch.testing.assert_close(found.means[c], expected.means[c], rtol=1e-12, atol=1e-12)
        own = [
            one.covariance(c) - one.pooled_covariance * 2 / (one.counts[c] + 2) for one in (found, expected)
        ]
        torch.testing.assert_close(own[0], own[1], rtol=1e-12, atol=1e-12)


def test_what_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(ArgumentError, match="without rows of it; expected one"):
        geometry_of_table(path, "validation")
    with pytest.raises(ArgumentError, match="split: got 'tests'; did you mean 'test'"):
        geometry_of_table(path, "tests")
