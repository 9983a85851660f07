#!/usr/bin/env python3
"""Brings a real BVLC Caffe 1.0 (CPU) into the user's cache folder. No root, no system change.

Runs from a checkout with nothing installed but Python and apt. Afterwards `caffesplit train`
finds Caffe by itself; beside the printed `caffe` lie Caffe's other programs and `python-caffe`,
a Python that imports pycaffe.
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
    start, shown = time.monotonic(), ("", -1)

    def show(doing: str, part: float) -> None:
        nonlocal shown
        step = int(part * 100) if sys.stderr.isatty() else int(part * 4) * 25
        if shown == (doing, step):
            return
        fresh = sys.stderr.isatty() and shown[0] == doing
        shown = (doing, step)
        seconds = time.monotonic() - start
        line = f"install_caffe: {doing} … {step:3} % ({seconds:.0f} s)"
        if sys.stderr.isatty():
            print(("\r" if fresh else "\n" * bool(seconds > 1)) + line, end="", file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
