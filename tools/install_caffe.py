#!/usr/bin/env python3
"""Brings a real BVLC Caffe 1.0 (CPU) into the user's cache folder. No root, no system change.

Runs from a checkout with nothing installed but Python and apt, on Debian and Ubuntu (x86-64).
Downloads 170 MB, leaves 485 MB, takes half a minute where the network is fast. Afterwards
`caffesplit train` finds Caffe by itself; beside the printed `caffe` lie Caffe's other programs and
`python-caffe`, a Python that imports pycaffe.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from caffesplit.engines import debian, install
from caffesplit.errors import CaffesplitError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="a Debian mirror that carries bullseye [$CAFFESPLIT_DEBIAN_MIRROR, or what this "
        "machine's apt sources name]",
    )
    parser.add_argument(
        "--keyring",
        metavar="FILE",
        type=Path,
        default=debian.KEYRING,
        help="the keys that Debian signs with [%(default)s]",
    )
    options = parser.parse_args()
    try:
        caffe = install.install(options.mirror, options.keyring, progress_meter())
    except CaffesplitError as error:
        print(f"install_caffe: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninstall_caffe: interrupted; run it again to go on", file=sys.stderr)
        return 130
    print(caffe)
    return 0


def progress_meter() -> debian.Progress:
    """One line that counts up on a terminal, a line per quarter elsewhere."""
    start, last = time.monotonic(), ("", -1)
    terminal = sys.stderr.isatty()

    def show(doing: str, part: float) -> None:
        nonlocal last
        percent = int(part * 100) if terminal else int(part * 4) * 25
        if (doing, percent) == last:
            return
        last = doing, percent
        line = f"install_caffe: {doing} … {percent:3} % ({time.monotonic() - start:.0f} s)"
        end = "\r" if terminal and part < 1 else "\n"
        print(f"{line:<60}", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
