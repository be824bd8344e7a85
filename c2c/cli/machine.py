"""The command ``c2c doctor``: what this machine has, what is missing, and the remedy of each problem."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from c2c import __version__
from c2c.errors import EXTRAS, FAILED, RefusedError, install_remedy
from c2c.models.download import MIRRORS

CORE = ("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy")
"""Packages that the library needs."""
LEAST_FREE_GB, LEAST_MEMORY_GB = 5.0, 4.0
"""Space and memory below which the smallest real pair has no room."""
SECONDS = 3.0
"""Longest wait for the hub."""
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what it is, whether that is a problem, and what to do then."""

    name: str
    value: str
    state: Literal["ok", "absent", "problem"] = "ok"
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Examine this machine: versions, devices, threads, memory, disk, hub or mirror, optional extras.

    The exit code is 1 if anything is a problem; an extra that is absent is none.
    """

    json: bool = False
    """print JSON"""
    offline: bool = False
    """do not try to reach the hub"""

    def run(self) -> None:
        """Print the findings, each problem with its remedy."""
        findings = list(examine(offline=self.offline))
        problems = [finding for finding in findings if finding.state == "problem"]
        if self.json:
            print(json.dumps({"ok": not problems, "findings": [asdict(finding) for finding in findings]}, indent=1))
        else:
            print("\n".join(report(findings)))
        if problems:
            sys.exit(FAILED)


def report(findings: list[Finding]) -> Iterator[str]:
    """The findings as lines of text, and how many are problems."""
    width = max(len(finding.name) for finding in findings)
    marks = {"ok": "ok", "absent": "--", "problem": "!!"}
    for finding in findings:
        yield f"{marks[finding.state]}  {finding.name:{width}}  {finding.value}"
        if finding.remedy:
            yield f"    {'':{width}}  -> {finding.remedy}"
    problems = sum(finding.state == "problem" for finding in findings)
    yield "\nNo problem found." if not problems else f"\n{problems} problem(s); see the lines with !!."


def examine(*, offline: bool = False) -> Iterator[Finding]:
    """All findings about this machine, the cheap ones first."""
    # Python and packages
    yield Finding("c2c", __version__)
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    remedy = "" if supported else "Make an environment with Python 3.11, 3.12 or 3.13"
    yield Finding("python", platform.python_version(), "ok" if supported else "problem", remedy)
    yield from map(_package, CORE)
    # The machine
    yield from _devices()
    yield from _threads()
    yield _memory()
    yield _disk()
    # Where models come from
    yield _source(offline)
    # Extras
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if util.find_spec(name) is None]
        text = f"needs {', '.join(missing)}" if missing else "installed"
        remedy = install_remedy(extra) if missing else ""
        yield Finding(f"extra {extra}", text, "absent" if missing else "ok", remedy)


def _package(name: str) -> Finding:
    try:
        return Finding(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", "problem", f"pip install {name}")


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding(
            "devices", f"torch cannot be imported: {error}", "problem", "Install torch again: pip install torch"
        )
        return
    yield Finding("device cpu", platform.processor() or platform.machine())
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            yield Finding(f"device cuda:{number}", f"{about.name}, {about.total_memory / GB:.0f} GB")
    elif shutil.which("nvidia-smi"):
        remedy = "Install a torch that was built for this driver: https://pytorch.org/get-started/locally"
        yield Finding("device cuda", "a driver is here, but torch does not see a GPU", "problem", remedy)
    else:
        yield Finding("device cuda", "none", "absent")
    if torch.backends.mps.is_available():
        yield Finding("device mps", "Apple GPU")
    elif sys.platform == "darwin":
        remedy = "Use macOS 14 or newer on Apple silicon, and torch's own wheel"
        yield Finding("device mps", "torch does not see the Apple GPU", "absent", remedy)


def _threads() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and threads.isdigit() and int(threads) > cores:
        remedy = f"export OMP_NUM_THREADS={cores}"
        yield Finding("threads", f"OMP_NUM_THREADS={threads} on {cores} cores", "problem", remedy)
    else:
        yield Finding("threads", f"{threads or cores} on {cores} cores")


def memory_gb() -> float | None:
    """Memory of this machine in GB, of a container its limit; None where the system does not say."""
    sizes = []
    try:
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if path.is_file() and (text := path.read_text(encoding="ascii").strip()).isdigit():
            sizes.append(int(text))
    return min(sizes) / GB


def _memory() -> Finding:
    size = memory_gb()
    if size is None:
        return Finding("memory", "unknown", "absent")
    if size < LEAST_MEMORY_GB:
        remedy = f"Use a machine with {LEAST_MEMORY_GB:.0f} GB, or models below 0.2 billion parameters"
        return Finding("memory", f"{size:.1f} GB", "problem", remedy)
    return Finding("memory", f"{size:.1f} GB")


def models_folder() -> Path:
    """Where the hub's library keeps what it downloads."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _disk() -> Finding:
    folder = models_folder()
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free / GB
    if free < LEAST_FREE_GB:
        remedy = "Free some space, or set HF_HOME to a folder on another disk"
        return Finding("disk", f"{free:.1f} GB free for models in {folder}", "problem", remedy)
    return Finding("disk", f"{free:.0f} GB free for models in {folder}")


def _source(offline: bool) -> Finding:
    """Whether models can be had: from a mirror on the disk, from the hub, or only from what is downloaded."""
    folders = [Path(folder) for folder in os.environ.get(MIRRORS, "").split(os.pathsep) if folder]
    if absent := [str(folder) for folder in folders if not folder.is_dir()]:
        return Finding("hub", f"no folder {absent[0]}", "problem", f"Correct {MIRRORS}")
    if folders:
        return Finding("hub", f"mirror {', '.join(map(str, folders))}")
    if offline or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Finding("hub", "not tried: offline; folders and downloaded models can be used", "absent")
    try:
        reach_hub()
    except OSError as error:
        remedy = f"Check network and proxy, set {MIRRORS} to a folder <owner>/<name>, or HF_HUB_OFFLINE=1 to do without"
        return Finding("hub", f"not reachable: {error}", "problem", remedy)
    return Finding("hub", "reachable")


def reach_hub() -> None:
    """Open the hub's page, within some seconds.

    Raises:
        OSError: If nothing answers.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not endpoint.startswith("https://"):
        raise RefusedError("HF_ENDPOINT must be an address with https", endpoint, "Correct HF_ENDPOINT")
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=SECONDS).close()
    except HTTPError:
        return  # an answer, though not a page
