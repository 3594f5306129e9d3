"""Write a trained classifier, its decision in it, as one file for other programs: ONNX, torch.export, safetensors.

Before the file is there, its scores are compared with PyTorch's on examples of the data. A model card is written
beside it.
"""

import argparse
from pathlib import Path
from typing import Any

from bisector.cli.output import add_json, require_file, tell
from bisector.errors import require, require_integer
from bisector.inference.formats import FORMATS, OLDEST_OPSET, OPSET, YOUNGEST_OPSET, format_of, require_suffix
from bisector.training.results import require_model

_ROWS = 256  # that are compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector export``."""
    parser.add_argument(
        "run", type=Path, help="folder of a run, file.ckpt, which has no decision, or file.safetensors"
    )
    parser.add_argument(
        "data",
        nargs="*",
        help=f"whose examples ({_ROWS} of them) the file is compared by: name or path, or images (default: what "
        "the model was trained on)",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), help="(default: by the name of --out, else onnx)")
    parser.add_argument(
        "--out", type=Path, help="file to write (default: model.onnx, .pt2 or .safetensors in RUN)"
    )
    parser.add_argument(
        "--opset",
        type=int,
        help=f"version of ONNX's operators, {OLDEST_OPSET} to {YOUNGEST_OPSET} (default: {OPSET})",
    )
    parser.add_argument("--card", type=Path, help="file of the model card (default: README.md beside --out)")
    parser.add_argument(
        "--license", metavar="ID", help="of the model, for the card: apache-2.0, ... (default: none)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Export, compare, write the file and its card."""
    given = arguments.format
    format = given or ("onnx" if arguments.out is None else format_of(arguments.out))
    folder = arguments.run if arguments.run.is_dir() else arguments.run.parent
    out = arguments.out or folder / f"model{FORMATS[format]}"
    require_suffix(out, format)
    require_file(out)
    if arguments.opset is not None:
        require(format == "onnx", "--opset", f"{arguments.opset} with --format {format}", "it only with onnx")
        require_integer("--opset", arguments.opset, least=OLDEST_OPSET, most=YOUNGEST_OPSET)
    card = arguments.card or out.parent / "README.md"
    require_file(card)
    require_model(arguments.run)

    from bisector.files import write_whole
    from bisector.inference.card import is_card, model_card
    from bisector.inference.export import export
    from bisector.inference.inputs import open_inputs
    from bisector.inference.predictor import load

    model = load(arguments.run, device="cpu")
    inputs = open_inputs(model, arguments.data, part="all")
    rows = next(inputs.batches(_ROWS, spread=True)).inputs
    tell("export", *model.model.notes)
    out.parent.mkdir(parents=True, exist_ok=True)
    text = model_card(model, out, format, license=arguments.license)
    done = export(model, out, format, rows, opset=arguments.opset or OPSET)
    record = {"file": str(out), "format": format, "rows": done.rows, "difference": done.difference}
    record |= {"other": done.other, "card": None}
    print(f"{out}: {_found(done.rows, done.difference, done.other)}")
    if arguments.card is None and card.exists() and not is_card(card):
        tell("export", f"no model card: {card} is there and is none of ours; --card FILE writes it elsewhere")
        return record
    card.parent.mkdir(parents=True, exist_ok=True)
    write_whole(card, text)
    print(f"Model card: {card}")
    return record | {"card": str(card)}


def _found(rows: int, difference: float, other: int) -> str:
    if not rows:
        return "the weights, and what they are in the metadata"
    classes = "the same class in all" if not other else f"another class in {other}"
    return f"compared with PyTorch on {rows} examples: scores differ by {difference:.2g} at most, {classes}"
