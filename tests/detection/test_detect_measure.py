"""What a detector makes of the true boxes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms.functional import resize

from bisector.data.boxes import BoxSet, BoxSplits, Picture, load_boxes
from bisector.data.tables import read_embeddings
from bisector.detection.attaching import attach
from bisector.detection.data import pixels
from bisector.detection.models import build_detector
from bisector.detection.predict import (
    class_logits,
    classify_truth,
    embed_truth,
    write_box_embeddings,
)
from bisector.errors import ArgumentError
from tiny_boxes import write_voc


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> BoxSplits:
    return load_boxes(str(write_voc(tmp_path_factory.mktemp("voc"))))


def network(head: str = "igam", **options: Any) -> Any:
    torch.manual_seed(2)
    model: Any = attach(build_detector("small-fpn", 4, image_size=96), head, **options)
    return model.eval()


def test_embeddings_are_those_of_the_boxes_in_order(splits: BoxSplits) -> None:
    model = network().train()
    found = list(embed_truth(model, splits.test, batch_size=4))
    assert model.training
    model.eval()
    embeddings, labels = (torch.cat([batch[k] for batch in found]) for k in (0, 1))
    names = [name for batch in found for name in batch[2]]
    row = 0
    for index, picture in enumerate(splits.test):
        image = resize(pixels([splits.test.image(index)])[0], [96, 96], antialias=False)
        normal = (image - torch.tensor(model.transform.image_mean)[:, None, None]) / torch.tensor(
            model.transform.image_std
        )[:, None, None]
        with torch.no_grad():
            features = model.backbone(normal[None])
            for box, label, annotation in zip(picture.boxes, picture.labels, picture.ids, strict=True):
                pooled = model.roi_heads.box_roi_pool(features, [box[None] * 1.5], [(96, 96)])
                torch.testing.assert_close(
                    embeddings[row], model.roi_heads.box_head(pooled)[0], rtol=1e-3, atol=1e-4
                )
                assert labels[row] == label
                assert names[row] == f"{picture.file}#{annotation}"
                row += 1
    assert row == len(embeddings) == len(names)


@pytest.mark.parametrize("head", ["igam", "linear", "igam+objectness"])
def test_the_table_is_one_of_measure(splits: BoxSplits, tmp_path: Path, head: str) -> None:
    name, plus, _ = head.partition("+")
    model = network(name, objectness=bool(plus))
    seen: list[int] = []
    file = tmp_path / "embeddings.parquet"
    rows = write_box_embeddings(
        model, splits, file, model="run", data="voc", batch_size=5, progress=seen.append
    )
    table = read_embeddings(file)
    parts = (splits.train, splits.validation, splits.test)
    assert rows == len(table) == sum(int(part.counts.sum()) for part in parts)
    assert sum(seen) == sum(map(len, parts))
    assert table.class_names == splits.train.class_names
    assert (table.model, table.data) == ("run", "voc")
    for part in ("train", "validation", "test"):
        boxes = getattr(splits, part)
        assert torch.equal(torch.bincount(table.labels[table.rows_of(part)], minlength=3), boxes.counts)
    logits = class_logits(model, table.embeddings)
    assert logits.shape == (rows, 3)
    assert table.predictions is not None
    assert torch.equal(table.predictions, logits.argmax(1))

    accuracy = classify_truth(model, splits.test)
    tested = table.rows_of("test")
    right = (table.predictions == table.labels)[tested].double().mean()
    assert accuracy.accuracy == pytest.approx(float(right))
    shared = [embed_truth(model, splits.test, batch_size=2, rank=r, world_size=4) for r in range(4)]
    drawn = [label for share in shared for _, labels, _ in share for label in labels.tolist()]
    assert sorted(drawn) == sorted((table.labels[tested] + 1).tolist())


def test_one_class_is_told_apart_from_nothing() -> None:
    box = torch.tensor([[1.0, 1, 5, 5]])
    alone = BoxSet([Picture.of(1, "a.jpg", 8, 8, box, torch.tensor([1]))], ["thing"], name="one")
    assert classify_truth(None, alone) is None


def test_a_part_without_boxes_is_refused(splits: BoxSplits, tmp_path: Path) -> None:
    empty = splits.test.subset([i for i, picture in enumerate(splits.test) if not len(picture.labels)])
    none = BoxSplits(splits.train, empty, empty)
    with pytest.raises(ArgumentError, match="no box in test"):
        write_box_embeddings(network(), none, tmp_path / "e.parquet", parts=("test",))
    assert classify_truth(network(), empty).accuracy != classify_truth(network(), empty).accuracy  # NaN
    assert not list(tmp_path.iterdir())
