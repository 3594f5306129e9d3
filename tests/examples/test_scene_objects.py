from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from scipy import ndimage

from bisector.errors import ArgumentError
from scene_cases import SCENES, load_scenes
from scenes.cutouts import posed, read_cutout, stands_out
from scenes.options import SceneOptions, read_options


def test_an_alpha_channel_is_the_mask(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[5:9, 10:22] = (200, 100, 50, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cutout = read_cutout(tmp_path / "a.png", 64)
    assert cutout.shape == (4, 12, 4)
    assert (cutout == (200, 100, 50, 255)).all()


def test_a_palette_with_a_transparent_colour_is_an_alpha_channel(tmp_path: Path) -> None:
    image = Image.new("P", (12, 12), 0)
    image.putpalette([255, 255, 255, 200, 0, 0])
    image.paste(1, (3, 4, 8, 10))
    image.save(tmp_path / "a.gif", transparency=0)
    assert read_cutout(tmp_path / "a.gif", 64).shape == (6, 5, 4)


@pytest.mark.parametrize("ground", [(255, 255, 255), (10, 60, 10)])
def test_a_border_of_one_colour_is_cut_away(tmp_path: Path, ground: tuple[int, int, int]) -> None:
    """What has the colour but lies within the object stays, as a window in a house."""
    noise = np.random.default_rng(0).integers(-8, 9, (40, 50, 3))
    pixels = np.clip(np.array(ground) + noise, 0, 255).astype(np.uint8)
    pixels[10:30, 15:40] = (180, 20, 20)
    pixels[15:20, 20:25] = ground
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cutout = read_cutout(tmp_path / "a.png", 64)
    assert cutout.shape == (20, 25, 4)
    assert (cutout[..., 3] == 255).all()


def test_without_a_border_of_one_colour_the_rectangle_is_the_object(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cutout = read_cutout(tmp_path / "a.png", 30)
    assert cutout.shape == (20, 30, 4)
    assert (cutout[..., 3] == 255).all()


@given(some.integers(3, 12), some.integers(3, 12), some.floats(0.05, 0.6), some.integers(0, 2**20))
def test_what_stands_out_is_what_scipy_labels(height: int, width: int, share: float, seed: int) -> None:
    ink = np.random.default_rng(seed).random((height, width)) < share
    ink[[0, -1]] = False
    ink[:, [0, -1]] = False
    image = np.where(ink[..., None], np.uint8(200), np.uint8(90)).repeat(3, axis=2)
    pieces, _ = ndimage.label(~ink)
    assert np.array_equal(stands_out(image), pieces != pieces[0, 0])


@given(
    some.integers(1, 40), some.integers(1, 40), some.integers(4, 60), some.floats(-180, 180), some.booleans()
)
def test_a_pose_has_the_size_and_no_margin(
    height: int, width: int, longest: int, angle: float, flip: bool
) -> None:
    image = posed(np.full((height, width, 4), 255, np.uint8), longest, angle, flip)
    mask = np.asarray(image.getchannel("A")) >= 128
    assert mask[0].any()
    assert mask[-1].any()
    assert mask[:, 0].any()
    assert mask[:, -1].any()
    assert max(image.size) <= 1.5 * longest + 2
    if not angle:
        assert max(image.size) == longest


def used(part) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for plan in part.plans.values():
        for placed in plan.placed:
            found.setdefault(placed.label, set()).add(placed.cutout)
    return found


def test_the_test_part_shows_objects_that_were_not_trained_on(shapes: Path, night: Path) -> None:
    words = (
        f"scenes:objects={shapes}:backgrounds={night}:pictures=60:validation=30:test=30:size=64:imbalance=1"
    )
    data = load_scenes(words)
    trained, chosen, tested = used(data.train), used(data.validation), used(data.test)
    for label in (1, 2, 3):
        assert len(trained[label]) == 3
        assert chosen[label] <= trained[label]
        assert len(tested[label]) == 1
        assert not tested[label] & trained[label]
    assert used(load_scenes(f"{words}:held_out=no").test)[1] == {0, 1, 2, 3}
    assert len(used(load_scenes(f"{words}:designs=2").train)[1]) == 1
    assert used(load_scenes(f"{words}:designs=1").test) == used(load_scenes(f"{words}:designs=1").train)


def test_a_folder_of_photographs_without_alpha(tmp_path: Path, night: Path, paint) -> None:
    for name, colour in {"dark": (90, 0, 0), "light": (0, 200, 0), "third": (0, 0, 90)}.items():
        for number in range(3):
            paint(tmp_path / name / "further down" / f"{number}.jpg", (40, 30), colour)
            pixels = np.array(Image.open(tmp_path / name / "further down" / f"{number}.jpg"))
            pixels[:15] = 255 - pixels[:15]  # the border has two colours
            Image.fromarray(pixels).save(tmp_path / name / "further down" / f"{number}.jpg")
    (tmp_path / "light" / "broken.jpg").write_bytes(b"no image")
    paint(tmp_path / "blank" / "white.png", (20, 20), (255, 255, 255))
    (tmp_path / "empty").mkdir()
    words = (
        f"scenes:objects={tmp_path}:backgrounds={night}:pictures=8:validation=2:test=4:size=64:imbalance=1"
    )
    data = load_scenes(f"{words}:rotation=0:fewest=1:most=1:smallest=0.5:largest=0.5")
    assert data.train.class_names == ("dark", "light", "third")
    assert data.train.left_out[0] == "blank/white.png: nothing stands out in it"
    assert data.train.left_out[1] == "class 'blank': no image that can be used"
    assert data.train.left_out[2].startswith("light/broken.jpg: cannot identify image file")
    assert len(data.train.left_out) == 3
    for picture in data.train:
        width, height = (picture.boxes[0, 2:] - picture.boxes[0, :2]).tolist()
        assert (width, height) == (32, 24)
    few = load_scenes(f"{words}:classes=3").train.class_names
    assert few == ("dark", "light", "third")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("scenes:sizes=9", "option of scenes: got 'sizes'; did you mean 'size'?"),
        ("scenes:size", f"data: got 'size' in '{SCENES}:size'; expected name:option=value"),
        ("scenes:size=64:size=65", "data: got size twice"),
        ("scenes:size=big", "size: got 'big'; expected an integer"),
        ("scenes:size=8", "size: got 8; expected an integer of at least 32"),
        ("scenes:largest=0.9", "largest: got 0.9; expected a finite number above 0 and of at most 0.7"),
        (
            "scenes:smallest=0.6",
            "smallest: got 0.6; expected a finite number of at least 0.025 and of at most 0.5",
        ),
        ("scenes:fewest=5:most=4", "most: got 4; expected an integer of at least 5"),
        ("scenes:imbalance=0.5", "imbalance: got 0.5"),
        ("scenes:flip=maybe", "flip: got 'maybe'; expected one of yes, no"),
        ("scenes:classes=1", "classes: got 1; expected an integer of at least 2"),
        ("scenes:objects=nowhere", "objects: got 'nowhere'; expected a folder that holds a folder of images"),
    ],
)
def test_specs_that_are_not_legal(spec: str, told: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        load_scenes(spec)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_too_few_classes(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"objects: got 3 class folders in .*; expected at least 4"):
        load_scenes(f"scenes:objects={shapes}:classes=4")
    with pytest.raises(ArgumentError, match=r"objects: got 0 class folders in .*; expected at least 2"):
        load_scenes(f"scenes:objects={tmp_path}")


def test_every_option_can_be_written_as_text() -> None:
    written = "objects=a:classes=3:brightness=0.1:flip=yes:held_out=no:imbalance=20"
    assert read_options(dict(word.split("=") for word in written.split(":"))) == SceneOptions(
        objects="a", classes=3, brightness=0.1, flip=True, held_out=False, imbalance=20.0
    )
