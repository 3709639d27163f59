"""Keeps the pictures that are decoded ahead of the encoder within bounds, however many views each one has."""

from __future__ import annotations

import threading


class Room:
    """Room for `limit` views between the decoders and the encoder; files have their turns, counted from 0.

    The file whose turn it is always gets in, else those that came ahead of it would keep out what all of them wait for.
    So at most `limit` views and those of one file are held.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._turn = 0
        self._open = False
        self._changed = threading.Condition()

    def enter(self, turn: int, views: int) -> None:
        """Wait until there is room for so many views of the file with this turn, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or turn <= self._turn or self._taken + views <= self._limit)
            self._taken += views

    def call(self, turn: int) -> None:
        """Say whose turn it is now."""
        with self._changed:
            self._turn = turn
            self._changed.notify_all()

    def leave(self, views: int) -> None:
        """Give back what a file had taken."""
        with self._changed:
            self._taken -= views
            self._changed.notify_all()

    def lift(self) -> None:
        """Let everybody in: nobody will take anything out any more."""
        with self._changed:
            self._open = True
            self._changed.notify_all()
