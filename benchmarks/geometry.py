"""What class geometry adds to a trained classifier: per seed, each head with and without every adjustment."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor

from bisector.cli.output import progress
from bisector.heads import HEADS, Head
from bisector.information.geometry import ClassGeometry
from bisector.posthoc import adjust
from bisector.posthoc.geometry import GeometryAdjustment, fit_geometry

HEADS_OF = {
    "softmax": ("linear-softmax", {}),
    "logit-adjusted": ("logit-adjusted", {"tau": 1.0}),
    "cosine-prior": ("normalized-softmax", {"tau": 1.0, "scale": 16.0}),
}
"""The heads that are trained, each with one budget."""

FIXED = (1.0, 0.20, 0.09)
"""A pair that was frozen before these data were looked at: what no fit is worth."""


@dataclass(frozen=True)
class Part:
    """Embeddings (N, D) and classes (N,) of one part of a data set."""

    embeddings: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Row:
    """What one decision does on the test part of one seed."""

    data: str
    seed: int
    head: str
    decision: str
    balanced: float
    accuracy: float
    few: float
    worst: float
    harmonic: float


@cache
def _debian_texts() -> tuple[list[str], list[str]]:
    """Return the description of every package that Debian's archive lists, and its section."""
    listing = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    texts, sections = [], []
    for package in listing.split("\n\n"):
        entries: dict[str, list[str]] = {}
        name = ""
        for line in package.splitlines():
            if line.startswith(" "):
                entries.setdefault(name, []).append(line.strip())
            else:
                name, _, value = line.partition(":")
                entries[name] = [value.strip()]
        description = entries.get("Description") or entries.get("Description-en")
        if description and "Section" in entries:
            texts.append(" ".join(description))
            sections.append(entries["Section"][0].split("/")[-1])
    return texts, sections


@cache
def _debian() -> tuple[Tensor, Tensor]:
    """Return 256 numbers of each package (TF-IDF, truncated SVD) and its section."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, sections = _debian_texts()
    names = sorted({name for name in sections if sections.count(name) >= 15})
    kept = [i for i, name in enumerate(sections) if name in names]
    words = TfidfVectorizer(sublinear_tf=True, min_df=3, max_features=50_000, stop_words="english")
    matrix = words.fit_transform([texts[i] for i in kept])
    reduced = TruncatedSVD(256, random_state=0).fit_transform(matrix)
    embeddings = torch.tensor(reduced, dtype=torch.float32)
    return embeddings / embeddings.std(), torch.tensor([names.index(sections[i]) for i in kept])


def debian(seed: int) -> tuple[Part, Part, Part]:
    """Return packages of 58 sections, a natural tail: 60, 20 and 20 % of each for training, validation, test."""
    embeddings, labels = _debian()
    parts: list[list[Tensor]] = [[], [], []]
    draw = torch.Generator().manual_seed(seed)
    for c in range(int(labels.max()) + 1):
        rows = (labels == c).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=draw)]
        cuts = [int(0.6 * len(rows)), int(0.8 * len(rows))]
        for part, piece in zip(parts, rows.tensor_split(cuts), strict=True):
            part.append(piece)
    train, validation, test = (Part(embeddings[rows], labels[rows]) for rows in map(torch.cat, parts))
    return train, validation, test


DATA: Mapping[str, Callable[[int], tuple[Part, Part, Part]]] = {"debian": debian}


def train_head(name: str, train: Part, classes: int, seed: int, epochs: int = 20) -> Head:
    """Return a head trained on embeddings that stay as they are."""
    torch.manual_seed(seed)
    kind, options = HEADS_OF[name]
    counts = torch.bincount(train.labels, minlength=classes).double()
    head = HEADS[kind](train.embeddings.shape[1], classes, class_counts=counts, **options)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01, weight_decay=1e-4)
    steps = epochs * -(-len(train.labels) // 512)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(train.labels)).split(512):
            optimizer.zero_grad()
            head(train.embeddings[rows], train.labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def decisions(
    head: Head, train: Part, validation: Part, test: Part, counts: Tensor, *, unit: bool
) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the predictions (N,) on the test part of every way to decide."""
    with torch.no_grad():
        scores, tested = head.logits(validation.embeddings), head.logits(test.embeddings)
    yield "as trained", tested.argmax(1)
    yield (
        "prior, tau fitted",
        adjust(scores, validation.labels, method="prior", class_counts=counts, tau="fit").predict(tested),
    )
    yield "fitted offsets", adjust(scores, validation.labels, method="fitted").predict(tested)
    scale = "unit" if unit else "raw"
    for words, kappa in (("", 16.0), (", pooled covariance", float("inf"))):
        geometry = ClassGeometry.fit(train.embeddings, train.labels, len(counts), scale=scale, kappa=kappa)
        for count_term in (False, True):
            found = fit_geometry(
                scores, validation.labels, validation.embeddings, geometry, count_term=count_term
            )
            progress(f"a {found.a:.3g} b {found.b:.3g} e {found.e:.3g} t {found.t:.3g}: {found.description}")
            name = f"geometry ({4 if count_term else 3} numbers{words})"
            yield name, found.predict(tested, test.embeddings)
        if not words:
            a, b, e = FIXED
            yield "fixed pair", GeometryAdjustment(geometry, a, b, e).predict(tested, test.embeddings)


def scored(predictions: Tensor, labels: Tensor, counts: Tensor) -> dict[str, float]:
    """Return the five numbers of a `Row`, in percent; `few` is the third of the classes with the fewest rows."""
    recall = torch.stack([(predictions[labels == c] == c).double().mean() for c in range(len(counts))])
    known = ~recall.isnan()
    few = counts.argsort()[: max(1, len(counts) // 3)]
    found = {
        "balanced": recall[known].mean(),
        "accuracy": (predictions == labels).double().mean(),
        "few": recall[few].nanmean(),
        "worst": recall[known].min(),
        "harmonic": 1 / (1 / recall[known].clamp_min(1e-3)).mean(),
    }
    return {name: round(100 * float(value), 3) for name, value in found.items()}


def measured(data: str, seed: int) -> Iterator[Row]:
    """Yield the rows of one seed of one data set."""
    train, validation, test = DATA[data](seed)
    counts = torch.bincount(train.labels).double()
    for name in HEADS_OF:
        head = train_head(name, train, len(counts), seed)
        for decision, predictions in decisions(
            head, train, validation, test, counts, unit=name.startswith("cos")
        ):
            yield Row(data, seed, name, decision, **scored(predictions, test.labels, counts))


if __name__ == "__main__":
    for data in sys.argv[1].split(","):
        for seed in range(int(sys.argv[2])):
            for row in measured(data, seed):
                print(*asdict(row).values(), sep=",", flush=True)
