"""Setting aside what is damaged: moved beside the store, never deleted, so that it is made again.

A damaged result goes alone. A damaged decoder takes along what was computed of it: its values are
in doubt, and with them all that came of them. Other dictionaries that lie below it stay. A group
that only leads to others is written anew, since all that it says is known.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import PurePosixPath
from typing import Any

from geomsae.dictionary import RESULTS
from geomsae.store.elsewhere import answering, check_writable, is_here, reach
from geomsae.store.staging import METADATA
from geomsae.store.survey import DECODER, EMPTY, GROUP, ROOT, STORE, Place, Survey

_DECODER_PIECES = (METADATA, "W_dec", "norm", RESULTS)
"""What belongs to a decoder in its folder; the metadata goes first, and with it the group."""

REWRITTEN, SET_ASIDE = "written anew", "set aside"
"""What can become of something damaged."""


class Repair:
    """One time that a store is rid of what is damaged.

    Parameters
    ----------
    fs : fsspec filesystem
        Where the store is.
    root : str
        Its path there.
    location : str
        The store, as a user calls it.

    Raises
    ------
    StoreError
        If it can only be read.
    """

    def __init__(self, fs: Any, root: str, location: str) -> None:
        if not is_here(location):
            check_writable(fs, root, location)
        self._survey = Survey(fs, root)
        self._fs = fs
        self._location = location
        self.folder = self._free_folder()
        """Where things are set aside: ``<store>-set-aside/<time>``, made with the first of them."""

    def mend(self, place: Place) -> str:
        """Set aside what is damaged, or write it anew.

        Parameters
        ----------
        place : Place
            A damaged place.

        Returns
        -------
        str
            What became of it, `SET_ASIDE` or `REWRITTEN`.
        """
        with answering(self._location):
            if self.has_set_aside(place):
                return SET_ASIDE
            if place.kind in (STORE, GROUP):
                self._rewrite(place.path, ROOT if place.kind == STORE else EMPTY)
                return REWRITTEN
            if place.kind == DECODER:
                self._set_decoder_aside(place.path)
            else:
                self._set_aside(place.path)
            return SET_ASIDE

    def has_set_aside(self, place: Place) -> bool:
        """Whether a place is gone, damaged or not: with a damaged decoder go its results."""
        return bool(place.path) and not self._fs.exists(self._survey.at(place.path))

    def _set_decoder_aside(self, path: str) -> None:
        entries = self._fs.ls(self._survey.at(path), detail=False)
        others = {PurePosixPath(entry).name for entry in entries} - set(_DECODER_PIECES)
        if not others:
            self._set_aside(path)
            return
        for piece in _DECODER_PIECES:
            self._set_aside(f"{path}/{piece}")
        self._rewrite(path, EMPTY)

    def _set_aside(self, path: str) -> None:
        source, target = self._survey.at(path), f"{self.folder}/{path}"
        if self._fs.exists(source):
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.mv(source, target, recursive=True)

    def _rewrite(self, path: str, metadata: dict[str, Any]) -> None:
        file = f"{path}/{METADATA}" if path else METADATA
        self._set_aside(file)
        self._fs.pipe_file(self._survey.at(file), json.dumps(metadata, indent=2).encode())

    def _free_folder(self) -> str:
        """A folder that is not there yet, named by the time."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        names = itertools.chain([now], (f"{now}-{n}" for n in itertools.count(2)))
        folders = (f"{self._survey.root}-set-aside/{name}" for name in names)
        return next(folder for folder in folders if not self._fs.exists(folder))


def damaged_root(location: str) -> Place | None:
    """A store whose own metadata is damaged, so that it cannot be opened; None for all else.

    A folder that holds no decoder is no store, and one of a later format is taken at its word.
    """
    with answering(location):
        survey = Survey(*_reach(location))
        if not survey.fs.isdir(survey.root) or not survey.holds_decoders():
            return None
        problem = survey.root_problem()
        if not problem or survey.is_later():
            return None
    return Place("", STORE, "/", STORE, problem=problem)


def repair_at(location: str) -> Repair:
    """A repair of the store at a path or URL, which may not open."""
    return Repair(*_reach(location), location)


def _reach(location: str) -> tuple[Any, str]:
    return reach(os.path.expanduser(location))
