import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bisector.data.boxes import load_boxes
from bisector.errors import ArgumentError
from scene_cases import SCENES, load_scenes

CHANNEL = {"red": 0, "green": 1, "blue": 2}


def spec(shapes: Path, backgrounds: Path, *more: str) -> str:
    return ":".join(
        [f"scenes:objects={shapes}:backgrounds={backgrounds}:size=96:pictures=30:validation=8:test=12", *more]
    )


def test_boxes_hold_the_pixels_that_are_seen(shapes: Path, night: Path) -> None:
    """On black, a pixel's red is the share of it that a red object covers: no word of the plan is needed."""
    data = load_scenes(
        spec(shapes, night, "brightness=0", "rotation=40", "flip=yes", "fewest=3", "most=3", "imbalance=1")
    )
    names = data.train.class_names
    compared, covered = 0, 0
    for part in (data.train, data.validation, data.test):
        for index, picture in enumerate(part):
            pixels = part.image(index).numpy()
            for label, box, area in zip(picture.labels.tolist(), picture.boxes, picture.areas, strict=True):
                if picture.labels.tolist().count(label) > 1:  # two reds cannot be told apart
                    continue
                mask = pixels[CHANNEL[names[label - 1]]] >= 128
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                # Where two soft edges meet, half of a pixel can be a quarter of it.
                assert (seen - box).abs().max() <= 2, picture.file
                assert abs(float(area) - mask.sum()) <= 0.04 * float(area) + 8
                compared += 1
                covered += float(area) < 0.6 * float((box[2:] - box[:2]).prod())
    assert compared > 60
    assert covered > 10


def test_a_picture_alone_is_the_plan_of_its_objects(shapes: Path, night: Path) -> None:
    """One object a picture: the box is exact."""
    data = load_scenes(spec(shapes, night, "brightness=0", "fewest=1", "most=1", "imbalance=1")).train
    for index, picture in enumerate(data):
        mask = data.image(index).numpy().max(0) >= 128
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert picture.boxes.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
        assert abs(float(picture.areas) - mask.sum()) <= 1  # 127.5 is rounded
        longest = max(columns[-1] - columns[0], rows[-1] - rows[0]) + 1
        assert 0.17 * 96 <= longest <= 0.62 * 96  # turned by up to 15 degrees


def test_of_every_object_enough_is_seen(shapes: Path, night: Path) -> None:
    few = ("fewest=6", "most=6", "smallest=0.4", "largest=0.5", "rotation=0", "designs=1", "held_out=no")
    data = load_scenes(spec(shapes, night, *few, "visible=0.5")).train
    lengths = [placed.longest for plan in data.plans.values() for placed in plan.placed]
    whole = np.array(lengths) ** 2.0
    seen = torch.cat([picture.areas for picture in data]).numpy()
    assert len(seen) < 6 * 30  # where there is no place, an object is left out
    shares = seen / whole  # of the square around it, of which a shape fills a third or more
    assert shares.min() > 0.5 * 0.3


