"""The model card beside an exported file: what it is, what it was trained on, how good it is, how to use it."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from bisector.inference.export import data_name
from bisector.inference.predictor import Predictor
from bisector.metrics.summary import METRICS
from bisector.training.results import RESULT, Run, read_result

_MARK = "library_name: bisector"
_CLASSES = 1000  # rows of the table at most
_SHOWN = ("accuracy", "balanced_accuracy", "worst_class")


def is_card(path: Path) -> bool:
    """Whether a file is a card that was written here, and may be written again."""
    return _MARK in path.read_text(encoding="utf-8", errors="replace").splitlines()


def model_card(model: Predictor, file: Path, format: str, *, license: str | None = None) -> str:
    """Return the card of a model as Markdown with a header of YAML, as the Hugging Face Hub reads it.

    Args:
        model: that was exported.
        file: it was exported to.
        format: of that file.
        license: of the model, by its identifier; without it the card names none.

    Raises:
        DamagedFileError: the result of the training cannot be read.
    """
    trained, images = model.trained, len(model.shape) == 3
    result = Path(model.model.name) / RESULT
    run = read_result(Run, result) if result.is_file() else None
    tags = ["bisector", "image-classification" if images else "tabular-classification", format]
    header = [
        "---",
        _MARK,
        *([f"license: {json.dumps(license)}"] if license else []),
        f"pipeline_tag: {tags[1]}",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in tags),
        "---",
    ]
    size = " x ".join(map(str, model.shape))
    takes = f"images of {size} (channels, height, width)" if images else f"vectors of {size} numbers"
    counts = trained.train_counts.tolist()
    decision = (
        "the highest score"
        if model.decision is None
        else f"{model.decision.method}: {model.decision.description}"
    )
    lines = [
        f"# {_plain(file.stem)}",
        "",
        f"A classifier of {takes} into {len(counts):,} classes, by the Python library bisector.",
        "",
        f"- Trained on: {_plain(data_name(model))}, {sum(counts):,} examples, {trained.epochs} epochs",
        f"- Backbone: {_plain(trained.recipe.backbone)}",
        f"- Head: {_plain(trained.head)}",
        f"- Classes are chosen by {_plain(decision)}",
        "",
        "## How good it is",
        "",
        *_measured(run),
        *_classes(model.class_names, counts, run),
        "",
        "## How to use it",
        "",
        f"Inputs are {takes}" + (", values from 0 to 1; they are normalised inside." if images else "."),
        "",
        "```python",
        *_usage(model, file.name, format),
        "```",
    ]
    return "\n".join([*header, "", *lines, ""])


def _measured(run: Run | None) -> list[str]:
    if run is None:
        return ["Nothing is known of it: the training left no result.", ""]
    part = "validation" if run.verification is not None else "test"
    decided = run.decided is not None and bool(run.decided.file)
    metrics = run.decided.metrics if run.decided is not None and decided else run.metrics
    found = [(info, info.scale * metrics.get(info.key, math.nan)) for info in METRICS if info.key in _SHOWN]
    told = [f"- {info.label}: {value:.1f}{info.unit}" for info, value in found if math.isfinite(value)]
    return [f"On the {part} part of what it was trained on{', with the decision' * decided}:", "", *told, ""]


def _classes(names: Sequence[str], counts: Sequence[int], run: Run | None) -> list[str]:
    decided = None if run is None else run.decided
    own = [] if run is None else run.class_accuracy
    accuracies = decided.class_accuracy if decided is not None and decided.file else own
    lines = ["| class | training examples | accuracy |", "|---|---:|---:|"]
    for c, (name, count) in enumerate(zip(names, counts, strict=True)):
        if c == _CLASSES:
            lines += ["", f"The first {_CLASSES:,} of {len(names):,} classes."]
            break
        known = c < len(accuracies) and math.isfinite(accuracies[c])
        lines.append(f"| {_plain(name)} | {count:,} | {f'{100 * accuracies[c]:.1f}%' if known else '–'} |")
    return lines


def _usage(model: Predictor, name: str, format: str) -> list[str]:
    file = json.dumps(name)
    if format == "onnx":
        given = "images" if len(model.shape) == 3 else "vectors"
        return [
            "import json, onnxruntime",
            f"model = onnxruntime.InferenceSession({file})",
            'names = json.loads(model.get_modelmeta().custom_metadata_map["class_names"])',
            f'scores, embeddings = model.run(None, {{"{given}": {given}}})  # {given}: float32, (N, '
            f"{', '.join(map(str, model.shape))})",
            "print([names[index] for index in scores.argmax(1)])",
        ]
    if format == "torch":
        return [
            "import json, torch",
            f'model = torch.export.load({file}, extra_files=(notes := {{"bisector.json": ""}})).module()',
            f"scores, embeddings = model(torch.rand(2, {', '.join(map(str, model.shape))}))",
            'print([json.loads(notes["bisector.json"])["class_names"][index] for index in scores.argmax(1)])',
        ]
    return [
        "import json, safetensors",
        f'model = safetensors.safe_open({file}, "pt")',
        'names = json.loads(model.metadata()["bisector"])["class_names"]',
        "weights = {name: model.get_tensor(name) for name in model.keys()}  # of backbone, head and decision",
    ]


def _plain(text: str) -> str:
    r"""Return a name in which no letter means anything to Markdown or HTML.

    >>> _plain("a|b\n<c>")
    'a\\|b &lt;c&gt;'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", text)
