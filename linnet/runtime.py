"""The machine: device, precision, threads, compilation.

The only reader of the environment; torch is imported when a device is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.errors import UserError
from linnet.version import __version__

if TYPE_CHECKING:
    import torch


def debug() -> bool:
    """Whether errors show their traceback (LINNET_DEBUG=1)."""
    return os.environ.get("LINNET_DEBUG", "") not in ("", "0")


def pick_device(name: str = "auto") -> torch.device:
    """The device that `name` asks for; auto takes a CUDA GPU where there is one, an Apple GPU where `linnet doctor` has
    found its results right, else the CPU. Warns where it passes an Apple GPU by.

    Raises:
        UserError: the device is not there.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    trusted = verdict("mps") if name == "auto" and has_mps else None
    chosen, why = device_for(name, cuda=torch.cuda.is_available(), mps=has_mps, mps_trusted=trusted)
    if why:
        warnings.warn(why, stacklevel=1)  # of one place, so that it is said once
    return torch.device(chosen)


def device_for(name: str, *, cuda: bool, mps: bool, mps_trusted: bool | None) -> tuple[str, str]:
    """The device that `name` asks for, and why auto passes an Apple GPU by; empty where it does not.

    Args:
        cuda, mps: whether there is such a GPU.
        mps_trusted: what `linnet doctor` found; None if it has not looked.
    Raises:
        UserError: the device is not there.
    """
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"unknown device {name!r}; allowed are auto, cpu, cuda and mps")
    if name == "cuda" and not cuda:
        raise UserError("no CUDA device was found; use --device cpu, or auto")
    if name == "mps" and not mps:
        raise UserError("no Apple GPU was found; use --device cpu, or auto")
    if name != "auto":
        return name, ""
    if cuda:
        return "cuda", ""
    if not mps or mps_trusted:
        return "mps" if mps else "cpu", ""
    if mps_trusted is None:
        return (
            "cpu",
            "the CPU computes, because nobody knows whether this Apple GPU is right: `linnet doctor` finds out",
        )
    return (
        "cpu",
        "the CPU computes, because `linnet doctor` found this Apple GPU wrong; device mps takes it all the same",
    )


def accelerator() -> torch.device | None:
    """The GPU that is here, if there is one that PyTorch can use."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else None


def verdict_facts() -> dict[str, str]:
    """What a verdict of `linnet doctor` holds for: this machine, its PyTorch and its Linnet."""
    import torch

    system = f"{platform.system()} {platform.mac_ver()[0]}".strip()
    return {
        "system": system,
        "machine": platform.machine(),
        "processor": _processor(),
        "torch": str(torch.__version__),
        "linnet": __version__,
    }


def verdict_file() -> Path:
    """Where the verdict on this machine is kept, in the cache folder."""
    told = json.dumps(verdict_facts(), sort_keys=True)
    return cache_folder() / "doctor" / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"


def verdict(about: str) -> bool | None:
    """Whether `linnet doctor` found right what `about` names, "mps" or "cpu-compiled" for instance; None where it has
    not looked on this machine, or with another PyTorch or Linnet."""
    try:
        found = json.loads(verdict_file().read_text(encoding="utf-8"))["trusted"].get(about)
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None
    return found if isinstance(found, bool) else None


def pick_precision(name: str, device: torch.device, *, frozen: bool = False) -> torch.dtype:
    """The dtype that matrix products run in; auto takes bfloat16 on a GPU that has it, float32 elsewhere.

    Args:
        frozen: whether most weights stay as they are: then a CPU that multiplies bfloat16 does so as well.
    Raises:
        UserError: float16 is asked for without a GPU: without its speed, only its overflow would remain.
    """
    import torch

    if name == "auto":
        quick = has_bfloat16(device) or (frozen and cpu_has_bfloat16(device))
        return torch.bfloat16 if quick else torch.float32
    if name == "fp16" and device.type != "cuda":
        raise UserError("precision fp16 needs a CUDA device; use fp32 or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` is a GPU that multiplies bfloat16 by itself; older ones only imitate it, slowly."""
    import torch

    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bfloat16(device: torch.device) -> bool:
    """Whether `device` is a CPU with units for products of bfloat16 matrices; others only imitate them, slowly."""
    import torch

    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())


def is_asynchronous(device: torch.device) -> bool:
    """Whether `device` computes while Python goes on, and steps are handed over to it without waiting for them.

    Apple's MPS computes so as well, but has never been tried; its steps are waited for.
    """
    return device.type == "cuda"


def launched() -> tuple[int, int] | None:
    """Which of how many processes this one is, where a launcher such as torchrun started several; None: it is alone."""
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return None
    return (rank, count) if count > 1 else None


