"""Composed scenes, loaded as a user's plugin is: the file in examples/ with the options behind its name."""

from pathlib import Path

from bisector.data.boxes import BoxSplits, load_boxes

EXAMPLES = Path(__file__).parents[1] / "examples"
SCENES = str(EXAMPLES / "scenes" / "scenes.py")


def load_scenes(words: str, seed: int = 0) -> BoxSplits:
    """Load "scenes:option=value"."""
    name, *options = words.split(":")
    assert name == "scenes"
    return load_boxes(":".join([SCENES, *options]), seed=seed)
