"""Sets of boxes by their labels alone, and a folder of Pascal VOC small enough to train on within a test."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bisector.data.boxes import BoxSet, Picture

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (230, 40, 40)}
SPLITS = {"train": 16, "val": 6, "test": 6}
XML = "<annotation><filename>{file}</filename><size><width>{w}</width><height>{h}</height><depth>3</depth></size>"
OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin>"
    "<xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def write_voc(folder: Path, *, size: int = 64, seed: int = 0, splits: dict[str, int] = SPLITS) -> Path:
    """Write pictures of one to three rectangles on grey noise, red ones rare; every fifth picture has none."""
    draw = np.random.default_rng(seed)
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    number = 0
    for split, pictures in splits.items():
        names = []
        for _ in range(pictures):
            number += 1
            name = f"p{number:03}"
            names.append(name)
            _write_picture(folder, name, size, draw, empty=number % 5 == 0)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return folder


def _write_picture(folder: Path, name: str, size: int, draw: np.random.Generator, *, empty: bool) -> None:
    pixels = draw.integers(90, 160, size=(size, size, 3), dtype=np.uint8)
    objects = []
    for _ in range(0 if empty else draw.integers(1, 4)):
        colour = draw.choice(list(COLOURS), p=[0.45, 0.4, 0.15])
        width, height = draw.integers(size // 4, size // 2, size=2)
        left, top = draw.integers(0, size - width), draw.integers(0, size - height)
        pixels[top : top + height, left : left + width] = COLOURS[colour]
        box = (left + 1, top + 1, left + width, top + height)
        objects.append(OBJECT.format(*box, name=colour, difficult=0))
    Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
    text = XML.format(file=f"{name}.jpg", w=size, h=size) + "".join(objects) + "</annotation>\n"
    (folder / "Annotations" / f"{name}.xml").write_text(text)


def labelled(labels: list[list[int]], classes: int) -> BoxSet:
    """A set of pictures without files, from the labels of the boxes of each."""
    pictures, first = [], 1
    for number, own in enumerate(labels):
        box = torch.tensor([[1.0, 1, 5, 5]]).repeat(len(own), 1)
        pictures.append(Picture.of(number, f"{number}", 8, 8, box, torch.tensor(own).long(), first_id=first))
        first += len(own)
    return BoxSet(pictures, [f"c{c}" for c in range(classes)], name="x")
