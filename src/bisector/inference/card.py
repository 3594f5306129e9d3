"""The model card beside an exported file: what it is, what it was trained on, how good it is, how to use it."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from bisector.inference.export import data_name, known_result, preprocessing
from bisector.inference.predictor import Predictor
from bisector.metrics.summary import METRICS, MetricInfo
from bisector.networks.names import chosen_backbone
from bisector.training.results import Run

_MARK = "library_name: bisector"
_CLASSES = 1000  # rows of the table at most
_SHOWN = ("accuracy", "balanced_accuracy", "worst_class")


def is_card(path: Path) -> bool:
    """Whether a file is a card that was written here, and may be written again."""
    return _MARK in path.read_text(encoding="utf-8", errors="replace").splitlines()


def model_card(
    model: Predictor, file: Path, format: str, *, license: str | None = None, repository: str | None = None
) -> str:
    """Return the card of a model as Markdown with a header of YAML, as the Hugging Face Hub reads it.

    Args:
        model: that was exported.
        file: it was exported to.
        format: of that file.
        license: of the model, by its identifier; without it the card names none.
        repository: on the Hub, from which the model is loaded; without it from the file.

    Raises:
        DamagedFileError: the result of the training cannot be read.
    """
    trained, images = model.trained, len(model.shape) == 3
    run = known_result(model)
    tags = ["bisector", "image-classification" if images else "tabular-classification", format]
    header = [
        "---",
        _MARK,
        *([f"license: {json.dumps(license)}"] if license else []),
        f"pipeline_tag: {tags[1]}",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in tags),
        *_model_index(file.stem, tags[1], data_name(model), run),
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
        f"- Backbone: {_plain(chosen_backbone(trained.recipe.backbone, model.shape))}",
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
        f"Preprocessing: {preprocessing(model)}.",
        "",
        "```python",
        *_usage(model, file.name, format, repository),
        "```",
    ]
    return "\n".join([*header, "", *lines, ""])


def _part(run: Run) -> str:
    return "validation" if run.verification is not None else "test"


def _found(run: Run) -> list[tuple[MetricInfo, float]]:
    """Return what was measured, with the decision where there is one, on the scale that is told."""
    decided = run.decided is not None and bool(run.decided.file)
    metrics = run.decided.metrics if run.decided is not None and decided else run.metrics
    found = [(info, info.scale * metrics.get(info.key, math.nan)) for info in METRICS if info.key in _SHOWN]
    return [(info, value) for info, value in found if math.isfinite(value)]


def _model_index(name: str, task: str, data: str, run: Run | None) -> list[str]:
    """Return the entry of the header from which the Hub shows metrics."""
    found = [] if run is None else _found(run)
    if run is None or not found:
        return []
    metrics = [{"type": info.key, "name": info.label, "value": round(value, 2)} for info, value in found]
    dataset = {"name": data, "type": data, "split": _part(run)}
    result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
    return ["model-index:", f"- {json.dumps({'name': name, 'results': [result]})}"]  # JSON is YAML


def _measured(run: Run | None) -> list[str]:
    if run is None:
        return ["Nothing is known of it: the training left no result.", ""]
    decided = run.decided is not None and bool(run.decided.file)
    told = [f"- {info.label}: {value:.1f}{info.unit}" for info, value in _found(run)]
    return [
        f"On the {_part(run)} part of what it was trained on{', with the decision' * decided}:",
        "",
        *told,
        "",
    ]


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


def _usage(model: Predictor, name: str, format: str, repository: str | None) -> list[str]:
    file, images = json.dumps(name), len(model.shape) == 3
    given = "images" if images else "vectors"
    rows = ['paths = ["image.jpg"]'] if images else [f"vectors = np.zeros((2, {model.shape[0]}), np.float32)"]
    if format == "safetensors":
        loaded = f"from_pretrained({json.dumps(repository)})" if repository else f"load({file})"
        return [
            *([] if images else ["import numpy as np"]),
            "import bisector",
            "",
            f"model = bisector.{'Predictor.' * bool(repository)}{loaded}",
            *rows,
            f"print(model.predict({'paths' if images else given}))",
        ]
    rows += ["images = np.stack([read(path) for path in paths])"] * images
    run = [
        f"model = onnxruntime.InferenceSession({file})",
        'names = json.loads(model.get_modelmeta().custom_metadata_map["class_names"])',
        *rows,
        f'scores, embeddings = model.run(None, {{"{given}": {given}}})',
    ]
    if format == "torch":
        run = [
            f'model = torch.export.load({file}, extra_files=(notes := {{"bisector.json": ""}})).module()',
            'names = json.loads(notes["bisector.json"])["class_names"]',
            *rows,
            f"scores, embeddings = model(torch.from_numpy({given}))",
        ]
    return [
        "import json",
        "",
        "import numpy as np",
        f"import {'torch' if format == 'torch' else 'onnxruntime'}",
        *(_reading(model) if images else [""]),
        *run,
        "print([names[index] for index in scores.argmax(1)])",
    ]


def _reading(model: Predictor) -> list[str]:
    """Return the lines that do what `preprocessing` says, with Pillow and numpy alone."""
    (channels, height, width), scale = model.shape, model.trained.pixel_range
    lines = ["image = Image.open(path)"]
    if height == width:
        lines.append(f"image.draft(None, ({2 * width}, {2 * height}))  # large JPEGs are decoded smaller")
    lines.append("image = ImageOps.exif_transpose(image)")
    if scale is not None:
        low, high = scale
        lines += [
            'if image.mode[0] in "IF":  # more than 8 bits',
            f"    pixels = np.floor((np.asarray(image, float) - {low!r}) * 255 / {high - low!r})",
            "    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))",
        ]
    lines += [
        'if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:',
        '    image = image.convert("RGBA")',
        '    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)',
        f'image = image.convert("{"L" if channels == 1 else "RGB"}")',
    ]
    if height == width:
        lines += [
            f"size = [max({width}, round(side * {width} / min(image.size))) for side in image.size]",
            "image = image.resize(size, Image.Resampling.BILINEAR)",
            f"left, top = (size[0] - {width}) // 2, (size[1] - {width}) // 2",
            f"image = image.crop((left, top, left + {width}, top + {width}))",
        ]
    lines += [
        f"pixels = np.asarray(image, np.float32).reshape({height}, {width}, {channels})",
        "return pixels.transpose(2, 0, 1) / 255",
    ]
    kinds = "" if scale is not None else "  # of 8 bits a channel"
    return [
        "from PIL import Image, ImageOps",
        "",
        "",
        f"def read(path):{kinds}",
        *(f"    {line}" for line in lines),
        "",
        "",
    ]


def _plain(text: str) -> str:
    r"""Return a name in which no letter means anything to Markdown or HTML.

    >>> _plain("a|b\n<c>")
    'a\\|b &lt;c&gt;'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", text)
