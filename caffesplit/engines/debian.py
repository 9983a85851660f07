"""Debian packages and all they depend on, downloaded by apt without touching the system's state.

Apt runs with a configuration of its own: private state, cache and sources, an empty list of
installed packages, and nothing of the machine's settings but those of its network (proxies,
certificates). It verifies Debian's signatures, needs no root, and resumes a broken download.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caffesplit.errors import EngineError, Location

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Where Debian's package debian-archive-keyring puts the keys of all releases."""

RELEASES = re.compile(
    "(buster|bullseye|bookworm|trixie|forky|duke|sid|testing|unstable|(old)*stable)(-updates)?"
)
"""What an entry of a machine's apt sources calls a release where it names a Debian mirror."""

PACKAGE_LIST = re.compile(r"^'(\S+?)/dists/([^/]+)/main/binary-amd64/Packages", re.MULTILINE)

MIRROR_URL = re.compile(r"(https?|file|mirror(\+\w+)?)://?[^\s\[\]]+")

MIRROR_REMEDY = (
    "Give --mirror URL (or $CAFFESPLIT_DEBIAN_MIRROR): the URL of any Debian mirror that carries\n"
    "{suite}, that is, the folder which has dists/{suite} in it."
)

Progress = Callable[[str, float], None]
"""Called with what is being done and the part of it that is done, 0 … 1."""

NETWORK_SETTINGS = ("Acquire::http::", "Acquire::https::", "Acquire::Retries ")

CONFIGURATION = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
APT::Status-Fd "1";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
"""


@dataclass(frozen=True)
class Repository:
    """One release of Debian on one mirror, trusted by the keys in `keyring`."""

    mirror: str
    suite: str
    keyring: Path = KEYRING

    def __post_init__(self) -> None:
        remedy = MIRROR_REMEDY.format(suite=self.suite)
        if not MIRROR_URL.fullmatch(self.mirror):
            raise EngineError(f'"{self.mirror}" is no mirror', "a URL such as http://…", remedy)
        if not self.keyring.is_file():
            raise EngineError(
                "the keys that Debian signs its packages with are missing",
                f"them in {self.keyring}",
                "Install the package debian-archive-keyring, or give --keyring FILE.",
                Location(str(self.keyring)),
            )


def machine_mirrors() -> list[str]:
    """The URLs of the Debian mirrors that this machine's own apt sources name."""
    # What `update` would fetch: apt's own reading of both formats of its sources.
    uris = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True)
    mirrors = [
        url
        for url, release in PACKAGE_LIST.findall(uris.stdout)
        if RELEASES.fullmatch(release) and "debian" in url.split("/")
    ]
    return list(dict.fromkeys(mirrors))


def download(
    packages: tuple[str, ...], repository: Repository, folder: Path, progress: Progress
) -> list[Path]:
    """Download `packages` and all they depend on; return the archives' paths.

    `folder` keeps what has arrived: a second call goes on where the first one was broken off.

    Raises:
        EngineError: if the mirror cannot be reached, lacks the release or the packages, is not
            signed by the keyring's keys, or the disk is full; with apt's own words.
    """
    _configure(repository, folder)
    _apt(repository, folder, "reading the package lists", progress, "update")
    # What an earlier call left and the mirror has replaced since must not be unpacked.
    _apt(repository, folder, "reading the package lists", progress, "autoclean")
    _apt(
        repository,
        folder,
        "downloading",
        progress,
        *("install", "--yes", "--download-only", "--no-install-recommends", *packages),
    )
    return sorted((folder / "cache/archives").glob("*.deb"))


def _configure(repository: Repository, folder: Path) -> None:
    for needed in ("state/lists/partial", "cache/archives/partial"):
        (folder / needed).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(
        f"deb [signed-by={repository.keyring.resolve()}] {repository.mirror} "
        f"{repository.suite} main\n"
    )
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout
    network = [line for line in settings.splitlines() if line.startswith(NETWORK_SETTINGS)]
    (folder / "apt.conf").write_text(
        "\n".join(network) + "\n" + CONFIGURATION.format(folder=folder)
    )
    # $APT_CONFIG is read first; it has to keep the machine's own settings and hooks away.
    (folder / "none.conf").write_text('Dir::Etc::main "/dev/null";\nDir::Etc::parts "/dev/null";\n')


def _apt(
    repository: Repository, folder: Path, doing: str, progress: Progress, *arguments: str
) -> None:
    """Run apt-get, passing its progress on."""
    process = subprocess.Popen(
        ["apt-get", "-qq", "-c", str(folder / "apt.conf"), *arguments],
        env={**os.environ, "APT_CONFIG": str(folder / "none.conf"), "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    complaints = []
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("dlstatus:"):
                progress(doing, float(line.split(":")[2]) / 100)
            elif line.startswith(("E: ", "W: ")):
                complaints.append(line.strip())
    if process.returncode != 0:
        raise _apt_error(repository, folder, complaints)


def _apt_error(repository: Repository, folder: Path, complaints: list[str]) -> EngineError:
    words = "\n".join(f"    {line}" for line in complaints)
    at = Location(repository.mirror)
    remedy = MIRROR_REMEDY.format(suite=repository.suite)
    if "enough free space" in words or "No space left" in words:
        return disk_full(folder)
    if "NO_PUBKEY" in words or "not signed" in words or "EXPKEYSIG" in words:
        return EngineError(
            f"{repository.suite} is not signed by a key of {repository.keyring}",
            "Debian's own signature",
            f"Bring debian-archive-keyring up to date, or give --keyring FILE.\n{words}",
            at,
        )
    if re.search("resolv|connect|timed out|unreachable", words):
        return EngineError(
            "the Debian mirror cannot be reached",
            "a mirror that answers",
            f"Check the network, then run this again: it goes on where it stopped.\n"
            f"{remedy}\n{words}",
            at,
        )
    return EngineError(
        f"{repository.suite}'s packages are not to be had from this mirror",
        f"a Debian mirror that carries {repository.suite}",
        f"{remedy}\n{words}",
        at,
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack one package's files below `folder`.

    Raises:
        EngineError: if the archive is damaged (it is deleted, to be downloaded anew) or the disk
            is full.
    """
    result = subprocess.run(
        ["dpkg-deb", "--extract", str(archive), str(folder)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        errors="replace",
    )
    if result.returncode == 0:
        return
    if "No space left" in result.stderr:
        raise disk_full(folder)
    archive.unlink()
    raise EngineError(
        f"the package is damaged: {result.stderr.strip()}",
        "a package that dpkg-deb can unpack",
        "It was deleted. Run this again to download it anew.",
        Location(str(archive)),
    )


def disk_full(folder: Path) -> EngineError:
    """The error of a disk that `folder` lies on and that has no room left."""
    free = shutil.disk_usage(folder).free >> 20
    return EngineError(
        f"the disk is full ({free} MB free)",
        "room for the packages",
        "Make room, or set $XDG_CACHE_HOME to a folder on another disk; then run this again.",
        Location(str(folder)),
    )
