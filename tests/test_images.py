"""docker/: the image builds without a daemon, and serves those who run it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_experiment

from caffesplit.engines import debian

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools/build_image.py"
BASE = "docker.io/library/debian:bookworm"
SOMEBODY = 1234

ROOM = 4 << 30
"""Bytes that building the image takes at most, its base and its container included."""

Run = Callable[..., subprocess.CompletedProcess[str]]


def memory() -> str | None:
    """Linux's folder in memory if it has room: there, the image builds in half the time."""
    available = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    shared = os.statvfs("/dev/shm")
    usable = not shared.f_flag & (os.ST_NODEV | os.ST_NOEXEC)
    space = min(
        shared.f_bavail * shared.f_frsize, int(available[1]) * 1024 // 2 if available else 0
    )
    return "/dev/shm" if usable and space > ROOM else None


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a command whose images and containers lie in a folder that goes afterwards."""
    if shutil.which("buildah") is None or os.geteuid() != 0:
        reason = "no buildah, or not root: apt-get install buildah mmdebstrap"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        settings = Path(folder, "storage.conf")
        environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(settings), "TMPDIR": folder}

        def run(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
            done = subprocess.run(
                [str(word) for word in command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0 or not check, done.stdout[-5000:]
            return done

        # overlay shares what vfs copies, but not every file system can carry it.
        for driver in ("overlay", "vfs"):
            settings.write_text(
                f'[storage]\ndriver = "{driver}"\n'
                f'graphroot = "{folder}/{driver}"\nrunroot = "{folder}/run"\n'
            )
            if run("buildah", "info", check=False).returncode == 0:
                break
        yield run
        run("buildah", "umount", "--all")


@pytest.fixture(scope="module")
def base(run: Run) -> None:
    """debian:bookworm, made of Debian's packages; without mmdebstrap a registry has to give it."""
    if shutil.which("mmdebstrap") is None:
        return
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout
    network = [s for s in settings.splitlines() if s.startswith(debian.NETWORK_SETTINGS)]
    options = [f"--aptopt={setting}" for setting in network]
    container = run("buildah", "from", "scratch").stdout.strip()
    folder = run("buildah", "mount", container).stdout.strip()
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", *options),
        *("bookworm", folder, *debian.machine_mirrors()[:1]),
    )
    run("buildah", "commit", "--quiet", "--rm", container, BASE)


@pytest.fixture(scope="module")
def built(run: Run, base: None) -> str:
    """What the tool prints that builds the image and runs its demo."""
    return run(sys.executable, TOOL, "--builder", "buildah", "--", "--pull-never").stdout


@pytest.fixture(scope="module")
def container(run: Run, built: str) -> str:
    return run("buildah", "from", "--pull-never", "caffesplit").stdout.strip()


def test_the_image_builds_and_its_demo_runs(built):
    table = built[built.index("Net       Acc") :].splitlines()
    assert [row.split()[0] for row in table[1:4]] == ["baseline", "derived1", "derived2"]
    assert table[-1] == (
        "caffesplit is built, and its demo runs. docker/README.md says how to use it."
    )


def test_by_itself_the_image_runs_the_demo_and_not_as_root(run, built):
    image = json.loads(run("buildah", "inspect", "--type", "image", "caffesplit").stdout)
    config = image["OCIv1"]["config"]
    assert config["Cmd"] == ["caffesplit", "demo"]
    assert config["User"] == "caffe"
    assert config["StopSignal"] == "SIGINT"


def test_whoever_runs_it_on_a_mounted_experiment_owns_what_it_writes(run, container, tmp_path):
    small_experiment.make(tmp_path)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        os.chown(path, SOMEBODY, SOMEBODY)
    tpm = ["caffesplit", "tpm", "exp/base", "--window", "100:400", "--plot", "tpm.png"]
    done = run(
        *("buildah", "run", "--isolation=chroot", f"--user={SOMEBODY}:{SOMEBODY}"),
        *(f"--volume={tmp_path}:/data", container, "--", *tpm),
    )
    assert done.stdout.startswith("Mean TPM ratio entropy = ")
    assert "Matplotlib" not in done.stdout
    written = (tmp_path / "tpm.png").stat()
    assert (written.st_uid, written.st_gid) == (SOMEBODY, SOMEBODY)


def test_nothing_but_the_product_is_in_the_image(run, container):
    image = Path(run("buildah", "mount", container).stdout.strip())
    assert not (image / "etc/pip.conf").exists()
    assert not (image / "root/.cache").exists()
    for empty in ("var/lib/apt/lists", "var/cache/apt", "tmp", "data"):
        assert not list((image / empty).iterdir()), empty
    assert {path.name for path in (image / "opt/caffesplit").iterdir()} == {
        *("caffe", "caffe.lock", ".venv"),
        *("caffesplit", "caffesplit.egg-info", "tools"),
        *("LICENSE", "README.md", "pyproject.toml", "setup.py"),
    }
    assert {path.name for path in (image / "opt/caffesplit/tools").iterdir()} == {
        *("install_caffe.py", "plot_loss.py")
    }


def test_a_step_that_fails_is_told_of(run):
    done = run(
        *(sys.executable, TOOL, "--builder", "buildah", "--"),
        *("--pull-never", "--build-arg", "BASE=scratch"),
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.endswith(
        "build_image: docker/Dockerfile: buildah failed in one of its steps, expected all of them "
        "to pass\nIts last lines above say why. docker/README.md tells what a build needs of the "
        "network.\n"
    )


def test_a_machine_without_a_builder_is_told_what_to_install(tmp_path):
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho Client: >&2\necho Cannot connect to the daemon. >&2\nexit 1")
    docker.chmod(0o755)
    done = subprocess.run(
        [sys.executable, TOOL], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        "build_image: nothing here builds images, expected docker or podman or buildah\n"
        "    docker: Cannot connect to the daemon.\n"
        "    podman: not installed\n"
        "    buildah: not installed\n"
        'On Debian and Ubuntu, "apt-get install podman" brings one that needs no daemon.\n'
    )


def test_a_build_is_lent_the_settings_by_which_pip_reaches_packages(tmp_path, monkeypatch):
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\n"
        "extra-index-url =\n    file:///srv/simple\n    https://two.example/simple\n"
        f"cert = {tmp_path}/ca.pem\n[install]\nuser = true\n"
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://three.example/simple")
    lent = tmp_path / "lent"
    lent.mkdir()

    options = runpy.run_path(str(TOOL))["pip_secrets"](lent)

    assert options == [
        f"--secret=id=ca,src={tmp_path}/ca.pem",
        f"--secret=id=pip,src={lent}/pip.conf",
    ]
    assert (lent / "pip.conf").read_text() == (
        "[global]\nindex-url = https://three.example/simple\n"
        "extra-index-url = https://two.example/simple\n"
        "cert = /etc/ssl/certs/ca-certificates.crt\n"
    )


def test_the_gpu_image_finds_wheels_for_its_old_glibc(tmp_path):
    """Ubuntu 16.04 has glibc 2.23: manylinux2014 (2.17) serves it, manylinux_2_28 does not."""
    needed = [
        requirement.partition(";")[0]
        for requirement in importlib.metadata.requires("caffesplit") or []
        if "extra ==" not in requirement or 'extra == "all"' in requirement
    ]
    wheels = ["--platform=manylinux2014_x86_64", "--python-version=3.11", "--only-binary=:all:"]
    dry_run = ["--quiet", "--dry-run", "--ignore-installed", f"--target={tmp_path}"]
    subprocess.run([sys.executable, "-m", "pip", "install", *dry_run, *wheels, *needed], check=True)