def attempt() -> str:
    """How often the launcher has started these processes anew, after one of them ended."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def backend() -> str:
    """What processes exchange tensors by, those on GPUs too where there are any; chooses this process's GPU."""
    import torch

    if not torch.cuda.is_available():
        return "gloo"
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return "cpu:gloo,cuda:nccl"


SPINS = "4000"
"""turns of a waiting thread before it sleeps: at most some tenths of a millisecond, longer than most waits of a step"""


def share_cores() -> None:
    """Lets threads that wait for each other sleep soon instead of spinning; call it before torch is imported.

    Small models meet at a barrier hundreds of times a step. With a core busy elsewhere, a waiting thread that spins
    takes the time of the very thread it waits for: training was measured at a third of its speed (docs/measured.md).
    Whoever has set these variables has chosen otherwise.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def set_threads(count: int | None) -> int:
    """Sets the number of CPU threads (None leaves PyTorch's choice); returns the number in force."""
    import torch

    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()


def why_not_compile(device: torch.device) -> str | None:
    """The reason why `torch.compile` cannot be used here, or None when it can."""
    if sys.platform == "win32":
        return "Windows"
    if device.type == "cpu" and not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        return "no C++ compiler was found"
    if device.type == "mps":
        return "an Apple GPU"
    return None


def cache_folder() -> Path:
    """Where Linnet keeps what it can make or fetch again (compiled steps, the base that models of little text begin
    with, data behind URLs, what `linnet doctor` found), and what was typed into chats.

    Nothing else is written outside the folders that a user names.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "linnet"


def cache_limit() -> int:
    """The bytes that data read from elsewhere may take in the cache folder: 20 GB, or as LINNET_CACHE_GB says.

    Raises:
        UserError: that is no number.
    """
    asked = os.environ.get("LINNET_CACHE_GB") or "20"
    try:
        limit = float(asked)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise UserError(f"LINNET_CACHE_GB is {asked!r}; give a number of gigabytes, such as 50")
    return int(limit * 1e9)


def prepare_compiler() -> Path:
    """Points the compile cache at the user's cache folder, which keeps it between runs; returns that folder."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
    return Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])


def available_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken for numbers on `device`; None where the system does not say."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    # an Apple GPU shares the machine's memory
    known = [left for left in (_machine_memory(), *_cgroup_memory()) if left is not None]
    return max(0, min(known)) if known else None


def _machine_memory() -> int | None:
    """What the machine has left: free, or held only as a cache of files."""
    told = _virtual_memory()
    return None if told is None else int(told.available)


def _virtual_memory() -> Any:
    """psutil's figures for the machine's memory; None where the system does not say."""
    import psutil

    try:
        return psutil.virtual_memory()
    except (OSError, RuntimeError):  # a container may hide where psutil looks
        return None


def _cgroup_memory(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What each limit on this process's control groups leaves, of version 1 and 2; none set: no figure."""
    found = []
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = root / controllers
        # a limit on any group above counts too; inside a container only its own group is seen, at the root
        inside = base / path.strip("/")
        for folder in (inside, *inside.parents):
            if folder == base or base in folder.parents:
                left = _left_in_group(folder, version=1 if controllers else 2)
                found += [] if left is None else [left]
    return found


def _left_in_group(folder: Path, version: int) -> int | None:
    """Bytes that the limit of one control group leaves; its cache of files can be dropped and counts as free."""
    limit_file, used_file, cache_name = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    try:
        limit, used = ((folder / name).read_text().strip() for name in (limit_file, used_file))
        cache = re.search(rf"^{cache_name} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return None
    if limit == "max":
        return None
    return int(limit) - int(used) + (int(cache[1]) if cache else 0)


def release_memory(device: torch.device) -> None:
    """Gives back what nobody holds any more: of Python's objects, and of the GPU's blocks kept for reuse."""
    import gc

    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: of the GPU's where it computes there, resident memory otherwise."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The most memory this process has held at a time; 0 where the system does not say."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    try:
        # what psutil does not tell; and not getrusage: there a process begins with the peak of the one that started it
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
    except (OSError, TypeError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Versions of what results depend on, and Linnet's own commit where it runs from a checkout."""
    from importlib.metadata import version

    found = {"linnet": __version__, "python": platform.python_version()}
    found |= {name: version(name) for name in ("torch", "numpy", "safetensors")}
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _commit() -> str | None:
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """What a figure must be read with: processor, cores, memory in bytes, system, and the GPU that computes."""
    found: dict[str, Any] = {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    if (memory := _virtual_memory()) is not None:
        found["memory_bytes"] = int(memory.total)
    if device is not None and device.type == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
