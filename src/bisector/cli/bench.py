"""Time the losses and count their memory, beside others' and beside the bare matrix products.

`bench losses` prints one table a size, and writes losses.md and losses.json where --out says; `bench step`
times whole training steps of one head.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from bisector.cli.output import progress, require_folder, say
from bisector.cores import require_tasks
from bisector.errors import require, require_choice, require_integer, require_number

if TYPE_CHECKING:
    from bisector.engine.budget import MemoryBudget

SIZES = "512x128x100000,256x512x100000,512x512x10000"
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")
OPTIMIZERS = ("adam", "adamw", "sgd", "rowwise-adamw")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmarks of ``bisector bench``."""
    benchmarks = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    text = "forward and backward of every loss, beside the bare matrix products"
    losses = benchmarks.add_parser("losses", help=text, description=text)
    losses.add_argument(
        "--sizes",
        default=SIZES,
        help="NxDxC: rows, dimensions, classes; commas between (default: %(default)s)",
    )
    losses.add_argument(
        "--losses",
        default="default",
        help="heads with their options, as igam:direction=relax; commas between; 'all' is every head "
        "(default: those that the documentation compares)",
    )
    losses.add_argument(
        "--backends", default="auto", help="who computes them; commas between (default: %(default)s)"
    )
    losses.add_argument(
        "--chunk-mib", type=float, help="budget of our losses: MiB of scratch (default: the engine's own)"
    )
    losses.add_argument("--no-peers", action="store_true", help="leave out everybody else's losses")
    losses.add_argument("--out", type=Path, help="folder for losses.md and losses.json")
    _add_common(losses, repeats=7)
    text = "whole training steps of one head: forward, backward, optimiser"
    step = benchmarks.add_parser("step", help=text, description=text)
    step.add_argument("--size", default="1024x512x100000", help="NxDxC (default: %(default)s)")
    step.add_argument("--head", default="am-softmax", help="a head with its options (default: %(default)s)")
    step.add_argument("--backend", default="auto", help="who computes the loss (default: %(default)s)")
    step.add_argument(
        "--sample", type=float, default=1.0, help="share of the classes in a step (default: %(default)s)"
    )
    step.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="default: %(default)s")
    _add_common(step, repeats=3)


def _add_common(parser: argparse.ArgumentParser, repeats: int) -> None:
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the matrix products (default: %(default)s)"
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=repeats, help="timed rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the CPU (default: PyTorch's own choice)")


def run(arguments: argparse.Namespace, command: str) -> None:
    """Run a benchmark and print what it found."""
    require_integer("--repeats", arguments.repeats, least=1)
    if arguments.threads is not None:
        require_tasks("--threads", arguments.threads)
    if getattr(arguments, "out", None) is not None:
        require_folder(arguments.out)
    import torch

    from bisector.benchmarks.timing import threads

    cuda = arguments.device != "cuda" or torch.cuda.is_available()
    require(cuda, "--device", "'cuda'", "cpu: this machine has no GPU that PyTorch can use")
    with threads(arguments.threads):
        RUN[arguments.benchmark](arguments)


def _budget(arguments: argparse.Namespace) -> "MemoryBudget":
    from bisector.engine.budget import MemoryBudget

    mebibytes = arguments.chunk_mib
    if mebibytes is None:
        return MemoryBudget()
    return MemoryBudget(chunk_bytes=int(require_number("--chunk-mib", mebibytes, least=1) * 2**20))


def _losses(arguments: argparse.Namespace) -> None:
    import torch

    from bisector.benchmarks.contenders import floors, limits, peers
    from bisector.benchmarks.heads import heads, read_specs
    from bisector.benchmarks.losses import compare_losses
    from bisector.benchmarks.machine import describe_machine
    from bisector.benchmarks.problem import Size
    from bisector.benchmarks.report import Settings, explanation, format_comparison, write_comparisons
    from bisector.engine.dispatch import BACKENDS

    sizes = [Size.parse(text) for text in arguments.sizes.split(",")]
    backends = [require_choice("backend", name.strip(), BACKENDS) for name in arguments.backends.split(",")]
    if "triton" in backends:
        from bisector.engine.triton import why_not

        reason = why_not(torch.device(arguments.device))
        require(reason is None, "--backends", f"'triton', but {reason}", "chunked, dense or auto")
    others = [] if arguments.no_peers else [*floors(), *peers()]
    ours = heads(read_specs(arguments.losses), backends, _budget(arguments))
    contenders = [*limits(reduced=arguments.dtype != "float32"), *others, *ours]
    machine = describe_machine(torch.device(arguments.device))
    settings = Settings(arguments.dtype, arguments.device, arguments.repeats, _command(arguments))
    say("\n".join(machine.lines()))
    comparisons = []
    for size in sizes:
        found = compare_losses(
            size, contenders, arguments.dtype, arguments.device, arguments.repeats, progress=progress
        )
        progress("")
        comparisons.append(found)
        say(f"\n{format_comparison(found)}")
    say(f"\n{explanation(settings)}")
    if arguments.out is not None:
        files = write_comparisons(comparisons, machine, settings, arguments.out)
        say(f"Written: {', '.join(str(file) for file in files)}")


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that does this again, without the folder, which is nobody else's."""
    names = ("sizes", "losses", "backends", "dtype", "device", "repeats", "threads", "chunk_mib")
    given = [(name.replace("_", "-"), getattr(arguments, name)) for name in names]
    words = [word for name, value in given if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["bisector", "bench", "losses", *words, *["--no-peers"] * arguments.no_peers])


def _step(arguments: argparse.Namespace) -> None:
    from bisector.benchmarks.problem import Size
    from bisector.benchmarks.step import measure_step
    from bisector.engine.dispatch import BACKENDS

    taken = measure_step(
        Size.parse(arguments.size),
        arguments.head,
        backend=require_choice("backend", arguments.backend, BACKENDS),
        sample=arguments.sample,
        optimizer=arguments.optimizer,
        precision=arguments.dtype,
        device=arguments.device,
        repeats=arguments.repeats,
    )
    say(f"{arguments.head}, {arguments.size}, {arguments.optimizer}, sample {arguments.sample:g}: {taken}")


RUN = {"losses": _losses, "step": _step}
