"""Repositories on the Hugging Face Hub: what they have, pinned to a revision, read in parts."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import huggingface_hub
from huggingface_hub import constants, utils
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from geomsae.errors import LinkError, SourceError
from geomsae.sources import interrupt
from geomsae.sources.file import LocalFile
from geomsae.sources.listing import Listing
from geomsae.sources.releases import nearest_repository

# The client's own base class for everything that can go wrong on the wire; which HTTP library it
# comes from has changed between the client's versions.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_FAILURES = (_HTTP_ERROR, OSError, OfflineModeIsEnabled, ValueError)

_FIRST_ANSWER = 30
"""Seconds to wait for the Hub's first answer."""

TRIES = 8
"""How often in a row the Hub may fail before it is given up."""

FIRST_WAIT = 0.5
"""Seconds before the second try; they double from try to try."""

LONGEST_WAIT = 300.0
"""Seconds that the Hub may ask for between two tries."""

_PASSING = (408, 429, 500, 502, 503, 504)
"""Statuses that may be gone at the next try."""

_DISK = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)

_PIECE = 1 << 18
_SMALLEST_BLOCK, _LARGEST_BLOCK = 1 << 10, 1 << 16

_T = TypeVar("_T")


def hub_listing(repo: str, revision: str, *, cache: bool = False) -> Listing:
    """List a repository at one revision, resolved to its full hash.

    Parameters
    ----------
    repo : str
        ``owner/name``.
    revision : str
        Branch, tag or hash; empty for the newest of the main branch.
    cache : bool
        Bring files whole into the Hub's own cache, rather than read their parts.

    Raises
    ------
    SourceError
        If the Hub cannot be reached, or has no such repository or revision, or wants a login.
    """
    api = huggingface_hub.HfApi()
    with _explained(repo, revision):
        info = _patiently(
            lambda: api.model_info(repo, revision=revision or None, timeout=_FIRST_ANSWER)
        )
        pinned = str(info.sha)
        tree = _patiently(lambda: list(api.list_repo_tree(repo, recursive=True, revision=pinned)))
    found = [entry for entry in tree if isinstance(entry, huggingface_hub.hf_api.RepoFile)]
    # A name that leads out of the repository is nobody's decoder.
    sizes = {e.path: e.size for e in found if not {"", "..", "."} & set(e.path.split("/"))}
    etags = {e.path: e.lfs.sha256 if e.lfs else e.blob_id for e in found}

    def file(path: str) -> HubFile | LocalFile:
        there = HubFile(repo, pinned, path, sizes[path])
        return LocalFile(there.whole()) if cache else there

    def origin(path: str) -> Mapping[str, str | int]:
        return {"repo": repo, "revision": pinned, "path": path, "etag": etags[path]}

    return Listing(repo, sizes, file, origin)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository at one revision.

    Parameters
    ----------
    repo, revision, path : str
        Which; the revision is a full hash.
    size : int
        Its bytes.
    """

    repo: str
    revision: str
    path: str
    size: int
    remote = True

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return f"{self.repo}/{self.path}"

    def open(self) -> IO[bytes]:
        """Open it for reading: each part that is read is asked for when it is read."""
        return cast("IO[bytes]", _Parts(self))

    def whole(self) -> Path:
        """Where all of it lies in the Hub's cache, brought there if it has to be."""
        with _explained(self.repo, self.revision):
            return Path(
                huggingface_hub.hf_hub_download(self.repo, self.path, revision=self.revision)
            )

    def part(self, start: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `start` on; what broke off goes on where it was.

        Raises
        ------
        SourceError
            If the Hub failed too often in a row, or will not send it.
        """
        got = failed = 0
        with _explained(self.repo, self.revision):
            while got < len(view):
                try:
                    for piece in self._stream(start + got, start + len(view)):
                        view[got : got + len(piece)] = piece
                        got += len(piece)
                        failed = 0
                        interrupt.pause()
                except _FAILURES as error:
                    failed += 1
                    _wait(error, failed)

    def _stream(self, start: int, stop: int) -> Iterator[bytes]:
        url = huggingface_hub.hf_hub_url(self.repo, self.path, revision=self.revision)
        headers = {**utils.build_hf_headers(), "Range": f"bytes={start}-{stop - 1}"}
        headers["Accept-Encoding"] = "identity"
        session: Any = huggingface_hub.get_session()
        limit = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with session.stream(
            "GET", url, headers=headers, timeout=limit, follow_redirects=True
        ) as answer:
            utils.hf_raise_for_status(answer)
            if answer.status_code != 206 and (start, stop) != (0, self.size):
                raise SourceError(
                    f"the Hub does not send parts of {self.name}: bring it whole with --cache"
                )
            left = stop - start
            for piece in answer.iter_bytes(_PIECE):
                yield piece[:left]
                left -= len(piece)
            if left > 0:
                raise ConnectionError("the answer broke off")


class _Parts(io.RawIOBase):
    """The bytes of a file on the Hub as a stream that can seek.

    Headers are read in small parts, each within a block that is asked for whole and remembered;
    what is larger than a block is asked for as it is.
    """

    def __init__(self, file: HubFile) -> None:
        super().__init__()
        self._file = file
        self._at = 0
        # Blocks must not add up beside what their headers describe.
        self._length = min(max(_SMALLEST_BLOCK, file.size // 2048), _LARGEST_BLOCK)
        self._blocks: dict[int, bytearray] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no byte {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._file.size - self._at)]
        if len(view) > self._length:
            self._file.part(self._at, view)
        else:
            done = 0
            while done < len(view):
                number, inside = divmod(self._at + done, self._length)
                piece = self._block(number)[inside : inside + len(view) - done]
                view[done : done + len(piece)] = piece
                done += len(piece)
        self._at += len(view)
        return len(view)

    def _block(self, number: int) -> bytearray:
        if number not in self._blocks:
            start = number * self._length
            block = bytearray(min(self._length, self._file.size - start))
            self._file.part(start, memoryview(block))
            self._blocks[number] = block
        return self._blocks[number]


def _patiently(ask: Callable[[], _T]) -> _T:
    """Ask the Hub again while it fails in a way that may pass; a lost network is told at once."""
    failed = 0
    while True:
        try:
            return ask()
        except HfHubHTTPError as error:
            failed += 1
            _wait(error, failed)


def _wait(error: Exception, failed: int) -> None:
    """Sleep before the next try, or raise the error if it will not pass or came too often."""
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None)
    disk = isinstance(error, OSError) and error.errno in _DISK
    if failed >= TRIES or disk or (status is not None and status not in _PASSING):
        raise error
    asked = (answer.headers.get("Retry-After") or "") if answer is not None else ""
    wait = float(asked) if asked.isdecimal() else FIRST_WAIT * 2 ** (failed - 1)
    if wait > LONGEST_WAIT:
        raise error
    interrupt.pause(wait)


@contextmanager
def _explained(repo: str, revision: str) -> Iterator[None]:
    """Turn what goes wrong between here and the Hub into one sentence."""
    try:
        yield
    except SourceError:
        raise
    except _FAILURES as error:
        raise _sentence(error, repo, revision) from error


def _sentence(error: Exception, repo: str, revision: str) -> SourceError:
    if isinstance(error, GatedRepoError):
        return SourceError(
            f"{repo} is gated: accept its terms on its page, then log in with 'hf auth login'"
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceError(f"{repo} has no revision {revision!r}")
    if isinstance(error, RepositoryNotFoundError):
        near = nearest_repository(repo)
        meant = f"; is {near} meant?" if near else ""
        return SourceError(
            f"the Hub has no repository {repo}, or it is private: then log in with 'hf auth login'"
            + meant
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return SourceError(f"{repo} no longer has a file that it listed: run again")
    if isinstance(error, HFValidationError):
        return SourceError(f"{repo} is no file here, and no repository can have that name")
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        if status in (401, 403):
            return SourceError(
                f"the Hub answered with status {status} for {repo}: log in with 'hf auth login'"
            )
        if status in _PASSING:
            return LinkError(
                f"the Hub answered with status {status} for {repo}, {TRIES} times in a row or with "
                f"a wait of over {LONGEST_WAIT:g} s: run again later, what was finished is kept"
            )
        return SourceError(f"the Hub answered with status {status} for {repo}: run again later")
    if isinstance(error, OSError) and error.errno in _DISK:
        place = error.filename or "the Hub's cache (HF_HOME)"
        return SourceError(f"cannot keep files of {repo} at {place}: {error.strerror}")
    return LinkError(
        f"the Hub cannot be reached for {repo}: check the network, or HF_ENDPOINT and "
        "HF_HUB_OFFLINE, and run again, what was finished is kept"
    )
