"""The data sets that have a name: looked for where they may lie, and else downloaded."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bisector.data.idx import find_idx_images, idx_source
from bisector.data.image_examples import Reading
from bisector.data.parquet_images import parquet_image_source
from bisector.data.places import DATA_FOLDER, data_folders, download
from bisector.data.source import Source
from bisector.data.torchvision_cifar import cifar_source, find_cifar

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


def fashion_mnist_source(reading: Reading) -> Source:
    """Fashion-MNIST: 60,000 + 10,000 gray images of 28 x 28, ten kinds of clothes (Xiao et al. 2017).

    Its idx files are those of Debian's package dataset-fashion-mnist, of a folder fashion-mnist of the user's, or
    torchvision's download.
    """
    wanted = "FashionMNIST/raw"
    folders = [folder / name for folder in data_folders() for name in ("fashion-mnist", wanted)]
    place = _first([folders[0], _DEBIAN, *folders[1:]], lambda folder: bool(find_idx_images(folder)))
    if place is None:

        def fetch(folder: str) -> None:
            from torchvision.datasets import FashionMNIST

            FashionMNIST(folder, download=True)

        hints = [f"${DATA_FOLDER}/fashion-mnist", f"{_DEBIAN} (Debian's package dataset-fashion-mnist)"]
        place = download("fashion-mnist", fetch, "FashionMNIST", hints) / "raw"
    return idx_source(place, FASHION_MNIST)


def cifar10_source(reading: Reading) -> Source:
    """CIFAR-10: 50,000 + 10,000 colour images of 32 x 32, ten kinds of things (Krizhevsky 2009)."""

    def fetch(folder: str) -> None:
        from torchvision.datasets import CIFAR10

        CIFAR10(folder, download=True)

    return _cifar("cifar10", "cifar-10-batches-py", fetch, reading)


def cifar100_source(reading: Reading) -> Source:
    """CIFAR-100: 50,000 + 10,000 colour images of 32 x 32, a hundred kinds of things (Krizhevsky 2009)."""

    def fetch(folder: str) -> None:
        from torchvision.datasets import CIFAR100

        CIFAR100(folder, download=True)

    return _cifar("cifar100", "cifar-100-python", fetch, reading)


def _cifar(name: str, wanted: str, fetch: Callable[[str], None], reading: Reading) -> Source:
    def there(folder: Path) -> bool:
        return find_cifar(folder) is not None or any(folder.rglob("*.parquet"))

    folders = [folder / inner for folder in data_folders() for inner in (name, wanted)]
    place = _first(folders, there) or download(
        name, fetch, wanted, [f"${DATA_FOLDER}/{name} (Parquet or {wanted})"]
    )
    files = find_cifar(place)
    if files is not None:
        return cifar_source(files)
    parquet = sorted(place.rglob("*.parquet"))
    return parquet_image_source(parquet, place, reading)


def _first(folders: Sequence[Path], there: Callable[[Path], bool]) -> Path | None:
    return next((folder for folder in folders if folder.is_dir() and there(folder)), None)
