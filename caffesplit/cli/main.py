"""The `caffesplit` command: finds the verb, turns errors into one message and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from caffesplit.errors import CaffesplitError

VERBS = (
    *("tpm", "norms", "plan", "split", "check", "train", "test", "time", "fold", "log", "plot"),
    *("draw", "kernels", "report", "tensorboard", "upgrade", "convert", "data", "zoo", "lsuv"),
    *("run", "demo"),
)
"""In the order of the work; each is a module of this package with a `command`."""


class VerbGroup(click.Group):
    """Imports a verb's module when it is asked for, so that start-up costs one of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = importlib.import_module(f"caffesplit.cli.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(error.message + hint, ctx) from None


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="caffesplit")
def cli() -> None:
    """Split the convolutions of Caffe nets by what their training reveals.

    EXP is a folder that holds a solver prototxt, or the solver file itself. Windows are A:B,
    inclusive, in iterations. Exit codes: 0 done, 1 the job ran and failed, 2 bad input or usage.
    """


def main() -> None:
    """Entry point of the `caffesplit` script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="replace"
            )  # What a terminal cannot show is not worth a crash.
    try:
        status = cli.main(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except CaffesplitError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has seen enough. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", 2)
    except MemoryError:
        _fail("out of memory. Is an input much larger than a net, or its weights, ever are?", 2)
    except RecursionError:
        _fail("an input is nested too deeply. Neither caffesplit nor Caffe wrote it.", 2)
    except UnicodeError as error:
        _fail(f"a text that is not UTF-8 ({error}). Save the file, or name it, in UTF-8.", 2)


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"caffesplit: {message}", err=True)
    sys.exit(exit_code)
