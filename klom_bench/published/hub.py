"""Downloads from the published repositories, through huggingface_hub, checked byte by byte."""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klom_bench.ensemble.threads import Stopped
from klom_bench.errors import KlomError
from klom_bench.progress import Announce, silent
from klom_bench.published.downloading import alone_or_not, is_below
from klom_bench.published.layouts import best, families, places
from klom_bench.published.needed import BY_SIZE, needed
from klom_bench.tasks.ensemble_id import EnsembleId

REPO = "machine-unlearning-bench/data-unlearning-bench"
CONNECTIONS = 8


@dataclass(frozen=True)
class Remote:
    """A file of a repository. sha256 of its content, or git's own sha1 of small files."""

    path: str
    size: int
    sha256: str | None
    git_sha1: str

    def is_whole(self, file: Path) -> bool:
        """Whether this file here has the size and checksum of the one there."""
        if not file.is_file() or file.stat().st_size != self.size:
            return False
        with file.open("rb") as stream:
            if self.sha256:
                return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
            blob = b"blob %d\0" % self.size + stream.read()
            return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == self.git_sha1


@dataclass(frozen=True)
class Hub:
    """A dataset repository; HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE hold as everywhere."""

    repo: str = REPO
    revision: str | None = None

    @classmethod
    def default(cls) -> "Hub":
        """$KLOM_REPO, written OWNER/NAME or OWNER/NAME@REVISION, else the repository of 2025."""
        repo, _, revision = os.environ.get("KLOM_REPO", REPO).partition("@")
        return cls(repo, revision or None)

    def fetch(
        self, root: Path, ensemble: EnsembleId, members: int, announce: Announce = silent
    ) -> None:
        """Get what is needed of an ensemble: no more than its first members, no file twice.

        KlomError where the repository has none of it.
        """
        remotes = {
            remote.path: (place, remote)
            for place in places(ensemble)
            for remote in self.tree(place.folder)
            if remote.path.rpartition("/")[0] == place.folder
        }
        listed = ((place, path, remote.size) for path, (place, remote) in remotes.items())
        family = best(families(ensemble, listed), BY_SIZE)
        if family is None:
            raise KlomError(f"{self.repo} has no {ensemble.label}: train them instead")
        wanted = needed(family, members)
        label = f"downloading {ensemble.label}"
        self.get([remotes[path][1] for path in wanted], root, announce, label)

    def fetch_first(self, root: Path, paths: Sequence[str]) -> None:
        """Get the first of these files that there is; KlomError where there is none."""
        if remotes := self.paths(paths):
            self.get(remotes[:1], root)
        else:
            raise KlomError(f"{self.repo} has none of {', '.join(paths)}")

    def below(self, path: str) -> list[Remote]:
        """All files below a folder, or the one file; KlomError where it is not there."""
        if found := self.tree(path) or self.paths([path]):
            return found
        above = path.rpartition("/")[0]
        beside = [entry.path.rpartition("/")[2] for entry in self._listed(above, recursive=False)]
        hint = f"{above or self.repo} has {', '.join(beside[:12])}" if beside else "see its page"
        raise KlomError(f"{self.repo} has no {path}: {hint}")

    def tree(self, folder: str) -> list[Remote]:
        """All files below a folder; none where it is not there."""
        return self._remotes(self._listed(folder, recursive=True))

    def _listed(self, folder: str, *, recursive: bool) -> list[Any]:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import EntryNotFoundError

        with self._translated_errors():
            try:
                entries = HfApi().list_repo_tree(
                    self.repo,
                    folder or None,
                    recursive=recursive,
                    revision=self.revision,
                    repo_type="dataset",
                )
                return list(entries)
            except EntryNotFoundError:
                return []

    def paths(self, paths: Sequence[str]) -> list[Remote]:
        """Those of these files that are there."""
        from huggingface_hub import HfApi

        with self._translated_errors():
            entries = HfApi().get_paths_info(
                self.repo, list(paths), revision=self.revision, repo_type="dataset"
            )
            return self._remotes(entries)

    def _remotes(self, entries: Iterable[Any]) -> list[Remote]:
        """The files among what the repository lists; KlomError for a path that leaves the store."""
        remotes = []
        for entry in entries:
            if not hasattr(entry, "size"):  # a folder
                continue
            if not is_below(entry.path):
                raise KlomError(
                    f"{self.repo} lists {entry.path!r}, which is no path below a folder: the "
                    "repository or its mirror (HF_ENDPOINT) is broken or hostile. "
                    "Nothing was downloaded"
                )
            sha256 = entry.lfs.sha256 if entry.lfs else None
            remotes.append(Remote(entry.path, entry.size, sha256, entry.blob_id))
        return remotes

    def get(
        self,
        remotes: Sequence[Remote],
        root: Path,
        announce: Announce = silent,
        label: str = "downloading",
    ) -> None:
        """Put files into a store, each whole or not at all; those that are there stay.

        KlomError for a file that cannot be had or whose checksum is wrong. Files that came before
        stay, so that the same call goes on where it stopped; parts of files that a killed download
        left are removed.
        """
        for remote in remotes:
            if (root / remote.path).parent.joinpath("manifest.json").exists():
                raise KlomError(
                    f"{(root / remote.path).parent} holds an ensemble that was trained here: "
                    "download into another folder with --store"
                )
        root.mkdir(parents=True, exist_ok=True)
        # Listed before it is known who else is at work: none of these is of a later download.
        parts = list((root / ".cache" / "huggingface").rglob("*.incomplete"))
        with alone_or_not(root) as alone:
            for part in parts if alone else ():
                part.unlink(missing_ok=True)
            self._get_all(remotes, root, announce, label)

    def _get_all(
        self, remotes: Sequence[Remote], root: Path, announce: Announce, label: str
    ) -> None:
        whole_size = sum(remote.size for remote in remotes)
        label = f"{label} ({whole_size / 1e6:.1f} MB)"
        with announce(label, len(remotes)) as tick, ThreadPoolExecutor(CONNECTIONS) as pool:
            whole = list(pool.map(lambda remote: remote.is_whole(root / remote.path), remotes))
            rest = [remote for remote, there in zip(remotes, whole, strict=True) if not there]
            tick(len(remotes) - len(rest))
            size, free = sum(remote.size for remote in rest), shutil.disk_usage(root).free
            if size > free:
                raise KlomError(
                    f"{size / 1e9:.1f} GB are to be downloaded, but {root} has {free / 1e9:.1f} GB "
                    "free: make room, or choose another folder with --store"
                )
            stop = threading.Event()
            futures = [pool.submit(self._get, remote, root, stop) for remote in rest]
            try:
                for future in as_completed(futures):
                    future.result()
                    tick(1)
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _get(self, remote: Remote, root: Path, stop: threading.Event) -> None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils.tqdm import disable_progress_bars, tqdm

        class Stoppable(tqdm):
            """Updated chunk by chunk: the way to give up in the middle of a file."""

            monitor_interval = 0  # else a thread a file

            def update(self, n: float | None = 1) -> Any:
                if stop.is_set():
                    raise Stopped
                return super().update(n)

        disable_progress_bars()  # `announce` tells of all files in one line
        file = root / remote.path
        with self._translated_errors(remote.path):
            hf_hub_download(
                self.repo,
                remote.path,
                repo_type="dataset",
                revision=self.revision,
                local_dir=root,
                force_download=file.exists(),  # it is here, and not whole
                tqdm_class=Stoppable,
            )
        if not remote.is_whole(file):
            file.unlink(missing_ok=True)
            raise KlomError(
                f"{remote.path} of {self.repo} came with the wrong checksum and was removed: try "
                "again; if it happens again, the repository or a proxy is at fault"
            )

    @contextmanager
    def _translated_errors(self, path: str = "") -> Iterator[None]:
        """Whatever huggingface_hub raises, as a KlomError that says what to do."""
        from huggingface_hub import errors
        from huggingface_hub.utils.logging import set_verbosity_error

        set_verbosity_error()  # connections that retry would say so line after line
        what = f"{path} of {self.repo}" if path else self.repo
        at = f" at revision {self.revision}" if self.revision else ""
        try:
            yield
        except (KlomError, errors.EntryNotFoundError) as error:
            if isinstance(error, KlomError) or not path:
                raise
            raise KlomError(f"{what}{at} is not there (404)") from error
        except errors.RevisionNotFoundError as error:
            raise KlomError(f"{self.repo} has no revision {self.revision!r}") from error
        except errors.GatedRepoError as error:
            raise KlomError(f"{self.repo} is gated: ask for access, and set HF_TOKEN") from error
        except errors.RepositoryNotFoundError as error:
            raise KlomError(
                f"there is no dataset {self.repo}, or it is private (then set HF_TOKEN)"
            ) from error
        except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
            offline = os.environ.get("HF_HUB_OFFLINE")
            reason = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
            raise KlomError(f"{what} cannot be downloaded: {reason}") from error
        except Exception as error:
            if isinstance(error, OSError) and error.strerror and error.filename:
                raise KlomError(
                    f"{what} cannot be written to {error.filename}: {error.strerror}"
                ) from error
            # Connections fail with exceptions of httpx, which has a tree of its own.
            connection = type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore")
            if not connection and not isinstance(error, OSError):
                raise
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise KlomError(
                f"{what} could not be downloaded: {reason}. Run the same command again: files that "
                "came whole are kept. Without a network, name a mirror with HF_ENDPOINT, or the "
                "folder of a clone as the store"
            ) from error