def test_the_same_in_another_process(shapes: Path, noise: Path) -> None:
    words = spec(shapes, noise, "flip=yes")
    code = (
        "import sys, hashlib; from bisector.data.boxes import load_boxes\n"
        "part = load_boxes(sys.argv[1], seed=3).test\n"
        "pixels = b''.join(part.image(i).numpy().tobytes() for i in reversed(range(len(part))))\n"
        "print(part.fingerprint(), hashlib.sha256(pixels).hexdigest())\n"
    )
    command = [sys.executable, "-c", code, words.replace("scenes", SCENES, 1)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    part = load_scenes(words, 3).test
    pixels = b"".join(part.image(i).numpy().tobytes() for i in reversed(range(len(part))))
    assert said == [part.fingerprint(), hashlib.sha256(pixels).hexdigest()]
    assert load_scenes(words, 4).test.fingerprint() != said[0]


def test_subsets_and_copies_compose_the_same_pictures(shapes: Path, noise: Path) -> None:
    whole = load_scenes(spec(shapes, noise)).train
    some = whole.subset([7, 2])
    copied = pickle.loads(pickle.dumps(some))
    for part in (some, copied):
        assert [picture.id for picture in part] == [8, 3]
        assert torch.equal(part.image(0), whole.image(7))
        assert torch.equal(part.image(1), whole.image(2))
    assert copied.fingerprint() == some.fingerprint() != whole.fingerprint()
    assert whole.image(0).shape == (3, 96, 96)
    assert whole.image(0).dtype == torch.uint8


def test_more_pictures_leave_the_layout_of_the_first_as_it_was(shapes: Path, noise: Path) -> None:
    """Numbers are drawn by (seed, part, index); only which class is dealt to a place depends on the whole."""
    few = load_scenes(spec(shapes, noise, "fewest=2", "most=2"), 1).train
    many = load_scenes(
        spec(shapes, noise, "fewest=2", "most=2").replace("pictures=30", "pictures=50"), 1
    ).train
    assert [few.plans[i].background for i in range(1, 31)] == [many.plans[i].background for i in range(1, 31)]


def test_pictures_without_an_object(shapes: Path, noise: Path) -> None:
    data = load_scenes(spec(shapes, noise, "fewest=0", "most=1")).train
    empty = [index for index, picture in enumerate(data) if not len(picture.labels)]
    assert 5 < len(empty) < 25
    assert data[empty[0]].boxes.shape == (0, 4)
    assert data.image(empty[0]).shape == (3, 96, 96)


def test_the_ground_truth_can_be_scored_against(shapes: Path, noise: Path) -> None:
    truth = load_scenes(spec(shapes, noise)).test.coco()
    assert [category["id"] for category in truth["categories"]] == [1, 2, 3]
    assert {category["frequency"] for category in truth["categories"]} <= {"r", "c", "f"}
    ids = [annotation["id"] for annotation in truth["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_backgrounds_that_come_with_scikit_learn(shapes: Path) -> None:
    data = load_scenes(
        f"scenes:objects={shapes}:pictures=3:validation=1:test=1:size=64:fewest=1:most=1:imbalance=1"
    )
    assert data.train.image(0).float().std() > 10


def test_backgrounds_of_the_data_sets(shapes: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BISECTOR_DATA", str(real_data))
    words = "scenes:backgrounds=coco128:pictures=3:validation=1:test=3:size=64:fewest=1:most=1:imbalance=1"
    assert load_scenes(f"{words}:objects={shapes}").train.image(0).float().std() > 5


def test_backgrounds_that_are_not_there(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="backgrounds: got 'nowhere'; expected a folder of photographs"):
        load_scenes(f"scenes:objects={shapes}:backgrounds=nowhere")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ArgumentError, match="backgrounds: got no image that can be read in"):
        load_scenes(f"scenes:objects={shapes}:backgrounds={tmp_path}")


def test_ids_are_different_in_every_part(shapes: Path, noise: Path) -> None:
    words = "size=64:classes=2:pictures=5:validation=3:test=4"
    splits = load_scenes(f"scenes:objects={shapes}:backgrounds={noise}:{words}")
    parts = (splits.train, splits.validation, splits.test)
    assert [picture.id for part in parts for picture in part] == list(range(1, 13))
    assert [part[0].file for part in parts] == ["train/000001", "validation/000001", "test/000001"]
    assert splits.test.subset([2]).image(0).equal(splits.test.image(2))


def test_a_long_tail_of_the_command_line_thins_training_alone(shapes: Path, night: Path) -> None:
    alone = "size=64:pictures=90:validation=9:test=9:imbalance=1:fewest=1:most=1"
    words = f"{SCENES}:objects={shapes}:backgrounds={night}:{alone}"
    whole, thinned = load_boxes(words), load_boxes(words, imbalance=8)
    assert whole.train.counts.tolist() == [30, 30, 30]
    assert sorted(thinned.train.counts.tolist()) == [4, 11, 30]
    assert torch.equal(thinned.validation.counts, whole.validation.counts)
    assert torch.equal(thinned.train.image(0), whole.train.image(int(thinned.train[0].id) - 1))
