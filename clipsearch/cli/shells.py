"""Completion scripts: one for each shell, where it is installed, and the lines in an rc file that load it.

An rc file belongs to the user: lines are added at its end, between two marks, and nothing else in it is ever changed.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from clipsearch.errors import UsageError, reason
from clipsearch.files import expanded

Shell = Literal["bash", "zsh", "fish"]

MARK = "# Completion of clipsearch, written by: clipsearch completion install"
"""The first line of every script; a file without it was not written by clipsearch."""

BEGIN = b"# >>> clipsearch completion >>>"
END = b"# <<< clipsearch completion <<<"

# bash appends the program, as typed, and the word to this command, and exports the line. A function (-F) would only get
# words, split at @, = and :. -o nospace: the answer itself has the space after a word; there is none after a folder.
_BASH = "complete -o nospace -C '2>/dev/null _CLIPSEARCH_COMPLETE=bash' clipsearch\n"

_ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
_clipsearch() {
    local -x COMP_LINE="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" _CLIPSEARCH_COMPLETE=zsh
    local -a found=("${(@f)$("${(Q)words[1]/#\\~\\//$HOME/}" 2>/dev/null)}")
    case $found[1] in
        '*') _files ;;
        '*/') _files -/ ;;
        ?*)
            compadd -S '' -- ${(M)found:#*/}
            found=(${found:#*/})
            (( ! $#found )) || _describe -V clipsearch found ;;
    esac
}
compdef _clipsearch clipsearch
"""

_FISH = """\
function __clipsearch_complete
    set -lx COMP_LINE (commandline -cp | string collect)
    set -lx _CLIPSEARCH_COMPLETE fish
    set -l program (commandline -opc)[1]
    set -l found ($program 2>/dev/null)
    switch "$found[1]"
        case '\\*'
            __fish_complete_path (commandline -ct)
        case '\\*/'
            __fish_complete_directories (commandline -ct) ''
        case '?*'
            printf '%s\\n' $found
    end
end
complete -c clipsearch -f -k -a '(__clipsearch_complete)'
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shell's script is installed, and the rc file that loads it; None where the shell finds the script."""

    script: Path
    rc: Path | None


def script(shell: Shell) -> str:
    """The completion script of a shell."""
    return MARK + "\n" + {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]


def current_shell() -> Shell:
    """The shell that started this program, or else the user's. Raises UsageError for one that is not supported."""
    names = [os.path.basename(os.environ.get("SHELL", ""))]
    with contextlib.suppress(OSError), open(f"/proc/{os.getppid()}/comm", encoding="utf-8", errors="replace") as file:
        names.insert(0, file.read().strip())
    for name in names:
        if name in get_args(Shell):
            return cast(Shell, name)
    raise UsageError(f"cannot tell which shell this is; name it: --shell {'|'.join(get_args(Shell))}")


def place_of(shell: Shell) -> Place:
    """The files of the current user. Raises UsageError for one without a home folder."""
    home = expanded("~")
    if not home.is_dir():
        raise UsageError("there is no home folder to install completion in; set HOME")
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return Place(config / "fish" / "completions" / "clipsearch.fish", None)
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    folder = Path(os.environ.get("ZDOTDIR") or home) if shell == "zsh" else home
    return Place(data / "clipsearch" / f"completion.{shell}", folder / f".{shell}rc")


def install(shell: Shell) -> list[Path]:
    """Write the script and load it from the rc file; returns the files that changed.

    Raises UsageError if a file is in the way or cannot be written.
    """
    place = place_of(shell)
    changed = []
    try:
        rest = b"" if place.rc is None else _rest(place.rc)
        text = script(shell).encode()
        if _is_foreign(place.script):
            raise UsageError("not written by clipsearch", path=str(place.script), advice="move it away first")
        if _read(place.script) != text:
            place.script.parent.mkdir(parents=True, exist_ok=True)
            _replace(place.script, text)
            changed.append(place.script)
        if place.rc is not None and (lines := _lines(place.script)) not in _read(place.rc):
            _replace(place.rc, rest + (b"\n" if rest and not rest.endswith(b"\n") else b"") + lines)
            changed.append(place.rc)
    except OSError as exc:
        raise _unwritable(exc) from exc
    return changed


def uninstall(shell: Shell) -> list[Path]:
    """Undo `install`, also that of earlier versions; returns and raises the same."""
    place = place_of(shell)
    changed = []
    try:
        if place.rc is not None and (rest := _rest(place.rc)) != _read(place.rc):
            _replace(place.rc, rest)
            changed.append(place.rc)
        if place.script.exists() and not _is_foreign(place.script):
            place.script.unlink()
            changed.append(place.script)
    except OSError as exc:
        raise _unwritable(exc) from exc
    return changed


def _lines(script: Path) -> bytes:
    quoted = b"'" + os.fsencode(script).replace(b"'", b"'\\''") + b"'"
    return BEGIN + b"\n[ -r " + quoted + b" ] && . " + quoted + b"\n" + END + b"\n"


def _rest(rc: Path) -> bytes:
    """An rc file without our lines. Raises UsageError if one of their marks is missing, or if it is not a file."""
    real = rc.resolve()
    if not real.parent.is_dir():
        why = f"a link to {real}, whose folder does not exist"
        raise UsageError(why, path=str(rc), advice="create the folder or fix the link")
    if real.exists() and not real.is_file():
        raise UsageError("not a regular file, so nothing can be added to it", path=str(rc))
    text = _read(rc)
    while True:  # Merged files may contain the lines twice.
        begin, end = text.find(BEGIN), text.find(END)
        if (begin < 0) != (end < 0) or end < begin:
            why = "one of the two marks around clipsearch's lines is missing"
            raise UsageError(why, path=str(rc), advice="remove these lines by hand")
        if begin < 0:
            return text
        text = text[:begin] + text[end + len(END) :].removeprefix(b"\n")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _is_foreign(path: Path) -> bool:
    text = _read(path)
    return bool(text) and not text.startswith(MARK.encode())


def _replace(path: Path, text: bytes) -> None:
    """Replace the content of a file atomically. A symbolic link stays one, and permissions stay the same."""
    import shutil

    from clipsearch.files import replacing

    real = path.resolve()
    try:
        with replacing(real) as temporary:
            temporary.write_bytes(text)
            if real.exists():
                shutil.copymode(real, temporary)
    except OSError as exc:
        exc.filename = path  # not the temporary file beside it
        raise


def _unwritable(exc: OSError) -> UsageError:
    return UsageError(reason(exc), path=str(exc.filename))
