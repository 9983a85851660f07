#!/usr/bin/env python3
"""Plots the loss and accuracy of training logs, from a shell or with %run from a notebook.

%run tools/plot_loss.py exp/baseline/train.log exp/derived1/train.log --avg 3 --no_refresh
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("logs", nargs="+", metavar="LOG", help="log, or folder of an experiment")
    parser.add_argument("--avg", type=int, default=1, metavar="N", help="smooth the training loss")
    parser.add_argument("--no_refresh", action="store_true", help="draw once, though logs grow")
    options = parser.parse_args()
    from caffesplit.cli.plot import View, show
    from caffesplit.errors import CaffesplitError

    try:
        show(options.logs, View(options.avg), refresh=not options.no_refresh)
    except CaffesplitError as error:
        print(f"plot_loss: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
