from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of one pure colour each, four shapes in each, with an alpha channel."""
    folder: Path = tmp_path_factory.mktemp("shapes")
    outlines = {
        "disc": lambda draw, colour: draw.ellipse((4, 8, 59, 51), fill=colour),
        "triangle": lambda draw, colour: draw.polygon(((2, 60), (60, 56), (30, 3)), fill=colour),
        "bar": lambda draw, colour: draw.rectangle((20, 2, 40, 61), fill=colour),
        "bow": lambda draw, colour: draw.polygon(((5, 5), (58, 58), (58, 5), (5, 58)), fill=colour),
    }
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for shape, outline in outlines.items():
            image = Image.new("RGBA", (64, 64))
            outline(ImageDraw.Draw(image), (*colour, 255))
            image.save(folder / name / f"{shape}.png")
    return folder


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one black photograph."""
    folder: Path = tmp_path_factory.mktemp("night")
    Image.new("RGB", (90, 70)).save(folder / "black.png")
    return folder


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs of noise, one of them further down."""
    folder: Path = tmp_path_factory.mktemp("noise")
    (folder / "more").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 100, 140, 3), np.uint8)
    Image.fromarray(pixels[0]).save(folder / "a.png")
    Image.fromarray(pixels[1]).save(folder / "more" / "b.png")
    return folder
