import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from bisector.data.registry import load
from bisector.errors import ArgumentError
from kanji import FONT_PACKAGES, KANJI, Design, distinct_designs, draw, font_files, kanji

PLUGIN = Path(__file__).parents[2] / "examples" / "kanji.py"
SAMPLE = KANJI[::40]
SIZE = 24


@pytest.fixture(scope="module")
def designs() -> list[Design]:
    """The first six designs of this computer, each of another folder: found without looking at every font."""
    folders: dict[Path, Path] = {}
    for file in font_files():
        folders.setdefault(file.parent, file)
    found, _ = distinct_designs(list(folders.values())[:40], SAMPLE)
    if len(found) < 6:
        pytest.skip(
            f"needs 6 font designs with kanji, found {len(found)}: apt-get install {' '.join(FONT_PACKAGES)}"
        )
    return found[:6]


@pytest.fixture(scope="module")
def folder(designs: list[Design], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("fonts")
    for design in designs:
        shutil.copy(design.file, folder)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "bisector"


def test_the_classes_are_the_first_level_of_the_standard() -> None:
    assert len(KANJI) == len(set(KANJI)) == 2965
    assert (KANJI[0], KANJI[-1]) == ("亜", "腕")  # first and last as printed in JIS X 0208
    assert all(0x4E00 <= ord(character) <= 0x9FFF for character in KANJI)
    assert all(len(character.encode("iso2022_jp")) == 8 for character in KANJI)  # escape, two bytes, escape


def test_characters_lie_in_the_middle_and_fill_the_image(designs: list[Design]) -> None:
    for design in designs:
        images = draw(design, SAMPLE, SIZE)
        assert images.shape == (len(SAMPLE), SIZE, SIZE)
        extents = []
        for image in images[images.any(axis=(1, 2))]:
            for axis in (0, 1):
                ink = np.flatnonzero(image.any(axis=axis))
                extents.append(ink[-1] - ink[0] + 1)
                assert abs(ink[0] - (SIZE - 1 - ink[-1])) <= 1, design.name
        assert SIZE * 0.75 <= np.percentile(extents, 95) <= SIZE, design.name


def test_what_a_font_does_not_have_is_blank(designs: list[Design]) -> None:
    """Fontconfig reads the fonts' own tables: where these say no, no box may be taken for a character."""
    if not shutil.which("fc-query"):
        pytest.skip("needs fontconfig's fc-query")
    files = [design.file for design in designs] + [
        file for file in font_files() if file.name in {"gbsn00lp.ttf", "cwming.ttf", "SmileySans-Oblique.ttf"}
    ]
    for file in files:
        listed = subprocess.run(
            ["fc-query", "--index=0", "--format=%{charset}", str(file)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        ranges = [tuple(int(end, 16) for end in part.split("-")) for part in listed.split()]
        has = np.array([any(r[0] <= ord(c) <= r[-1] for r in ranges) for c in SAMPLE])
        drawn = draw(Design(file.name, file), SAMPLE, SIZE).any(axis=(1, 2))
        assert not (drawn & ~has).any(), file.name
        assert drawn[has].mean() > 0.95, file.name


def test_twins_and_files_that_are_no_fonts_are_left_out(designs: list[Design], tmp_path: Path) -> None:
    first, second = designs[0].file, designs[1].file
    shutil.copy(first, tmp_path / f"a{first.suffix}")
    shutil.copy(first, tmp_path / f"b{first.suffix}")
    shutil.copy(second, tmp_path / f"c{second.suffix}")
    (tmp_path / "d.ttf").write_bytes(b"no font at all")
    (tmp_path / f"e{second.suffix}").symlink_to(tmp_path / f"c{second.suffix}")
    files = font_files([tmp_path])
    assert [file.stem for file in files] == ["a", "b", "c", "d"]
    kept, left_out = distinct_designs(files, SAMPLE)
    assert [design.file.stem for design in kept] == ["a", "c"]
    assert left_out == [f"font b{first.suffix}: draws nearly as a{first.suffix} does"]


def test_a_font_without_kanji_is_not_worth_a_word(designs: list[Design]) -> None:
    letters = [file for file in font_files() if file.name in {"DejaVuSans.ttf", "LiberationSans-Regular.ttf"}]
    if not letters:
        pytest.skip("needs a font without kanji")
    assert distinct_designs(letters, SAMPLE) == ([], [])


def test_the_data_set(folder: Path, cache: Path, designs: list[Design]) -> None:
    source = kanji(image_size=12, folders=[folder])
    assert source.class_names == KANJI
    assert source.examples.shape == (1, 12, 12)
    assert len(source.examples) >= 0.95 * 6 * 2965
    batch = source.examples.batch(torch.arange(500))
    assert batch.dtype == torch.float32
    assert 0 <= batch.min() < 0.1
    assert 0.9 < batch.max() <= 1
    assert batch.flatten(1).any(dim=1).all()
    names = [source.examples.name(row) for row in range(len(source.examples))]
    assert len(set(names)) == len(names)
    assert names[0] == f"{KANJI[int(source.labels[0])]} in {designs[0].name}"
    assert {name.split(" in ", 1)[1] for name in names} == {design.name for design in designs}

    stored = list(cache.glob("glyphs-*.npz"))
    assert len(stored) == 1
    written = stored[0].stat().st_mtime_ns
    again = kanji(image_size=12, folders=[folder])
    assert torch.equal(again.examples.batch(torch.arange(500)), batch)
    assert torch.equal(again.labels, source.labels)
    assert again.left_out == source.left_out
    assert stored[0].stat().st_mtime_ns == written


def test_other_fonts_are_drawn_anew(folder: Path, cache: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for file in font_files([folder])[:5]:
        shutil.copy(file, fewer)
    kanji(image_size=8, folders=[fewer])
    kanji(image_size=9, folders=[fewer])
    next(fewer.iterdir()).unlink()
    with pytest.raises(ArgumentError, match=r"kanji with 4 font designs .* apt-get install fonts-") as caught:
        kanji(image_size=8, folders=[fewer])
    assert "\n" not in str(caught.value)
    assert len(list(cache.iterdir())) == 2


def test_processes_that_begin_together_get_the_same(folder: Path, cache: Path) -> None:
    code = (
        "import sys, hashlib; from pathlib import Path; from kanji import kanji\n"
        "source = kanji(image_size=8, folders=[Path(sys.argv[1])])\n"
        "import torch\n"
        "pixels = source.examples.batch(torch.arange(len(source.labels)))\n"
        "print(hashlib.sha256(pixels.numpy().tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(folder)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PLUGIN.parent) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1] != ""
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


@pytest.mark.parametrize(("size", "told"), [(7, "of at least 8"), (97, "of at most 96"), (9.5, "an integer")])
def test_sizes_that_are_not_legal(size: int, told: str) -> None:
    with pytest.raises(ArgumentError, match=f"image_size: got {size}; expected .*{told}"):
        kanji(image_size=size)


@pytest.mark.slow
def test_all_designs_of_this_computer(designs: list[Design], cache: Path) -> None:
    """The parts never share an image."""
    data = load(PLUGIN, imbalance=4, seed=1)
    parts = [data.train, data.validation, data.test]
    drawn = [Counter(part.examples.name(row) for row in range(len(part))) for part in parts]
    together = sum(drawn, Counter())
    assert max(together.values()) == 1
    assert data.num_classes == len(data.class_names) == 2965
    assert int(data.train_counts.min()) >= 1
    assert int(data.train_counts.max()) > int(data.train_counts.min())
    for part in parts:
        rows = torch.arange(0, len(part), 997)
        first = [part.examples.name(int(row))[0] for row in rows]
        assert first == [data.class_names[label] for label in part.labels[rows].tolist()]
