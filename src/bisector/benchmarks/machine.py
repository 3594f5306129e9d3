"""What the numbers were taken on, in words that name no computer."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from bisector._version import __version__
from bisector.benchmarks.memory import total_bytes
from bisector.cores import available_cores


@dataclass(frozen=True)
class Description:
    """A machine and the versions on it."""

    processor: str  # model of the CPU
    instructions: str  # the vector instructions that PyTorch uses
    cores: int  # how many the process may run on
    threads: int  # how many PyTorch computes with
    memory_bytes: int | None  # of the machine, or None
    system: str  # operating system
    python: str  # version
    packages: dict[str, str]  # versions of PyTorch, bisector and its peers
    float32_products: str  # what PyTorch may compute float32 products in ("highest" is float32 itself)
    gpu: str | None  # name, memory and driver, or None

    def lines(self) -> list[str]:
        """Return what there is to say, one thing a line."""
        memory = [] if self.memory_bytes is None else [f"{self.memory_bytes / 2**30:.0f} GiB of memory"]
        cores = f"{self.cores} cores" if self.cores != 1 else "1 core"
        threads = f"{self.threads} threads" if self.threads != 1 else "1 thread"
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return [
            ", ".join([f"{self.processor} ({self.instructions})", cores, f"{threads} used", *memory]),
            *([self.gpu] if self.gpu else []),
            f"{self.system}; Python {self.python}; {packages}",
        ]


def describe_machine(
    device: torch.device, packages: Sequence[str] = ("torch", "triton", "pytorch-metric-learning")
) -> Description:
    """Return what this process runs on, with the versions of these packages where they are installed."""
    return Description(
        processor=_processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        cores=available_cores(),
        threads=torch.get_num_threads(),
        memory_bytes=total_bytes(),
        system=_system(),
        python=platform.python_version(),
        packages={
            "bisector": __version__,
            **{name: number for name in packages if (number := _version(name))},
        },
        float32_products=torch.get_float32_matmul_precision(),
        gpu=_gpu(device) if device.type == "cuda" else None,
    )


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _system() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']} ({platform.machine()})"
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()} ({platform.machine()})"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpu(device: torch.device) -> str:
    found = torch.cuda.get_device_properties(device)
    parts = [found.name, f"{found.total_memory / 2**30:.0f} GiB", f"CUDA {torch.version.cuda}"]
    program = shutil.which("nvidia-smi")
    if program:
        asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        driver = told.stdout.split() if told.returncode == 0 else []
        parts += [f"driver {driver[0]}"] if driver else []
    return ", ".join(parts)
