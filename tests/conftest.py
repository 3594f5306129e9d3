import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

from bisector.cli.main import main

# Property tests: the same few examples in every run; --hypothesis-profile=thorough draws many new ones.
settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data sets; tests that need one are skipped where it is absent."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("BISECTOR_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: set BISECTOR_DATA, or put them into {beside}")
    return folder


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A user who has no data sets, and an empty cache."""
    monkeypatch.delenv("BISECTOR_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bisector"


@pytest.fixture
def paint():
    """Writes an image of one colour: `paint(path, size, colour, mode, **options of Pillow's save)`."""

    def painted(path, size=(8, 8), colour=(200, 100, 50), mode="RGB", **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(path, **options)
        return path

    return painted


@pytest.fixture
def paint_classes(paint):
    """Writes numbered images into folders: `paint_classes(root, {"a": 6, "train/b": 3}, suffix, ...)`."""

    def painted(root, counts, suffix="png", **options):
        for name, count in counts.items():
            for number in range(count):
                paint(root / name / f"{number}.{suffix}", **options)
        return root

    return painted


@pytest.fixture
def encode():
    """Encodes an array (height, width[, 3]) without loss."""

    def encoded(pixels, kind="PNG", **options):
        stream = io.BytesIO()
        Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, kind, **options)
        return stream.getvalue()

    return encoded


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; returns the one line that it says: `refused(words)`."""

    def said(words):
        capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as end:  # argparse leaves this way
            code = int(str(end.code))
        told = capsys.readouterr().err
        assert code == 2, told
        assert told.count("\n") == 1, told
        assert told.startswith("bisector"), told
        return told

    return said
