"""Pictures on a measurement's page, of real files and of a data set."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bisector.data.registry import load
from bisector.data.tables import EmbeddingTable
from bisector.errors import ArgumentError
from bisector.measurement.label_errors import LabelErrors, Suspect
from bisector.measurement.measure import measure
from bisector.report import measurement_pictures
from bisector.report.measurement import render_measurement
from bisector.report.measurement_pictures import picture_reader, pictures_of

COLORS = {"crow": (200, 30, 30), "owl": (30, 160, 60), "wren": (40, 60, 200)}


def table_of(names, labels, classes, **more) -> EmbeddingTable:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(len(labels), 12, generator=random) + 3 * torch.nn.functional.one_hot(labels, 12)
    predictions = labels.clone()
    predictions[::3] = (labels[::3] + 1) % len(classes)
    return EmbeddingTable(x, labels, classes, predictions=predictions, names=names, **more)


def opened(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@pytest.fixture
def birds(tmp_path):
    """A folder of images of one colour a class, and a table whose rows are named as `bisector embed` names them."""
    names, labels = [], []
    for c, (name, color) in enumerate(COLORS.items()):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for k in range(20):
            Image.new("RGB", (40 + k, 30), color).save(tmp_path / "birds" / name / f"{k}.png")
            names.append(f"birds/{name}/{k}.png")
            labels.append(c)
    return table_of(names, torch.tensor(labels), tuple(COLORS), data=str(tmp_path / "birds"))


def test_files_that_rows_are_named_after_are_shown_with_their_class(birds):
    found = measure(birds)
    pictures = pictures_of(birds, found, picture_reader(birds))
    titles = [album.title for album in pictures.albums]
    assert sum(title.startswith("Wrong rows of") for title in titles) == 3
    assert any(title.startswith("Confused: ") for title in titles)
    for album in pictures.albums:
        for one in album.thumbnails:
            label = one.name.split("/")[1]
            image = opened(one.uri)
            assert image.size == (144, 144)
            np.testing.assert_allclose(image.getpixel((72, 72)), COLORS[label], atol=6)
            assert one.alternative == f"{one.name}, labelled {label}"
    page = render_measurement(found, pictures)
    shown = sum(len(album.thumbnails) for album in pictures.albums)
    assert len(re.findall(r'<img src="data:image/jpeg[^>]* width="96" height="96" alt="', page)) == shown > 10


@pytest.mark.parametrize("agreement", [0.79, 0.81])
def test_suspected_labels_have_pictures_where_their_judge_is_reliable(birds, agreement):
    found = measure(birds)
    suspects = [Suspect(k, birds.names[k], "", "crow", "owl", 0.1 * k, "embeddings") for k in range(3)]
    found = replace(found, label_errors=LabelErrors(suspects, 60, agreement, []))
    pictures = pictures_of(birds, found, picture_reader(birds))
    shown = [album for album in pictures.albums if album.title.startswith("Suspected labels")]
    told = "No pictures of suspected labels: their judge is unreliable, it agrees with 79.0 % of the labels."
    if agreement < 0.8:
        assert (shown, pictures.told) == ([], told)
        assert told in render_measurement(found, pictures)
    else:
        assert [one.name for album in shown for one in album.thumbnails] == birds.names[:3]
        assert "unreliable" not in pictures.told


def test_together_they_keep_within_their_bytes_and_what_is_missing_is_said(birds, tmp_path, monkeypatch):
    (tmp_path / "birds" / "crow" / "0.png").unlink()
    (tmp_path / "birds" / "owl" / "1.png").write_bytes(b"no image")
    monkeypatch.setattr(measurement_pictures, "BYTES", 9000)
    found = measure(birds)
    pictures = pictures_of(birds, found, picture_reader(birds))
    assert 0 < sum(len(one.uri) for album in pictures.albums for one in album.thumbnails) <= 9000
    assert "without a picture that can be read" in pictures.told
    assert "left out: all together may take" in pictures.told
    assert pictures.told in render_measurement(found, pictures)


def test_a_data_set_is_found_by_part_and_name():
    digits = load("digits")
    names = [digits.test.examples.name(k) for k in range(len(digits.test))]
    table = table_of(
        names, digits.test.labels, digits.class_names, splits=["test"] * len(names), data="digits"
    )
    assert pictures_of(table, measure(table), picture_reader(table)).albums == []
    read = picture_reader(table, "digits")
    for row in (0, 77, 500):
        cells = np.asarray(read(row).convert("L"))[9::18, 9::18]
        expected = digits.test.examples.batch(torch.tensor([row]))[0, 0].mul(255).round().numpy()
        np.testing.assert_allclose(cells, expected, atol=1)


def test_pictures_of_other_data_are_refused(birds, tmp_path):
    for images, told in ((str(tmp_path / "nowhere"), "nowhere"), ("digits", "no row is found by its name")):
        with pytest.raises(ArgumentError, match=told):
            picture_reader(birds, images)
