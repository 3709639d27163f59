"""The shells' side of completion: a script for each, where it goes, and the lines of an rc file that load it.

An rc file is the user's own: lines are added at its end, between two marks, and nothing else in it is ever touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from clipsearch.errors import UsageError, reason

SHELLS = ("bash", "zsh", "fish")

MARK = "# Completion of clipsearch, written by: clipsearch completion install"
"""The first line of every script of ours; a file without it is somebody else's."""

BEGIN = b"# >>> clipsearch completion >>>"
END = b"# <<< clipsearch completion <<<"

_BASH = """
_clipsearch() {
    local kind= value program="${1/#\\~\\//$HOME/}"
    COMPREPLY=()
    {
        IFS= read -r kind
        while IFS= read -r value; do COMPREPLY+=("$value"); done
    } < <("$program" __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    # Without candidates readline completes files itself, and quotes them rightly. (bash 3 has no compopt.)
    case $kind in
        words) compopt +o default 2>/dev/null ;;
        folders) compopt +o default -o dirnames 2>/dev/null ;;
    esac
    case ${COMPREPLY[0]-} in
        */ | *= | @) [ ${#COMPREPLY[@]} -gt 1 ] || compopt -o nospace 2>/dev/null ;;
    esac
}
complete -o default -F _clipsearch clipsearch
"""

_ZSH = """
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
_clipsearch() {
    local kind line value program=${(Q)words[1]/#\\~\\//$HOME/}
    local -a lines told open
    lines=("${(@f)$("$program" __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    kind=$lines[1]
    case $kind in
        files) _files; return ;;
        folders) _files -/; return ;;
    esac
    for line in "${(@)lines[2,-1]}"; do
        value=${line%%$'\\t'*}
        if [[ $value == (*/|*=|@) ]]; then
            open+=("$value")
        elif [[ $line == *$'\\t'* ]]; then
            told+=("${value//:/\\\\:}:${line#*$'\\t'}")
        else
            told+=("${value//:/\\\\:}")
        fi
    done
    (( $#open )) && compadd -S '' -- "${(@)open}"
    (( $#told )) && _describe -V clipsearch told
    (( $#open + $#told ))
}
compdef _clipsearch clipsearch
"""

_FISH = """
function __clipsearch_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct | string unescape 2>/dev/null)
    set -l reply ($words[1] __complete fish $words[2..-1] "$current" 2>/dev/null)
    switch "$reply[1]"
        case files
            __fish_complete_path "$current"
        case folders
            __fish_complete_directories "$current" ''
    end
    test (count $reply) -gt 1; and printf '%s\\n' $reply[2..-1]
end
complete -c clipsearch -f -k -a '(__clipsearch_complete)'
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shell's script goes, and the rc file that loads it; None where the shell finds it by itself."""

    script: Path
    rc: Path | None


@dataclass(frozen=True, slots=True)
class Done:
    """What was written or removed; a file that was as it should be is not among them."""

    place: Place
    changed: tuple[Path, ...]


def script(shell: str) -> str:
    """The text to load in a shell."""
    return MARK + "\n" + {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell].removeprefix("\n")


def current_shell() -> str:
    """The shell that started this program, else the user's. Raises UsageError where it is none of ours."""
    names = [os.path.basename(os.environ.get("SHELL", ""))]
    with contextlib.suppress(OSError), open(f"/proc/{os.getppid()}/comm", encoding="utf-8", errors="replace") as file:
        names.insert(0, file.read().strip())
    for name in names:
        if name in SHELLS:
            return name
    raise UsageError(f"which shell is this? name it: --shell {'|'.join(SHELLS)}")


def place_of(shell: str) -> Place:
    """Where things go for the present user."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return Place(config / "fish" / "completions" / "clipsearch.fish", None)
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    folder = Path(os.environ.get("ZDOTDIR") or home) if shell == "zsh" else home
    return Place(data / "clipsearch" / f"completion.{shell}", folder / f".{shell}rc")


def install(shell: str) -> Done:
    """Write the script, and have it loaded. Raises UsageError where a file is in the way or cannot be written."""
    place = place_of(shell)
    changed = []
    lines = _lines(place)
    if place.rc is not None:
        _rest(place.rc)  # A file that cannot be dealt with is found out before anything is written.
    try:
        if _is_foreign(place.script):
            raise UsageError(f"{place.script} is not clipsearch's own; move it away first")
        text = script(shell).encode()
        if _read(place.script) != text:
            place.script.parent.mkdir(parents=True, exist_ok=True)
            place.script.write_bytes(text)
            changed.append(place.script)
        if place.rc is not None and lines not in _read(place.rc):
            rest = _rest(place.rc)
            if rest != _read(place.rc):
                _replace(place.rc, rest)  # lines of ours that load another file
            with open(place.rc, "ab") as file:
                file.write((b"\n" if rest and not rest.endswith(b"\n") else b"") + lines)
            changed.append(place.rc)
    except OSError as exc:
        raise _unwritable(exc) from exc
    return Done(place, tuple(changed))


def uninstall(shell: str) -> Done:
    """Undo `install`. Raises UsageError as it does."""
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
    return Done(place, tuple(changed))


def _lines(place: Place) -> bytes:
    quoted = b"'" + os.fsencode(place.script).replace(b"'", b"'\\''") + b"'"
    return BEGIN + b"\n[ -r " + quoted + b" ] && . " + quoted + b"\n" + END + b"\n"


def _rest(rc: Path) -> bytes:
    """An rc file without our lines. Raises UsageError where only one of their marks is left, or it is no file."""
    real = rc.resolve()
    if not real.parent.is_dir():
        raise UsageError(f"{rc} is a link to {real}, whose folder does not exist; make it, or mend the link")
    if real.exists() and not real.is_file():
        raise UsageError(f"{rc} is not a regular file, so nothing can be added to it")
    try:
        text = _read(rc)
    except OSError as exc:
        raise _unwritable(exc) from exc
    while True:  # Merged files may hold the lines twice.
        begin, end = text.find(BEGIN), text.find(END)
        if (begin < 0) != (end < 0) or end < begin:
            raise UsageError(f"{rc}: of the marks around clipsearch's lines one is missing; remove these lines by hand")
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


def _replace(rc: Path, text: bytes) -> None:
    """Put another text into a file, whole or not at all; what it is a link to stays one, and so do its permissions."""
    real = rc.resolve()
    handle, name = tempfile.mkstemp(dir=real.parent, prefix=f"{real.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(real, name)
        os.replace(name, real)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _unwritable(exc: OSError) -> UsageError:
    return UsageError(f"{exc.filename}: {reason(exc)}")
