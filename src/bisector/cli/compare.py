"""Train several heads on the same data, several times, and show what came out.

Prints a table and writes comparison.json, comparison.csv and report.html.
"""

import argparse
import io
import os
import shutil
import sys
from pathlib import Path

from bisector.errors import require

HEAD_NAMES = (
    "linear-softmax, normalized-softmax, am-softmax, enhanced-am-softmax, arcface, combined-margin, c2am, igam, "
    "count-guided, ldam, logit-adjusted"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bisector compare``."""
    parser.add_argument(
        "--heads",
        required=True,
        help=f"names, with options after colons, separated by commas: am-softmax,igam:preset=paper ({HEAD_NAMES})",
    )
    parser.add_argument(
        "--planes",
        default="",
        help="heads to train once more with a two-dimensional embedding, for the pictures of their boundaries",
    )
    add_shared_arguments(parser)


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the demo has too."""
    parser.add_argument("--data", default="digits", help="name of the data set (default: %(default)s)")
    parser.add_argument(
        "--imbalance",
        type=float,
        default=20,
        help="instances of the commonest class over those of the rarest (default: %(default)g)",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="how often each head is trained (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=40, help="passes over the data (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="rows of a step (default: %(default)s)")
    parser.add_argument(
        "--embedding-dim", type=int, default=32, help="dimension of the embeddings (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        help="folder for comparison.json, comparison.csv and report.html (default: %(default)s)",
    )


def run(arguments: argparse.Namespace, command: str) -> None:
    """Compare, print the table, write the files."""
    # Small matrices: threads that spin while they wait cost more than they bring.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    in_the_way = next((path for path in (arguments.out, *arguments.out.parents) if path.is_file()), None)
    require(
        in_the_way is None, "--out", f"{arguments.out}, but {in_the_way} is a file", "a folder, which is made"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)

    from tqdm import tqdm

    from bisector.report.page import write_page
    from bisector.report.table import format_table, write_csv
    from bisector.training.compare import PLANE_EPOCHS, compare
    from bisector.training.recipe import Recipe

    heads, planes = _names(arguments.heads), _names(arguments.planes)
    recipe = Recipe(
        epochs=arguments.epochs, batch_size=arguments.batch_size, embedding_dim=arguments.embedding_dim
    )
    total = (len(heads) * arguments.seeds + len(planes) * PLANE_EPOCHS) * recipe.epochs
    # The bar appears with the first epoch, so that a mistake found before is told in one line.
    with tqdm(total=total, unit="epoch", file=sys.stderr, dynamic_ncols=True, delay=1e-3) as bar:

        def progress(what: str, epochs: int) -> None:
            bar.set_description(f"{what:<34.34}", refresh=False)
            bar.update(epochs)

        comparison = compare(
            arguments.data,
            heads,
            imbalance=arguments.imbalance,
            seeds=arguments.seeds,
            planes=planes,
            recipe=recipe,
            command=command,
            progress=progress,
        )
    comparison.write(arguments.out / "comparison.json")
    write_csv(comparison, arguments.out / "comparison.csv")
    write_page(comparison, arguments.out / "report.html")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows no ± shall not cost the table
    print(format_table(comparison, width=max(60, shutil.get_terminal_size((160, 24)).columns)))
    print(f"\nThe page with the pictures: {arguments.out / 'report.html'}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
