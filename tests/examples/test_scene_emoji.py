import json
import os
import shutil
import stat
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from bisector.errors import ArgumentError
from scene_cases import load_scenes
from scenes.emoji import VENDORS, emoji_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for npm is a shell script")


def entry(number: int, group: str, **more: object) -> dict[str, object]:
    drawn = {f"has_img_{vendor}": True for vendor in VENDORS}
    of_emoji = {"short_name": f"e{number}", "image": f"{number}.png", "sort_order": number}
    return of_emoji | drawn | {"category": "Objects", "subcategory": group} | more


LIST = [
    entry(5, "tool"),
    entry(1, "tool"),
    entry(2, "fruit"),
    entry(3, "fruit"),
    entry(4, "letters", category="Symbols"),
    entry(6, "new", has_img_facebook=False),
    entry(7, "old", obsoleted_by="1F3C3"),
    entry(8, "fruit"),
]


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_data: Path) -> Path:
    """A stand-in that packs what lies in a folder, as the real one packs what it fetches; returns that folder."""
    packed = tmp_path / "packed"
    for vendor in VENDORS:
        images = tmp_path / vendor / "package" / "img" / vendor / "64"
        images.mkdir(parents=True)
        for each in LIST:
            Image.new("RGBA", (64, 64), (10 * int(each["sort_order"]), 0, 0, 255)).save(
                images / each["image"]
            )
        (tmp_path / vendor / "package" / "emoji.json").write_text(json.dumps(LIST))
        packed.mkdir(exist_ok=True)
        with tarfile.open(packed / f"emoji-datasource-{vendor}-16.0.0.tgz", "w:gz") as archive:
            archive.add(tmp_path / vendor / "package", "package")
    tools = tmp_path / "bin"
    tools.mkdir()
    script = tools / "npm"
    name = '$(echo "$2" | tr @ -)'
    script.write_text(
        f'#!/bin/sh\n[ -f "{packed}/{name}.tgz" ] || {{ echo "npm error code E404" >&2; exit 1; }}\n'
        f'cp "{packed}/{name}.tgz" "$5"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return packed


def test_classes_come_from_the_groups_in_turn(npm: Path) -> None:
    files = emoji_files(4)
    assert [name for name, _ in files] == ["e1", "e2", "e5", "e3"]
    assert [path.parent.name for path in files[0][1]] == list(VENDORS)
    assert all(path.is_file() for _, paths in files for path in paths)
    with pytest.raises(ArgumentError, match="classes: got 64; expected at most 5"):
        emoji_files()


def test_what_was_fetched_is_kept_and_nothing_else(npm: Path, no_data: Path) -> None:
    emoji_files(2)
    kept = sorted(path.relative_to(no_data).as_posix() for path in no_data.rglob("*") if path.is_file())
    images = [f"emoji-16.0.0/{vendor}/{number}.png" for vendor in VENDORS for number in (1, 2, 3, 5, 8)]
    assert kept == sorted([*images, "emoji-16.0.0/emoji.json"])
    shutil.rmtree(npm)
    emoji_files(2)


def test_a_fetch_that_breaks_off_leaves_nothing(npm: Path, no_data: Path) -> None:
    (npm / "emoji-datasource-twitter-16.0.0.tgz").unlink()
    with pytest.raises(
        ArgumentError, match=r"^data: the emoji set is not on this machine .*npm error code E404\)"
    ):
        load_scenes("scenes:classes=4")
    assert list(no_data.iterdir()) == []


def test_without_npm(no_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArgumentError, match=r"npm, which comes with Node\.js, is not on the PATH") as caught:
        load_scenes("scenes")
    assert "\n" not in str(caught.value)
    assert "put its files into" in str(caught.value)


@pytest.mark.slow
def test_real_emoji() -> None:
    """Where they have been fetched before: 340 MB are too much for a test."""
    from bisector.data.places import data_folders

    if not any((folder / "emoji-16.0.0" / "emoji.json").is_file() for folder in data_folders()):
        pytest.skip("the emoji set has not been fetched on this machine")
    data = load_scenes("scenes:pictures=200:validation=20:test=40:size=96")
    assert len(data.train.class_names) == 64
    assert data.train.left_out == ()
    assert int(data.test.counts.min()) >= 1
