"""`reroot`: a folder has moved, with its files, its roots, and what the options of the root around it mean there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from clipsearch.catalog import places
from clipsearch.catalog.catalog import Catalog
from clipsearch.errors import UsageError
from clipsearch.files import PathLike, absolute, below, is_within, ways
from clipsearch.indexing.missing import may_be_mount
from clipsearch.indexing.patterns import Style, compiled, is_anchored
from clipsearch.indexing.roots import Root, Roots
from clipsearch.indexing.rules import Rules, ScanOptions


def reroot(catalog: Catalog, before: PathLike, now: PathLike) -> int:
    """Move what is known below a folder to where it is now; how many files that were. Needs the lock.

    An existing row at the new place is kept. Where no root's walk comes there, it becomes a root. Raises UsageError
    where the new place is not a folder or nothing is below the old one.
    """
    old, new = places.known(catalog, ways(before)), absolute(now)
    if not os.path.isdir(new):
        raise UsageError("no such folder", path=os.fsdecode(new), advice="mount or create it first")
    if is_within(old, new) or is_within(new, old):
        raise UsageError("one of the two folders is inside the other", advice="index the new one instead")
    roots = Roots(catalog)
    with catalog.transaction():
        files = [file for file in catalog.files.below(old) if file.path != old]
        inside = [root for root in roots.all.values() if _is_folder_in(root, old)]
        if not files and not inside:
            raise UsageError("the library has no files there", path=os.fsdecode(old))
        around = roots.owner(old)
        needs_root = _is_walked(roots, old) or any(roots.owner(path) not in inside for path, _, _ in files)
        moved = 0
        for path, _, state in files:
            target = new + path[len(old) :]
            back = state in ("offline", "missing") and os.path.isfile(target)
            moved += catalog.files.move(path, target, "present" if back else state)
        for root in inside:
            del roots.all[root.path]
            target = new + root.path[len(old) :]
            if target not in roots.all:
                roots.put(replace(root, path=target, mounts=_mounts(root, old, new)))
        if needs_root and not _is_walked(roots, new):
            around = around or Root(old)
            roots.put(Root(new, _options(around, old), mounts=_mounts(around, old, new), older=around.older))
        roots.save()
    return moved


def _is_folder_in(root: Root, old: bytes) -> bool:
    """Whether a root moves with the folder `old`; a file that was named and had the same path does not."""
    return is_within(root.path, old) and not (root.is_file and root.path == old)


def _is_walked(roots: Roots, folder: bytes) -> bool:
    owner = roots.owner(folder)
    return owner is not None and not owner.is_file and Rules(owner.path, owner.options).reaches(folder, is_folder=True)


def _mounts(root: Root, old: bytes, new: bytes) -> tuple[bytes, ...]:
    """The mount points of a root below `old`, at their new places; not those that are plain folders there."""
    moved = (new + mount[len(old) :] for mount in root.mounts if is_within(mount, old))
    return tuple(mount for mount in moved if may_be_mount(mount))


def _options(around: Root, old: bytes) -> ScanOptions:
    """The options for a folder `old` that leaves the root around it."""
    parts = os.fsdecode(old[len(below(around.path)) :]).split("/") if old != around.path else []
    style = around.options.exclude_style
    exclude = (kept for pattern in around.options.exclude for kept in _patterns(pattern, parts, style))
    return replace(around.options, exclude=tuple(dict.fromkeys(exclude)))


def _patterns(pattern: str, parts: list[str], style: Style) -> Iterator[str]:
    """What an exclusion of a root means for its folder at the path `parts`: one with a slash belongs to the root."""
    if not is_anchored(pattern, style):
        yield pattern
        return
    negated = "!" * pattern.startswith("!")
    names = pattern.removeprefix("!").lstrip("/").split("/")
    if names[0] in ("*", "**") and style == "fnmatch":  # At any depth, the top included.
        yield pattern
        yield f"{negated}/{'/'.join(names[1:])}"
        return
    for place, name in enumerate(names[: len(parts)]):
        if name == "**":
            yield f"{negated}/{'/'.join(names[place:])}"
            return
        if not compiled((f"/{name}",), style).matched_by(0, f"{parts[place]}/"):
            return
    if any(names[len(parts) :]):
        yield f"{negated}/{'/'.join(names[len(parts) :])}"
