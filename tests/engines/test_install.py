from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffesplit.engines import debian, install
from caffesplit.errors import EngineError

TOOL = Path(__file__).parents[2] / "tools/install_caffe.py"

needs_apt = pytest.mark.skipif(
    not (shutil.which("apt-get") and shutil.which("dpkg-deb") and debian.KEYRING.exists()),
    reason="needs apt and Debian's keys",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and no mirror in the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CAFFESPLIT_DEBIAN_MIRROR", raising=False)
    return tmp_path / "cache/caffesplit"


def error_of(mirror: str | None = None, **options) -> str:
    with pytest.raises(EngineError) as caught:
        install.install(mirror, **options)
    return str(caught.value)


def fake_installation(cache: Path, answer: str = "caffe version 1.0.0") -> Path:
    caffe = cache / "caffe/bin/caffe"
    caffe.parent.mkdir(parents=True)
    caffe.write_text(f"#!/bin/sh\necho {answer}\n")
    caffe.chmod(0o755)
    (cache / "caffe" / install.STAMP).write_text(json.dumps({"recipe": install.RECIPE}))
    return caffe


# What is installed already


def test_a_complete_installation_is_left_as_it_is(cache):
    caffe = fake_installation(cache)

    assert install.install("no mirror is asked") == caffe
    assert install.installed() == caffe


def test_without_a_stamp_there_is_no_installation(cache):
    fake_installation(cache)
    (cache / "caffe" / install.STAMP).unlink()

    assert install.installed() is None
    assert '"not asked" is no mirror' in error_of("not asked")


def test_the_installation_of_another_recipe_is_redone(cache):
    fake_installation(cache)
    (cache / "caffe" / install.STAMP).write_text(json.dumps({"recipe": install.RECIPE - 1}))

    assert install.installed() is None


@needs_apt
def test_an_installation_that_does_not_run_is_redone(cache):
    fake_installation(cache, "Segmentation fault")

    assert '"not a mirror" is no mirror' in error_of("not a mirror")


# Machines and mirrors that cannot serve


def test_another_machine_is_told_to_build_caffe(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    assert error_of() == (
        f"this machine is {platform.system()} on aarch64, "
        "expected Linux on x86_64, which Debian's Caffe is built for\n"
        "Build Caffe 1.0 for this machine and name it with --caffe or $CAFFE."
    )


def test_a_machine_without_apt_is_told_to_build_caffe(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert error_of().startswith("apt-get is missing, expected Debian, Ubuntu or another with apt")


def test_a_cache_folder_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert error_of() == (
        f"{tmp_path}/file/caffesplit: the cache folder cannot be written to (Not a directory), "
        "expected a writable folder\nSet $XDG_CACHE_HOME to a folder of yours."
    )


@needs_apt
def test_a_full_disk_is_noticed_before_the_download(monkeypatch, cache):
    monkeypatch.setattr(install, "NEEDED_BYTES", 1 << 60)

    message = error_of("http://127.0.0.1:9/debian")

    assert message.startswith(f"{cache}: the disk is full (")
    assert "MB free), expected room for the packages\nMake room, or set $XDG_CACHE_HOME" in message


@needs_apt
@pytest.mark.parametrize("mirror", ["ftp.example", "http://a b", "http://a [trusted=yes]", "file"])
def test_what_is_no_url_is_no_mirror(mirror):
    assert error_of(mirror) == (
        f'"{mirror}" is no mirror, expected a URL such as http://…\n'
        "Give --mirror URL (or $CAFFESPLIT_DEBIAN_MIRROR): the URL of any Debian mirror that "
        "carries\nbullseye, that is, the folder which has dists/bullseye in it."
    )


@needs_apt
def test_the_mirror_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CAFFESPLIT_DEBIAN_MIRROR", "nowhere")
    assert error_of().startswith('"nowhere" is no mirror')


@needs_apt
def test_a_mirror_that_cannot_be_reached_is_named_with_apts_own_words(tmp_path, monkeypatch):
    # The machine's own network settings hold: this one asks once and not four times.
    (tmp_path / "apt.conf").write_text('Acquire::Retries "0";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    message = error_of("http://127.0.0.1:9/debian")

    assert message.startswith(
        "http://127.0.0.1:9/debian: the Debian mirror cannot be reached, "
        "expected a mirror that answers\nCheck the network, then run this again"
    )
    assert "    E: Failed to fetch http://127.0.0.1:9/debian/dists/bullseye/InRelease" in message


@needs_apt
def test_a_mirror_without_the_release_is_named_with_apts_own_words(tmp_path):
    (tmp_path / "mirror").mkdir()

    message = error_of(f"file:{tmp_path}/mirror")

    assert message.startswith(
        f"file:{tmp_path}/mirror: bullseye's packages are not to be had from this mirror, "
        "expected a Debian mirror that carries bullseye\nGive --mirror URL"
    )
    assert "does not have a Release file." in message


@needs_apt
def test_a_mirror_that_is_not_signed_by_debian_is_refused(tmp_path):
    release = tmp_path / "mirror/dists/bullseye"
    (release / "main/binary-amd64").mkdir(parents=True)
    (release / "main/binary-amd64/Packages").write_text("")
    (release / "Release").write_text(
        "Origin: Debian\nSuite: oldoldstable\nCodename: bullseye\nArchitectures: amd64\n"
        "Components: main\nDate: Sat, 31 Aug 2024 10:00:00 UTC\nSHA256:\n"
        f" {'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'} 0 "
        "main/binary-amd64/Packages\n"
    )

    message = error_of(f"file:{tmp_path}/mirror")

    assert message.startswith(
        f"file:{tmp_path}/mirror: bullseye is not signed by a key of {debian.KEYRING}, "
        "expected Debian's own signature\nBring debian-archive-keyring up to date"
    )


@needs_apt
def test_missing_keys_are_named(tmp_path):
    assert error_of("http://127.0.0.1:9/debian", keyring=tmp_path / "keys.gpg") == (
        f"{tmp_path}/keys.gpg: the keys that Debian signs its packages with are missing, "
        f"expected them in {tmp_path}/keys.gpg\n"
        "Install the package debian-archive-keyring, or give --keyring FILE."
    )


@needs_apt
def test_the_machines_debian_mirrors_are_found_in_both_formats_of_apts_sources(
    tmp_path, monkeypatch
):
    (tmp_path / "sources.list").write_text(
        "deb http://one.example/debian bookworm main contrib\n"
        "deb http://one.example/debian bookworm-updates main\n"
        "deb http://security.example/debian-security bookworm-security main\n"
        "deb http://other.example/ubuntu jammy main\n"
        "deb http://database.example/debian bookworm-pgdg main\n"
        "deb http://browser.example/deb stable main\n"
    )
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/debian.sources").write_text(
        "Types: deb\nURIs: https://two.example/debian\nSuites: trixie\nComponents: main\n"
    )
    (tmp_path / "apt.conf").write_text(
        'Dir::Etc::main "/dev/null";\nDir::Etc::parts "/dev/null";\n'
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\n'
        f'Dir::Etc::sourceparts "{tmp_path}/parts";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    assert sorted(debian.machine_mirrors()) == [
        "http://one.example/debian",
        "https://two.example/debian",
    ]


@needs_apt
def test_without_a_debian_mirror_one_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "sources.list").write_text("deb http://other.example/ubuntu jammy main\n")
    (tmp_path / "apt.conf").write_text(
        'Dir::Etc::main "/dev/null";\nDir::Etc::parts "/dev/null";\n'
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))

    assert error_of().startswith(
        "this machine's apt sources name no Debian mirror, expected one that carries bullseye\n"
        "Give --mirror URL (or $CAFFESPLIT_DEBIAN_MIRROR)"
    )


@needs_apt
def test_a_damaged_package_is_deleted_to_be_downloaded_anew(tmp_path):
    archive = tmp_path / "caffe_1.0_amd64.deb"
    archive.write_bytes(b"!<arch>\ndebian-binary   half of it")

    with pytest.raises(EngineError, match="the package is damaged: dpkg-deb: error"):
        debian.unpack(archive, tmp_path / "tree")

    assert not archive.exists()


# The tool


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as on a fresh machine: nothing but the standard library to import."""
    command = [sys.executable, "-I", "-S", str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


def test_the_tool_prints_where_caffe_is(cache):
    caffe = fake_installation(cache)

    result = run_tool()

    assert (result.returncode, result.stdout, result.stderr) == (0, f"{caffe}\n", "")


@needs_apt
def test_the_tool_ends_with_one_message_and_status_2():
    result = run_tool("--mirror", "nowhere")

    assert result.returncode == 2
    assert result.stderr.startswith('install_caffe: "nowhere" is no mirror')
    assert "Traceback" not in result.stderr


# What it installs


@pytest.fixture
def moved(caffe, tmp_path) -> Path:
    """The wrappers in another folder, with the tree beside them."""
    installation = caffe.parent.parent
    if not (installation / install.STAMP).exists():
        pytest.skip("this Caffe is not one that tools/install_caffe.py brought")
    shutil.copytree(caffe.parent, tmp_path / "moved here/bin")
    (tmp_path / "moved here/tree").symlink_to(installation / "tree")
    return tmp_path / "moved here/bin"


def output(*command: str | Path, **environment: str) -> str:
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd="/"
    )
    return result.stdout


def test_caffe_runs_from_a_moved_folder_in_an_empty_environment(moved):
    assert output(moved / "caffe", "--version") == "caffe version 1.0.0\n"


def test_caffe_runs_through_a_link_and_in_a_hostile_environment(moved, tmp_path):
    (tmp_path / "link").symlink_to(moved / "caffe")

    answer = output(
        tmp_path / "link",
        "--version",
        LC_ALL="xx_YY.UTF-8",
        LD_LIBRARY_PATH="/lib/x86_64-linux-gnu",
        LD_PRELOAD="/lib/x86_64-linux-gnu/libm.so.6",
        PYTHONPATH="/nowhere",
    )

    assert answer == "caffe version 1.0.0\n"


def test_pycaffe_runs_from_a_moved_folder_in_an_empty_environment(moved):
    code = "import caffe; caffe.set_mode_cpu(); print(caffe.__version__)"
    assert output(moved / "python-caffe", "-c", code) == "1.0.0\n"


def test_caffe_computes_with_openblas_on_one_thread_unless_told_otherwise(moved):
    code = (
        "import ctypes, caffe\n"
        "blas = ctypes.CDLL('libblas.so.3')\n"
        "print(blas.openblas_get_num_threads())\n"
    )
    cores = len(os.sched_getaffinity(0))

    assert output(moved / "python-caffe", "-c", code) == "1\n"
    told = output(moved / "python-caffe", "-c", code, OPENBLAS_NUM_THREADS="2")
    assert told == f"{min(2, cores)}\n"


@pytest.mark.parametrize("program", install.PROGRAMS)
def test_every_program_of_caffe_starts(moved, program):
    result = subprocess.run([moved / program, "--help"], env={}, capture_output=True, text=True)
    assert "while loading shared libraries" not in result.stderr
    assert result.returncode in (0, 1)
