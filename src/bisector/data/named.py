"""The data sets that have a name: of each a function, called like it, which finds or downloads it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bisector.data.examples import InMemory
from bisector.data.idx import find_idx_images, idx_source
from bisector.data.image_examples import Reading
from bisector.data.parquet_images import parquet_image_source
from bisector.data.places import DATA_FOLDER, data_folders, download
from bisector.data.source import PARTS, Source
from bisector.data.torchvision_cifar import cifar_source, find_cifar
from bisector.errors import missing_extra

FASHION_MNIST = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist


def digits(reading: Reading) -> Source:
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998).

    30% of each class are for test and 10% for validation, in the proportions of the whole, drawn from the seed.
    Pixels are scaled from 0..16 to 0..1.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    pixels, targets = load_digits(return_X_y=True)
    seed = reading.seed
    rest, test = train_test_split(range(len(targets)), test_size=0.3, stratify=targets, random_state=seed)
    train, validation = train_test_split(rest, test_size=1 / 7, stratify=targets[rest], random_state=seed)
    order = [*train, *validation, *test]
    sizes = [len(train), len(validation), len(test)]
    images = torch.from_numpy(pixels[order] / 16).float().reshape(-1, 1, 8, 8)
    return Source(
        examples=InMemory(images, [str(row) for row in order]),
        labels=torch.from_numpy(targets[order]).long(),
        class_names=tuple("0123456789"),
        parts=dict(zip(PARTS, torch.split(torch.arange(len(order)), sizes), strict=True)),
    )


def fashion_mnist(reading: Reading) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 gray images of 28 x 28, ten kinds of clothes (Xiao et al. 2017).

    Its idx files are those of Debian's package dataset-fashion-mnist, of a folder fashion-mnist of the user's, or
    torchvision's download.
    """
    folders = [folder / name for folder in data_folders() for name in ("fashion-mnist", "FashionMNIST/raw")]
    place = _first([folders[0], _DEBIAN, *folders[1:]], lambda folder: bool(find_idx_images(folder)))
    if place is None:
        hints = [f"${DATA_FOLDER}/fashion-mnist", f"{_DEBIAN} (Debian's package dataset-fashion-mnist)"]
        fetch = _by_torchvision("FashionMNIST")
        place = download("fashion-mnist", fetch, "FashionMNIST", hints) / "raw"
    return idx_source(place, FASHION_MNIST)


def cifar10(reading: Reading) -> Source:
    """CIFAR-10: 50,000 + 10,000 colour images of 32 x 32, ten kinds of things (Krizhevsky 2009)."""
    return _cifar("cifar10", "cifar-10-batches-py", reading)


def cifar100(reading: Reading) -> Source:
    """CIFAR-100: 50,000 + 10,000 colour images of 32 x 32, a hundred kinds of things (Krizhevsky 2009)."""
    return _cifar("cifar100", "cifar-100-python", reading)


def _cifar(name: str, wanted: str, reading: Reading) -> Source:
    def there(folder: Path) -> bool:
        return find_cifar(folder) is not None or any(folder.rglob("*.parquet"))

    place = _first([folder / inner for folder in data_folders() for inner in (name, wanted)], there)
    if place is None:
        hints = [f"${DATA_FOLDER}/{name} (Parquet or {wanted})"]
        place = download(name, _by_torchvision(name.upper()), wanted, hints)
    files = find_cifar(place)
    if files is not None:
        return cifar_source(files)
    return parquet_image_source(sorted(place.rglob("*.parquet")), place, reading)


def _by_torchvision(kind: str) -> Callable[[str], object]:
    def fetch(folder: str) -> None:
        from torchvision import datasets

        getattr(datasets, kind)(folder, download=True)

    return fetch


def _first(folders: Sequence[Path], there: Callable[[Path], bool]) -> Path | None:
    return next((folder for folder in folders if folder.is_dir() and there(folder)), None)
