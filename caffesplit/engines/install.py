"""A real BVLC Caffe 1.0 (CPU), from Debian 11's packages, in the user's cache folder.

Later releases of Debian and Ubuntu have no Caffe. The packages are unpacked, not installed: the
system stays as it is, and no root is needed. Each program gets a wrapper which starts it through
the unpacked tree's own dynamic loader, so that it sees the libraries it was built for and all the
paths of the machine as they are.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caffesplit.engines import debian
from caffesplit.errors import EngineError, Location

SUITE = "bullseye"

PACKAGES = ("caffe", "python3-caffe", "libopenblas0-pthread")
"""OpenBLAS because with the reference BLAS, which apt would choose, training takes three times
as long."""

NEEDED_BYTES = 1_000_000_000
"""Of disk while installing: 260 MB of packages and their lists, 640 MB unpacked, and some air."""

PROGRAMS = (
    "caffe",
    "classification",
    "compute_image_mean",
    "convert_cifar_data",
    "convert_imageset",
    "convert_mnist_data",
    "convert_mnist_siamese_data",
    "extract_features",
    "upgrade_net_proto_binary",
    "upgrade_net_proto_text",
    "upgrade_solver_proto_text",
)

UNUSED = ("usr/share", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base", "var")
"""Documentation, translations, maps, Perl: a quarter of what the packages hold; 485 MB stay."""

LIBRARIES = (
    "usr/lib/x86_64-linux-gnu/openblas-pthread",
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib",
)
"""OpenBLAS first, or its libblas.so.3 would be hidden by the reference one."""

LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"

WRAPPER = """\
#!/bin/sh
# Starts {program} of the tree beside this folder with the tree's own loader and libraries.
# The locale is C because this glibc may not be able to read the machine's own locales.
# One BLAS thread: small nets train up to four times as fast, and to the same bits whatever the
# number of cores. For a large net, set OPENBLAS_NUM_THREADS to the number of cores.
bin=$(dirname -- "$(readlink -f -- "$0")")
tree=$bin/../tree
unset LD_PRELOAD LD_LIBRARY_PATH
export LC_ALL=C OPENBLAS_NUM_THREADS="${{OPENBLAS_NUM_THREADS:-1}}"
{setting}exec "$tree/{loader}" --library-path "{libraries}" "$tree/usr/bin/{program}" "$@"
"""

PYTHON_SETTING = """\
unset PYTHONPATH
export PYTHONHOME="$tree/usr" PYTHONNOUSERSITE=1
"""

STAMP = "installed.json"
RECIPE = 1
"""Counts the changes of this module that ask for a new installation."""


def cache_folder() -> Path:
    """Where caffesplit keeps what it can bring again: $XDG_CACHE_HOME/caffesplit."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "caffesplit"


def installed() -> Path | None:
    """The installed `caffe`, or None where there is no complete installation."""
    folder = cache_folder() / "caffe"
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return None
    return folder / "bin/caffe" if stamp.get("recipe") == RECIPE else None


def install(
    mirror: str | None = None,
    keyring: Path = debian.KEYRING,
    progress: debian.Progress = lambda doing, part: None,
) -> Path:
    """Bring Caffe unless it is there and runs; return the path of `caffe`.

    The mirror is `mirror`, else $CAFFESPLIT_DEBIAN_MIRROR, else the Debian mirrors that the
    machine's apt sources name. A kill at any moment leaves what was there before, and a second
    call goes on with what has been downloaded.

    Raises:
        EngineError: if this is not Linux on x86-64 with apt, if no mirror is known or none of
            them carries Debian 11, or if the disk is full.
    """
    cache = cache_folder()
    with _alone(cache):
        ready = installed()
        if ready and _runs(ready):
            return ready
        _check_machine(cache)
        archives = _download(mirror, keyring, cache / "caffe.packages", progress)
        staging = cache / "caffe.partial"
        shutil.rmtree(staging, ignore_errors=True)
        _unpack(archives, staging, progress)
        shutil.rmtree(cache / "caffe", ignore_errors=True)
        staging.rename(cache / "caffe")
        shutil.rmtree(cache / "caffe.packages")
    return cache / "caffe/bin/caffe"


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Wait until no other process is installing."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "caffe.lock").open("w")
    except OSError as error:
        raise EngineError(
            f"the cache folder cannot be written to ({error.strerror})",
            "a writable folder",
            "Set $XDG_CACHE_HOME to a folder of yours.",
            Location(str(cache)),
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_machine(cache: Path) -> None:
    build = "Build Caffe 1.0 for this machine and name it with --caffe or $CAFFE."
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise EngineError(
            f"this machine is {platform.system()} on {platform.machine()}",
            "Linux on x86_64, which Debian's Caffe is built for",
            build,
        )
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise EngineError(f"{program} is missing", "Debian, Ubuntu or another with apt", build)
    if shutil.disk_usage(cache).free < NEEDED_BYTES:
        raise debian.disk_full(cache)


def _download(
    mirror: str | None, keyring: Path, folder: Path, progress: debian.Progress
) -> list[Path]:
    """Download the packages from the first mirror that has them."""
    given = mirror or os.environ.get("CAFFESPLIT_DEBIAN_MIRROR")
    mirrors = [given] if given else debian.machine_mirrors()
    if not mirrors:
        raise EngineError(
            "this machine's apt sources name no Debian mirror",
            f"one that carries {SUITE}",
            debian.MIRROR_REMEDY.format(suite=SUITE),
        )
    errors = []
    for url in mirrors:
        try:
            repository = debian.Repository(url, SUITE, keyring)
            return debian.download(PACKAGES, repository, folder, progress)
        except EngineError as error:
            errors.append(error)
    raise errors[0]


def _unpack(archives: list[Path], staging: Path, progress: debian.Progress) -> None:
    """Unpack the archives into `staging`, add the wrappers, try them, and write the stamp."""
    tree = staging / "tree"
    tree.mkdir(parents=True)
    for i, archive in enumerate(archives):
        progress("unpacking", i / len(archives))
        debian.unpack(archive, tree)
    progress("unpacking", 1)
    for unused in UNUSED:
        shutil.rmtree(tree / unused, ignore_errors=True)
    _write_wrappers(staging / "bin")
    if not _runs(staging / "bin/caffe"):
        raise EngineError(
            "the unpacked Caffe does not start",
            '"caffe --version" to answer',
            f"Run {staging / 'bin/caffe'} --version to see why.",
            Location(str(staging)),
        )
    packages = [archive.stem for archive in archives]
    stamp = {"recipe": RECIPE, "suite": SUITE, "packages": packages}
    (staging / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")


def _write_wrappers(folder: Path) -> None:
    folder.mkdir()
    libraries = ":".join(f"$tree/{library}" for library in LIBRARIES)
    programs = {name: (name, "") for name in PROGRAMS}
    programs["python-caffe"] = ("python3.9", PYTHON_SETTING)
    for name, (program, setting) in programs.items():
        wrapper = folder / name
        wrapper.write_text(
            WRAPPER.format(program=program, setting=setting, loader=LOADER, libraries=libraries)
        )
        wrapper.chmod(0o755)


def _runs(caffe: Path) -> bool:
    try:
        answer = subprocess.run([caffe, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "caffe version 1.0" in answer.stdout
