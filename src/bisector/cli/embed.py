"""Write a model's embeddings, predictions and losses of a data set as Parquet."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.output import add_json, device_of, require_file, tell
from bisector.data.places import require_data_name, resolvable
from bisector.embedding.kinds import MODELS, PUBLISHED, TORCHSCRIPT
from bisector.errors import ArgumentError, require, require_integer
from bisector.measurement.command import quoted

if TYPE_CHECKING:
    from bisector.data.dataset import Dataset
    from bisector.embedding.model import EmbeddingModel

MODEL_OPTIONS = ("pretrained", "weights", "embedding_output", "scores_output", "mean", "std")
"""The options that say how a model is opened."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector embed``."""
    parser.add_argument("model", help=MODELS)
    parser.add_argument(
        "data",
        nargs="?",
        help="name or path of the data (default for a model of ours: what it was trained on)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("embeddings.parquet"), help="file to write (default: %(default)s)"
    )
    parser.add_argument(
        "--part",
        default="all",
        choices=("all", "train", "validation", "test"),
        help="part of the data (default: %(default)s)",
    )
    trained = "that of the training for a model of ours on its data, else"
    parser.add_argument(
        "--imbalance", type=float, help=f"long tail of the training part (default: {trained} 1)"
    )
    parser.add_argument("--seed", type=int, help=f"of the split and the long tail (default: {trained} 0)")
    parser.add_argument("--split", choices=("standard", "open-set"), help=f"(default: {trained} standard)")
    parser.add_argument("--image-size", type=int, help="side that images of files are cut to, in pixels")
    parser.add_argument(
        "--label",
        metavar="COLUMN",
        help="of labels in Parquet of images, where it is not found (default: "
        "that of the training for a model of ours on its data)",
    )
    parser.add_argument("--batch-size", type=int, default=256, help="examples at once (default: %(default)s)")
    parser.add_argument(
        "--no-pretrained",
        dest="pretrained",
        action="store_false",
        help="random weights for a network of timm or torchvision",
    )
    parser.add_argument("--weights", type=Path, help="file of weights for a network of timm or torchvision")
    parser.add_argument(
        "--embedding-output",
        help="name of the output of an ONNX or TorchScript file that is the embedding (of a tuple: its place, 0)",
    )
    parser.add_argument(
        "--scores-output",
        help="name of the output of an ONNX or TorchScript file that is the scores (logits)",
    )
    parser.add_argument(
        "--mean", type=_numbers, help="of each channel, for an ONNX or TorchScript file: 0.485,0.456,0.406"
    )
    parser.add_argument(
        "--std", type=_numbers, help="of each channel, for an ONNX or TorchScript file: 0.229,0.224,0.225"
    )
    parser.add_argument("--device", help="that computes: cpu, cuda, cuda:1 (default: a GPU if there is one)")
    add_json(parser)


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Embed, write the file, say what was left out."""
    parquet = arguments.out.suffix.lower() in {".parquet", ".pq"}
    require_file(arguments.out)
    require(parquet, "--out", str(arguments.out), "a name that ends in .parquet, which is what is written")
    require_integer("--batch-size", arguments.batch_size, least=1)
    path = Path(resolvable(arguments.model))
    published = arguments.model.startswith(PUBLISHED) and not path.exists()
    _require_inputs(arguments, path, published)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)

    from tqdm import tqdm

    from bisector.data.source import PARTS
    from bisector.embedding.embed import embed
    from bisector.embedding.model import open_model

    device = device_of(arguments.device)
    options = {name: getattr(arguments, name) for name in MODEL_OPTIONS}
    model = open_model(arguments.model, **options, device=device)
    data, settings = _load(model, arguments)
    parts = PARTS if arguments.part == "all" else (arguments.part,)
    total = sum(len(getattr(data, part)) for part in parts)
    with tqdm(total=total, unit="example", file=sys.stderr, dynamic_ncols=True, delay=1e-3) as bar:
        rows = embed(
            model,
            data,
            arguments.out,
            part=arguments.part,
            batch_size=arguments.batch_size,
            settings={**settings, **_recorded(arguments.part, options)},
            tell=lambda line: bar.write(f"bisector embed: {line}", file=sys.stderr),
            progress=bar.update,
        )
    print(f"{rows} rows: {arguments.out}")
    print(f"Next: bisector measure {quoted(str(arguments.out))}")
    return {"file": str(arguments.out), "rows": rows, "left_out": list(data.left_out)}


def _require_inputs(arguments: argparse.Namespace, path: Path, published: bool) -> None:
    """Raise `ArgumentError` for a model or data that are not there, before what takes long to import or fetch."""
    there = published or path.exists()
    require(there, "model", f"{arguments.model!r}, which is not there", MODELS)
    if arguments.data:
        require_data_name(arguments.data)
    elif published or path.suffix.lower() in {".onnx", *TORCHSCRIPT}:
        raise _no_data(arguments.model)


def _no_data(model: str) -> ArgumentError:
    return ArgumentError(f"data: got none; expected the name or path of what {model} shall embed")


def _recorded(part: str, options: dict[str, Any]) -> dict[str, Any]:
    """What the file records besides the model's name and the data; None is not recorded."""
    weights = options["weights"]
    return {
        **options,
        "part": None if part == "all" else part,
        "pretrained": None if options["pretrained"] else False,
        "weights": None if weights is None else resolvable(str(weights)),
    }


def _load(model: "EmbeddingModel", arguments: argparse.Namespace) -> "tuple[Dataset, dict[str, Any]]":
    """The data with their settings: those of the training where a model of ours is given what it was trained on."""
    from bisector.data.registry import load
    from bisector.embedding.model import image_side, same_data

    trained = model.trained
    name = resolvable(arguments.data) if arguments.data else (trained.task.data if trained else None)
    if name is None:
        raise _no_data(arguments.model)
    used: dict[str, Any] = {
        "imbalance": 1.0,
        "seed": 0,
        "split": "standard",
        "image_size": None,
        "label": None,
    }
    given = {key: getattr(arguments, key) for key in used if getattr(arguments, key) not in {None, ""}}
    if trained is not None and same_data(name, trained.task.data):
        used = {key: trained.seed if key == "seed" else getattr(trained.task, key) for key in used}
        for key in ("seed", "split"):
            if given.get(key, used[key]) != used[key]:
                told = f"--{key} {given[key]} is not that of the training ({used[key]})"
                tell("embed", f"{told}: what is test here may have been trained on")
    settings = {**used, **given}
    size = settings["image_size"]
    size = image_side(model, name) if size is None else size  # not recorded: the next model may have another
    scale = None if trained is None else trained.pixel_range
    return load(name, **{**settings, "image_size": size}, pixel_range=scale), settings


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; expected a number a channel, as in 0.485,0.456,0.406"
        ) from None
