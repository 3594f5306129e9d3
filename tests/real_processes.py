"""Runs bisector in a process of its own, and functions in several processes that talk to each other over gloo."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "120"}


def python(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """What a program of Python said and how it ended."""
    how: dict[str, Any] = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 600}
    return subprocess.run([sys.executable, *words], check=False, **(how | options))


def bisector(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """What a command said and how it ended."""
    return python("-m", "bisector", *words, **options)


Stage = tuple[Any, ...]
"""``(world, work, *arguments)``: ``work(rank, world, *arguments)`` runs in the first `world` processes."""


def in_processes(folder: Path, *stages: Stage) -> list[list[Any]]:
    """For each stage, what its work returned on every rank; an exception of any process is raised here.

    The processes are started once for all stages, which is most of the time, and meet anew for each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(_process, (folder, stages), nprocs=max(world for world, *_ in stages))
    return [
        [torch.load(folder / f"{number}-{rank}.pt", weights_only=False) for rank in range(world)]
        for number, (world, *_) in enumerate(stages)
    ]


def _process(rank: int, folder: Path, stages: list[Stage]) -> None:
    torch.set_num_threads(1)
    for number, (world, work, *arguments) in enumerate(stages):
        if rank >= world:
            continue
        _as_torchrun(rank, world)
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store{number}",
            rank=rank,
            world_size=world,
            timeout=timedelta(minutes=10),
        )
        torch.manual_seed(rank)  # what must be alike on all ranks may not come from here
        torch.save(work(rank, world, *arguments), folder / f"{number}-{rank}.pt")
        distributed.barrier()
        distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is done and stored. The interpreter's own end may abort on a thread of gloo's: seen once in many runs.
    os._exit(0)


def _as_torchrun(rank: int, world: int) -> None:
    """What torchrun tells its processes; Lightning looks for it."""
    for name in ("RANK", "LOCAL_RANK"):
        os.environ[name] = str(rank)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        os.environ[name] = str(world)
    os.environ.update(GROUP_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0", TORCHELASTIC_RUN_ID="tests")
