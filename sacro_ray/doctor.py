"""`doctor`: what works on this machine, without starting Ray."""

import importlib.util
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sacro_ray import __version__, command

log = logging.getLogger("sacro_ray")

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pydicom")
DECODERS = {"openjpeg": "pylibjpeg-openjpeg", "jpeg_ls": "pyjpegls", "imagecodecs": "imagecodecs"}
"""Modules that decode compressed DICOM, and the packages that bring them."""
SMALLEST_SHM_MIB = 256
"""Docker gives 64 MiB unless told otherwise; below this Ray puts its objects on the disk, which is many times slower."""
SMALLEST_TEMPORARY_GIB = 1.0
"""Ray's logs and sockets, and objects that do not fit into /dev/shm."""
SMALLEST_MEMORY_GIB = 4.0
"""A local Ray with one worker that trains a ResNet-50 at 224 px."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        lines: What was found.
        remark: What would make it better; commands run nevertheless.
        problem: Why commands cannot run, and what to do.
    """

    name: str
    lines: list[str]
    remark: str = ""
    problem: str = ""


def main(argv: list[str]) -> str:
    """Look at this machine; prints a paragraph on each thing, and returns the line that sums them up."""
    parser = command.parser(
        "doctor",
        "Say what works on this machine: versions, processors, memory, GPUs, shared memory, temporary folder, home, decoders, and\n"
        "which decoded radiographs lie in the folder of caches. Nothing is started or changed. Status 1 where commands cannot run.",
        "sacro-ray doctor",
    )
    command.add_common(parser)
    arguments = parser.parse_args(argv)
    if arguments.set or arguments.address:
        log.warning("doctor looks at this machine alone; --set and --address change nothing")
    findings = []
    for look in (versions, machine, gpus, shared_memory, temporary_folder, home_folder, working_folder, decoders, caches):
        found = look()
        findings.append(found)
        print("\n".join(_paragraph(found)), flush=True)
    return _verdict(findings)


def _paragraph(finding: Finding) -> Iterator[str]:
    for number, line in enumerate(finding.lines):
        yield f"{finding.name if number == 0 else '':<18} {line}"
    for kind, text in (("remark", finding.remark), ("problem", finding.problem)):
        if text:
            yield f"{'':<18} {kind}: {text}"


def _verdict(findings: list[Finding]) -> str:
    problems = [finding.name for finding in findings if finding.problem]
    remarks = [finding.name for finding in findings if finding.remark]
    if problems:
        print(f"commands cannot run here: {', '.join(problems)}", flush=True)
        raise SystemExit(1)
    return f"all commands can run here; remarks on {', '.join(remarks)}" if remarks else "all commands can run here"


def versions() -> Finding:
    """Of Python and of what decides results and speed."""
    found = [f"sacro_ray {__version__}", f"Python {sys.version.split()[0]}"]
    missing = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    problem = f"{', '.join(missing)} not installed; install the package again: pip install sacro_ray" if missing else ""
    return Finding("versions", [", ".join(found)], problem=problem)


def machine() -> Finding:
    """Processors and memory."""
    from sacro_ray.dataset.decoded import GIB
    from sacro_ray.dataset.machine import memory, processors

    found = memory()
    text = f"{processors()} processors, {found.total / GIB:.1f} GiB of memory, {found.free / GIB:.1f} GiB of it free"
    small = found.free < SMALLEST_MEMORY_GIB * GIB
    return Finding(
        "machine", [text], f"less than {SMALLEST_MEMORY_GIB:g} GiB is free: Ray may end workers for it" if small else ""
    )


def gpus() -> Finding:
    """What PyTorch can compute on."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("GPUs", ["unknown"], problem=f"PyTorch cannot be imported ({error}); install it again")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    lines = []
    for number in range(count):
        about = torch.cuda.get_device_properties(number)
        lines.append(f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
    built = torch.version.cuda
    remark = ""
    if not count and Path("/dev/nvidia0").exists():
        remark = f"there is an NVIDIA device, and PyTorch (built for CUDA {built}) does not reach it: look at nvidia-smi"
    return Finding("GPUs", lines or ["none; networks are trained and applied on the processors"], remark)


def shared_memory() -> Finding:
    """/dev/shm, in which Ray keeps what its processes share."""
    from sacro_ray.dataset.machine import disk_text

    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("/dev/shm", ["not there"], "Ray puts its objects on the disk, which is slower")
    small = shutil.disk_usage(place).total < SMALLEST_SHM_MIB * 2**20
    remark = "small: Ray puts its objects on the disk, which is slower; docker run --shm-size=2g gives more" if small else ""
    return Finding("/dev/shm", [disk_text(place)], remark)


def temporary_folder() -> Finding:
    """Where Ray keeps its logs and sockets."""
    from sacro_ray.dataset.machine import disk_text

    place = Path(tempfile.gettempdir())
    small = shutil.disk_usage(place).free < SMALLEST_TEMPORARY_GIB * 2**30
    return Finding(
        "temporary folder",
        [f"{place}, {disk_text(place)}"],
        f"less than {SMALLEST_TEMPORARY_GIB:g} GiB is free; make room, or set TMPDIR to another folder" if small else "",
        _unwritable(place, "TMPDIR"),
    )


def home_folder() -> Finding:
    """Where caches and Ray's token go unless told otherwise."""
    from sacro_ray.dataset.files import cache_root
    from sacro_ray.home import home, stand_in, writable

    found, root = home(), cache_root()
    lines = [str(found) if found else "none", f"caches go to {root}"]
    replaced = found is None or found == stand_in() or not writable(found)
    advice = "" if "SACRO_RAY_CACHE" in os.environ else "; set SACRO_RAY_CACHE to a folder on a disk with room"
    remark = f"the home cannot be used{advice}" if replaced else ""
    return Finding("home", lines, remark, _unwritable(root, "SACRO_RAY_CACHE"))


def working_folder() -> Finding:
    """Where shards, runs and scores go unless told otherwise."""
    from sacro_ray.dataset.machine import disk_text

    place = Path.cwd()
    problem = _unwritable(place, "--out, --runs and prepare.shards")
    return Finding("working folder", [f"{place}, {disk_text(place)}"], problem)


def decoders() -> Finding:
    """What compressed DICOM needs."""
    missing = [package for module, package in DECODERS.items() if importlib.util.find_spec(module) is None]
    lines = [", ".join(package for package in DECODERS.values() if package not in missing) or "none"]
    return Finding("decoders", lines, f"{', '.join(missing)} not installed: some DICOM files are excluded" if missing else "")


def caches() -> Finding:
    """Decoded radiographs of this node."""
    from sacro_ray.config import Training
    from sacro_ray.dataset.files import cache_root
    from sacro_ray.dataset.machine import cache_lines, disk_text
    from sacro_ray.disk import DiskError

    budget = f"training.cache_gib allows {Training().cache_gib:g} GiB in all unless an experiment says otherwise"
    try:
        there = next(folder for folder in (cache_root(), *cache_root().absolute().parents) if os.path.exists(folder))
        return Finding("caches", [*cache_lines(), f"{budget}; the disk has {disk_text(there)}"])
    except (OSError, DiskError):  # `home_folder` says what is wrong with it
        return Finding("caches", [f"what lies in {cache_root()} cannot be looked at", budget])


def _unwritable(folder: Path, setting: str) -> str:
    from sacro_ray.disk import DiskError, check_writable

    try:
        check_writable(folder, setting)
    except DiskError as error:
        return str(error)
    return ""


def cli(argv: list[str] | None = None) -> None:
    """Entry of the command."""
    command.run(main, argv)


if __name__ == "__main__":
    cli()
