"""Exclusions: gitignore's patterns, and the globs of libraries that were made before this program used those.

Paths are text below the folder that the patterns belong to ("sub/a.jpg"); that of a folder ends with a slash.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import re
import warnings
from typing import Literal, Protocol

from clipsearch.errors import UsageError

Style = Literal["gitignore", "fnmatch"]
"""How patterns are meant: as in a .gitignore file; or as globs in which `*` also matches slashes, where one without a
slash is matched against names, and one with a slash against paths below the root."""

MAX_DOUBLE_STARS = 4
"""With more of them, a pattern and a deep folder can keep a regular expression busy for hours."""


_NOT_ONE_OF = re.compile(r"(?<!\\)\[\^(?!/)")
"""Where pathspec translates "[!a]", which it lets match a slash, too."""

_ALL_INSIDE = re.compile(r"/\*\*\s*$")
"""In git, "a/**" does not match the folder a, so that another pattern can take in again what is inside."""


class Patterns(Protocol):
    def excludes(self, path: str) -> bool | None:
        """Whether they exclude a path; None where none of them matches, False where one takes it in again."""

    def matched_by(self, number: int, path: str) -> bool:
        """Whether the pattern with this number, alone, matches a path."""


@functools.lru_cache(maxsize=64)
def compiled(patterns: tuple[str, ...], style: Style) -> Patterns:
    """Raises UsageError, which names the pattern, where one of them cannot be used."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # "[[:alpha:]]"
        return _GitIgnore(patterns) if style == "gitignore" else _Globs(patterns)


def is_anchored(pattern: str, style: Style) -> bool:
    """Whether a pattern only has a meaning in the folder that it belongs to."""
    if style == "fnmatch":
        return "/" in pattern.rstrip("/")
    body = pattern.removeprefix("!").rstrip("/")
    return "/" in body and not body.startswith("**/")


def literal(path: str, style: Style) -> str:
    """A pattern that matches the file or folder at a path below the root, and nothing else."""
    if style == "fnmatch":
        return "/" + glob.escape(path)
    return "/" + re.sub(r"(\s)", r"[\1]", re.sub(r"([\\*?\[\]])", r"\\\1", path))  # pathspec strips blanks at the end.


class _Globs:
    def __init__(self, patterns: tuple[str, ...]) -> None:
        try:
            self._all = [(is_anchored(p, "fnmatch"), _regex([p])) for p in patterns]
            self._by_path = _regex([p for p in patterns if is_anchored(p, "fnmatch")])
            self._by_name = _regex([p for p in patterns if not is_anchored(p, "fnmatch")])
        except re.error as exc:
            raise UsageError(f"`exclude`: {' '.join(patterns)} cannot be used as globs: {exc}") from exc

    def excludes(self, path: str) -> bool | None:
        path = path.rstrip("/")
        return bool(self._by_path.match(path) or self._by_name.match(path.rpartition("/")[2])) or None

    def matched_by(self, number: int, path: str) -> bool:
        by_path, pattern = self._all[number]
        path = path.rstrip("/")
        return pattern.match(path if by_path else path.rpartition("/")[2]) is not None


def _regex(globs: list[str]) -> re.Pattern[str]:
    """What matches any of them."""
    return re.compile("|".join(fnmatch.translate(g.lstrip("/").rstrip("/")) for g in globs) or "(?!)")


class _GitIgnore:
    """pathspec translates the patterns. A walk has judged the folders above a path before, as git has, while pathspec's
    own `GitIgnoreSpec` is for paths alone: a path that only a pattern for its folder matches is not matched here.
    """

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._all = [_parsed(pattern) for pattern in patterns]
        self._any: re.Pattern[str] | None = None
        if all(excludes for excludes, _ in self._all):
            self._any = re.compile("|".join(regex.pattern for _, regex in self._all))

    def excludes(self, path: str) -> bool | None:
        if self._any is not None:
            return self._any.search(path) is not None or None
        for includes, regex in reversed(self._all):
            if regex.search(path):
                return includes
        return None

    def matched_by(self, number: int, path: str) -> bool:
        return self._all[number][1].search(path) is not None


def _without_backtracking(regex: str) -> str:
    """The same regular expression, in which a wildcard takes the first match of what follows it, up to the next one.

    Otherwise a pattern like "*a*a*a*b" takes as many steps as there are ways to choose the letters a in a name.
    """
    first, *parts = regex.split("[^/]*")
    last = parts.pop() if parts else None
    parts = [f"[^/]*{part}" if "(" in part else f"(?>[^/]*?{part})" for part in parts]
    return first + "".join(parts) + ("" if last is None else f"[^/]*{last}")


def _parsed(pattern: str) -> tuple[bool, re.Pattern[str]]:
    """Whether a pattern excludes, and what it matches. Unlike in a file, one that begins with # is not a comment."""
    from pathspec import GitIgnoreSpec

    line = f"\\{pattern}" if pattern.startswith("#") else pattern
    line = _ALL_INSIDE.sub("/**/*", line) if line.strip() else "/"  # "/" matches nothing.
    if pattern.count("**") > MAX_DOUBLE_STARS:
        raise UsageError(f"`exclude`: {pattern} contains ** more than {MAX_DOUBLE_STARS} times")
    try:
        [parsed] = GitIgnoreSpec.from_lines([line]).patterns
        regex = r"(?!)" if parsed.regex is None else _without_backtracking(_NOT_ONE_OF.sub("[^/", parsed.regex.pattern))
        return parsed.include is not False, re.compile(rf"(?s:{regex})\Z".replace("?P<ps_d>", "?:"))
    except (ValueError, re.error) as exc:
        raise UsageError(f"`exclude`: {pattern} cannot be used as a pattern of gitignore") from exc
