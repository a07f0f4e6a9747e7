"""Repositories on the Hugging Face Hub: what they have, pinned to a revision, and fetched."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
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

from geomsae.errors import SourceError
from geomsae.sources.listing import READERS, Listing

# The client's own base class for everything that can go wrong on the wire; which HTTP library it
# comes from has changed between the client's versions.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_FAILURES = (_HTTP_ERROR, OSError, OfflineModeIsEnabled, ValueError)

_FIRST_ANSWER = 30
"""Seconds to wait for the Hub's first answer."""

_DISK = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)


def hub_listing(repo: str, revision: str) -> Listing:
    """List a repository at one revision, resolved to its full hash.

    Parameters
    ----------
    repo : str
        ``owner/name``.
    revision : str
        Branch, tag or hash; empty for the newest of the main branch.

    Raises
    ------
    SourceError
        If the Hub cannot be reached, or has no such repository or revision, or wants a login.
    """
    api = huggingface_hub.HfApi()
    try:
        pinned = api.model_info(repo, revision=revision or None, timeout=_FIRST_ANSWER).sha
        tree = list(api.list_repo_tree(repo, recursive=True, revision=pinned))
    except _FAILURES as error:
        raise _explained(error, repo, revision) from error
    sizes = {
        entry.path: entry.size
        for entry in tree
        if isinstance(entry, huggingface_hub.hf_api.RepoFile) and Path(entry.path).suffix in READERS
    }
    if not sizes:
        raise SourceError(f"{repo} has no file of the formats {', '.join(READERS)}")

    def fetch(path: str) -> Path:
        try:
            return Path(huggingface_hub.hf_hub_download(repo, path, revision=pinned))
        except _FAILURES as error:
            raise _explained(error, repo, revision) from error

    def origin(path: str) -> Mapping[str, str | int]:
        return {"repo": repo, "revision": pinned or "", "path": path}

    return Listing(repo, sizes, fetch, origin)


def _explained(error: Exception, repo: str, revision: str) -> SourceError:
    """The sentence for what went wrong between here and the Hub."""
    if isinstance(error, GatedRepoError):
        return SourceError(
            f"{repo} is gated: accept its terms on its page, then log in with 'hf auth login'"
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceError(f"{repo} has no revision {revision!r}")
    if isinstance(error, RepositoryNotFoundError):
        return SourceError(
            f"the Hub has no repository {repo}, or it is private: then log in with 'hf auth login'"
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return SourceError(f"{repo} no longer has a file that it listed: run again")
    if isinstance(error, HFValidationError):
        return SourceError(f"{repo} is no file here, and no repository can have that name")
    if isinstance(error, HfHubHTTPError):
        return SourceError(
            f"the Hub answered with status {error.response.status_code} for {repo}: run again later"
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        place = error.filename or "the Hub's cache (HF_HOME)"
        return SourceError(f"cannot keep files of {repo} at {place}: {error.strerror}")
    return SourceError(
        f"the Hub cannot be reached for {repo}: check the network, or HF_ENDPOINT and "
        "HF_HUB_OFFLINE, and run again"
    )
