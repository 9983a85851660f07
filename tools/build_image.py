#!/usr/bin/env python3
"""Builds an image of docker/ with docker, podman or buildah, and runs the demo in it.

The build reaches packages as this machine does: it is lent pip's index, certificates and proxies.
Nothing of them stays in the image. What follows `--` goes to the builder, as in
`-- --build-arg BASE=registry.example/debian:bookworm`.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from caffesplit.errors import CaffesplitError, EngineError, Location

ROOT = Path(__file__).resolve().parent.parent

BUILDERS = ("docker", "podman", "buildah")

DEMO = ("caffesplit", "demo")

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "cert")
"""Those of pip's settings that say how packages are reached."""

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""Where the Dockerfiles mount the certificates that they are lent."""


class BuildError(CaffesplitError):
    """An image that could not be built, or whose demo fails."""

    exit_code = 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", action="store_true", help="the image for NVIDIA GPUs")
    parser.add_argument("--tag", help="the image's name [caffesplit, or caffesplit:gpu]")
    parser.add_argument("--builder", choices=BUILDERS, help="[the first of these that works]")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="for the builder")
    given = parser.parse_args()
    tag = given.tag or ("caffesplit:gpu" if given.gpu else "caffesplit")
    try:
        builder = find_builder((given.builder,) if given.builder else BUILDERS)
        build(builder, tag, "Dockerfile.gpu" if given.gpu else "Dockerfile", given.options)
        run_demo(builder, tag)
    except CaffesplitError as error:
        print(f"build_image: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(f"\n{tag} is built, and its demo runs. docker/README.md says how to use it.")
    return 0


def find_builder(names: tuple[str, ...]) -> str:
    """The first of the builders that works on this machine.

    Raises:
        EngineError: if none does; it says of each what is missing.
    """
    troubles = {}
    for name in names:
        trouble = _trouble(name)
        if trouble is None:
            return name
        troubles[name] = trouble
    raise EngineError(
        "nothing here builds images",
        " or ".join(names),
        "".join(f"    {name}: {trouble}\n" for name, trouble in troubles.items())
        + 'On Debian and Ubuntu, "apt-get install podman" brings one that needs no daemon.',
    )


def _trouble(builder: str) -> str | None:
    """Why this builder cannot be used, or None if it can: docker, say, may lack its daemon."""
    if shutil.which(builder) is None:
        return "not installed"
    answer = subprocess.run([builder, "info"], capture_output=True, text=True)
    if answer.returncode == 0:
        return None
    return (answer.stderr.strip() or "does not answer").splitlines()[-1]


def build(builder: str, tag: str, dockerfile: str, options: list[str]) -> None:
    """Build docker/`dockerfile` as `tag`; the builder shows its own progress.

    Raises:
        BuildError: if a step fails.
    """
    # Isolated by chroot, buildah needs no more rights than this process has.
    verb = ["bud", "--isolation", "chroot"] if builder == "buildah" else ["build"]
    proxies = [f"--build-arg={name}" for name in PROXIES if name in os.environ]
    with tempfile.TemporaryDirectory() as folder:
        command = [builder, *verb, "-t", tag, "-f", f"{ROOT}/docker/{dockerfile}"]
        command += [*proxies, *pip_secrets(Path(folder)), *options, str(ROOT)]
        done = subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    if done.returncode != 0:
        raise BuildError(
            f"{builder} failed in one of its steps",
            "all of them to pass",
            "Its last lines above say why. docker/README.md tells what a build needs of the "
            "network.",
            Location(f"docker/{dockerfile}"),
        )


def pip_secrets(folder: Path) -> list[str]:
    """The builder's options that lend it this machine's pip settings, written below `folder`."""
    settings = pip_settings()
    options = []
    if cert := settings.get("cert"):
        options.append(f"--secret=id=ca,src={cert}")
        settings["cert"] = CERTIFICATES
    if settings:
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        (folder / "pip.conf").write_text("".join(["[global]\n", *lines]))
        options.append(f"--secret=id=pip,src={folder}/pip.conf")
    return options


def pip_settings() -> dict[str, str]:
    """What pip's files and variables say of the network; of URLs, those that a build can reach."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    found = dict(re.findall(r"^(\S+)=(.*)$", listed, re.MULTILINE))
    settings = {}
    for name in PIP_SETTINGS:
        # A variable of the environment wins over a file.
        written = found.get(f":env:.{name}") or found.get(f"global.{name}") or "''"
        words = [word for word in ast.literal_eval(written).split() if "file:" not in word]
        if words:
            settings[name] = " ".join(words)
    return settings


def run_demo(builder: str, tag: str) -> None:
    """Run the demo in a new container, which is removed afterwards.

    Raises:
        BuildError: if it fails.
    """
    if builder == "buildah":
        made = subprocess.run([builder, "from", "--pull-never", tag], stdout=subprocess.PIPE)
        container = made.stdout.decode().strip()
        try:
            run = [builder, "run", "--isolation", "chroot", container, "--", *DEMO]
            done = subprocess.run(run)
        finally:
            subprocess.run([builder, "rm", container], stdout=subprocess.DEVNULL)
    else:
        done = subprocess.run([builder, "run", "--rm", tag, *DEMO])
    if done.returncode != 0:
        raise BuildError(
            "the demo fails in the image that was built",
            "it to run",
            "Its last lines above say why.",
            Location(tag),
        )


if __name__ == "__main__":
    sys.exit(main())
