"""Move the boundaries of a trained model from its stored scores, and embeddings.

Prints what the adjustment gains on rows that it was not fitted on, and accuracy, balanced accuracy, groups, worst
class and bias before and after; writes the adjustment and the adjusted scores. With --adjustment it applies one
that is there already.
"""

import argparse
from pathlib import Path
from typing import Any

from bisector.cli.output import add_json, require_folder
from bisector.errors import require, require_choice, require_integer

# As in `bisector.posthoc`, which would bring torch.
_METHODS = ("prior", "amount", "fitted", "geometry", "auto", "nearest-mean", "lda", "tau-norm", "refit")
_KINDS = ("logits", "probabilities")
MOMENTS = ("auto", "train", "held-out", "both")
_SCALES = ("auto", "raw", "unit")
OF_EMBEDDINGS = ("geometry", "auto", "nearest-mean", "lda", "tau-norm", "refit")
_METHODS_OF = {  # what only some methods read
    "tau": ("prior", "tau-norm"),
    "amounts": ("amount",),
    "strength": ("amount",),
    "penalty": ("fitted", "auto"),
    "cross_validate": ("fitted", "geometry", "auto", "refit"),
    "seed": ("fitted", "geometry", "auto", "refit"),
    "moments": ("geometry", "auto", "refit"),
    "scale": OF_EMBEDDINGS,
    "geometry": ("geometry", "auto", "nearest-mean", "lda"),
    "kappa": ("geometry", "auto"),
    "top_k": ("geometry", "auto"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector adjust``."""
    parser.add_argument(
        "scores",
        type=Path,
        metavar="SCORES",
        help="Parquet, as `bisector embed` writes it, Arrow, CSV, JSON Lines, .pt or "
        ".safetensors of scores and labels; or .npz with scores (or "
        "logits, probabilities), labels; or .npy",
    )
    parser.add_argument(
        "--method",
        help="prior: minus tau log of the training frequencies; amount: guided by the information amounts; "
        "fitted: an offset for each class, fitted on validation scores; geometry: scores pooled with how well each "
        "row's embedding fits each class; auto: geometry if it gains clearly, else the better one of prior and "
        "fitted, or nothing (default); refit: the last layer trained again; nearest-mean, lda, tau-norm: other "
        "last layers, to compare with",
    )
    parser.add_argument(
        "--adjustment",
        type=Path,
        metavar="FILE",
        help="instead of --method: an adjustment.json or .safetensors to apply",
    )
    parser.add_argument("--labels", type=Path, help="labels as .npy, for scores as .npy")
    parser.add_argument(
        "--label", metavar="COLUMN", help="column of labels, of --validation too, where it is not found"
    )
    parser.add_argument("--embedding", metavar="COLUMN", help="column of vectors, where it is not found")
    parser.add_argument(
        "--validation",
        type=Path,
        help="scores to fit on, in the same forms; else the rows with split 'validation'",
    )
    parser.add_argument("--validation-labels", type=Path, help="labels as .npy, for --validation as .npy")
    parser.add_argument(
        "--counts",
        type=Path,
        help="training instances of each class, for prior and for the table's groups: JSON, CSV (class, count) "
        "or .npy; else those of split 'train'",
    )
    parser.add_argument(
        "--amounts",
        type=Path,
        help="of amount: information amounts in bits, as JSON, CSV (class, amount) or .npy; else of the embeddings "
        "of split 'train'",
    )
    parser.add_argument(
        "--tau", help="of prior and tau-norm: a number, or fit (default: 1 for prior, else fit)"
    )
    parser.add_argument("--strength", help="of amount: logits a radian, or fit (default: fit)")
    parser.add_argument("--penalty", help="of fitted: a number, or cross-validate (default: cross-validate)")
    parser.add_argument(
        "--kind",
        help="logits or probabilities (default: what the name of the scores says; if it is only 'scores', "
        "probabilities where every row sums to 1)",
    )
    parser.add_argument(
        "--cross-validate",
        action="store_true",
        default=None,  # as the others have, where they are not given
        help="of what is fitted: without validation scores, fit on four fifths of the reported rows for the other "
        "fifth",
    )
    parser.add_argument("--seed", type=int, help="of the folds (default: 0)")
    parser.add_argument(
        "--moments",
        help="of geometry: whose means and covariances, train, held-out (the validation rows), both, or auto; of "
        "refit: the rows that are trained on (default: both)",
    )
    parser.add_argument(
        "--scale", help="of the embeddings: raw, unit, or auto, by which explains the scores (default: auto)"
    )
    parser.add_argument(
        "--geometry",
        type=Path,
        metavar="FILE",
        help="geometry of the training rows, as ClassGeometry.save writes it; else of the rows with split 'train'",
    )
    parser.add_argument(
        "--kappa",
        help="of geometry: rows that the pooled covariance counts for in each class; inf: it alone; auto: 16 or "
        "256 (default: auto)",
    )
    parser.add_argument(
        "--top-k", help="of geometry: classes of the highest scores that are looked at, or all (default: 32)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/adjust"), help="folder to write to (default: %(default)s)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Adjust, print the table, write the files."""
    _check_options(arguments)
    if arguments.kind is not None:
        require_choice("--kind", arguments.kind, _KINDS)
    require_folder(arguments.out)
    for name in ("scores", "adjustment"):
        path = getattr(arguments, name)
        legal = "a table of scores" if name == "scores" else "an adjustment.json or .safetensors"
        require(path is None or path.exists(), name, f"{path}, which is not there", legal)

    from bisector.cli.adjusting import Adjusting

    return Adjusting(arguments).run()


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise `ArgumentError` for options that do not go together, or are not of the method or of what is stored."""

    def option(name: str) -> str:
        return f"--{name.replace('_', '-')}"

    fitting = ("validation", "validation_labels")
    given = [name for name in sorted((*_METHODS_OF, *fitting)) if getattr(arguments, name) is not None]
    method, validation = arguments.method, arguments.validation
    if arguments.adjustment is not None:
        require(method is None, "--method", "--adjustment beside it", "one of the two")
        for name in given:
            require(False, option(name), "--adjustment beside it", "none: it is found already")
        return
    if method is None:
        method = arguments.method = "auto"
    require_choice("--method", method, _METHODS)
    for name, owners in _METHODS_OF.items():
        fits = name not in given or method in owners
        require(fits, option(name), f"--method {method} beside it", f"--method {' or '.join(owners)}")
    for name, choices_of in (("moments", MOMENTS), ("scale", _SCALES)):
        if name in given:
            require_choice(option(name), getattr(arguments, name), choices_of)
    beside = arguments.geometry is not None and arguments.scale
    require(not beside, "--geometry", "--scale beside it", "none: the file has its own")
    if arguments.seed is not None:
        require_integer("--seed", arguments.seed, least=0)
        require(arguments.seed < 2**63, "--seed", arguments.seed, "an integer below 2**63")
    alone = validation is not None or arguments.validation_labels is None
    require(alone, "--validation-labels", "no --validation beside it", "the scores that they belong to")
    both = arguments.cross_validate and validation is not None
    require(not both, "--cross-validate", "--validation beside it", "one of the two")
    if validation is not None and not fits_something(arguments):
        number = {"prior": "tau", "tau-norm": "tau", "amount": "strength"}.get(method)
        fixed = f"--{number} {getattr(arguments, number) or 1}" if number else f"--method {method}"
        expected = f"none, or --{number} fit" if number else "none"
        require(False, "--validation", f"{fixed}, which fits nothing", expected)


def fits_something(arguments: argparse.Namespace) -> bool:
    """Whether the method has a number to fit."""
    tau = arguments.tau
    chosen = {"prior": tau or "1", "tau-norm": tau or "fit", "amount": arguments.strength or "fit"}
    chosen |= {"nearest-mean": "", "lda": ""}
    return chosen.get(arguments.method, "fit") == "fit"
