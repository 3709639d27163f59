"""Runs one command line, and turns whatever goes wrong into one line on stderr and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Self

from clipsearch.cli import output
from clipsearch.cli.exits import CLOSED_PIPE, INTERRUPTED
from clipsearch.cli.labels import spread_labels
from clipsearch.errors import ClipsearchError

if TYPE_CHECKING:
    import typer

COMPLETE = "_CLIPSEARCH_COMPLETE"
"""The environment variable in which a shell that asks for completions gives its name (see `shells`)."""
FORMER_COMPLETE = "__complete"
"""The argument that the scripts of 0.1.0 pass. They get an empty answer until `completion install` replaces them."""
HELP = os.path.join(os.path.dirname(__file__), "help.txt")
"""What Typer prints for --help, written by `python -m clipsearch.cli.reference`: importing Typer and declaring every
command takes some eight times as long as starting Python."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments`, the program's name left out; the exit code."""
    if not os.path.isabs(os.path.expanduser("~")):
        # A container's user may have no home folder. Whatever looks for a cache there finds that it cannot be written.
        os.environ["HOME"] = os.devnull
    shell = os.environ.get(COMPLETE)
    kept, debug = (arguments, False) if shell else _take_debug(arguments)
    try:
        with _Interrupts() as interrupts:
            code = _guarded(lambda: _complete(shell, kept) if shell else _run(kept), debug=debug, interrupts=interrupts)
        output.flush()
    except output.ClosedPipe:
        _forget_pipe()
        return CLOSED_PIPE
    except output.Unwritable as exc:
        _forget_pipe(1)
        output.error(str(exc))
        return 1
    return code


class _Interrupts:
    """Whether Ctrl-C came while nobody else handled it.

    The exception alone does not tell: an extension module that it meets while it is imported makes an ImportError of
    it, and Typer an exit code.
    """

    came = False

    def __enter__(self) -> Self:
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.default_int_handler(number, frame)


def _run(arguments: Sequence[str]) -> int:
    if arguments in ([], ["--help"], ["-h"]):
        with open(HELP, encoding="utf-8") as file:
            text = file.read()
        if not arguments:
            sys.stderr.write(text)
            return 2
        output.write(text)
        return 0
    if arguments[0] == FORMER_COMPLETE:
        return 0
    from clipsearch.cli.app import COMMANDS, application

    app = application(only=arguments[0] if arguments and arguments[0] in COMMANDS else None)
    # Typer hands back what the command returned, or the code of an early exit (--help).
    code = app(args=spread_labels(arguments), prog_name="clipsearch", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _complete(shell: str, arguments: Sequence[str]) -> int:
    """Answer a shell that completes a line. Only bash passes arguments; the first is the word that it will replace."""
    from clipsearch.cli import completion

    line = os.environ.get("COMP_LINE", "")
    if shell == "bash":
        line = line[: int(os.environ.get("COMP_POINT", len(line)))]
    output.write(completion.answer(shell, line, *arguments[:1]))
    return 0


def _guarded(work: Callable[[], int], *, debug: bool, interrupts: _Interrupts) -> int:
    try:
        code = work()
        if code == INTERRUPTED and interrupts.came:
            output.error("interrupted")
        return code
    except (output.ClosedPipe, output.Unwritable):
        raise
    except KeyboardInterrupt:
        output.error("interrupted")
        return INTERRUPTED
    except Exception as exc:
        if interrupts.came:
            output.error("interrupted")
            return INTERRUPTED
        if debug:
            import traceback

            sys.stderr.write(output.printable(traceback.format_exc(), keep="\n"))
        if isinstance(exc, ClipsearchError):
            output.error(str(exc))
            return exc.exit_code
        import typer

        if isinstance(exc, typer.TyperException):
            output.error(_usage_message(exc))
            return exc.exit_code
        output.error(_unexpected(exc) + ("" if debug else "; --debug shows where"))
        return 1


def _usage_message(exc: typer.TyperException) -> str:
    """Typer's message about an invalid command line, in one line that ends with a pointer to the help."""
    message = " ".join(exc.format_message().split()).rstrip(".")
    message = message[:1].lower() + message[1:]
    context = getattr(exc, "ctx", None)
    return f"{message} (see {context.command_path if context else 'clipsearch'} --help)"


def _unexpected(exc: Exception) -> str:
    if isinstance(exc, MemoryError):
        return "not enough memory"
    if isinstance(exc, OSError) and exc.strerror:
        name = os.fsdecode(exc.filename) if isinstance(exc.filename, str | bytes) else ""
        return f"{name}: {exc.strerror.lower()}" if name else exc.strerror.lower()
    return f"unexpected {type(exc).__name__}: {' '.join(str(exc).split())}"


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """`--debug` may stand anywhere before `--`: it is mostly added to a line that has failed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*kept, *arguments[end:]], len(kept) < end


def _forget_pipe(*descriptors: int) -> None:
    """Send what the interpreter still flushes on its way out nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors or (1, 2):
        os.dup2(nowhere, descriptor)
