"""The command's frame: no traceback, whatever happens inside a verb or to its output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from caffesplit.cli import main


@pytest.fixture
def fail_with(monkeypatch, capsys) -> Callable[[BaseException], tuple[object, str]]:
    """Runs the command with a verb that raises; gives its exit code and what it told."""

    def run(error: BaseException) -> tuple[object, str]:
        @click.command()
        def verb() -> None:
            raise error

        monkeypatch.setattr(main.VerbGroup, "get_command", lambda *_: verb)
        monkeypatch.setattr(sys, "argv", ["caffesplit", "verb"])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        captured = capsys.readouterr()
        assert captured.out == ""
        return stopped.value.code, captured.err.lstrip("\n")  # click ends the line of a ^C

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            MemoryError(),
            2,
            "out of memory. Is an input much larger than a net, or its weights, ever are?",
        ),
        (
            RecursionError("maximum recursion depth exceeded"),
            2,
            "an input is nested too deeply. Neither caffesplit nor Caffe wrote it.",
        ),
        (
            UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
            2,
            "a text that is not UTF-8 ('utf-8' codec can't encode character "
            "'\\udce9' in position 0: surrogates not allowed). "
            "Save the file, or name it, in UTF-8.",
        ),
        (
            PermissionError(13, "Permission denied", "net.prototxt"),
            2,
            "net.prototxt: Permission denied",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_verb_expects_is_one_message_and_an_exit_code(fail_with, error, code, message):
    assert fail_with(error) == (code, f"caffesplit: {message}\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_a_terminal_lacks_do_not_stop_the_command(encoding):
    program = (
        "import click\n"
        "from caffesplit.cli import main\n"
        "@click.command()\n"
        "def verb():\n"
        "    click.echo('1 \\u2192 2 \\u2026 \\udce9')\n"
        "    print('3 \\u2192 4')\n"
        "    click.echo('5 \\u2192 6', err=True)\n"
        "main.VerbGroup.get_command = lambda *_: verb\n"
        "main.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "verb"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert b"3 " in ended.stdout
    assert b"4" in ended.stdout
    assert b"5 " in ended.stderr


def test_a_mistyped_verb_is_corrected(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["caffesplit", "splt"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert "No such command 'splt'. Did you mean 'split'?" in capsys.readouterr().err
