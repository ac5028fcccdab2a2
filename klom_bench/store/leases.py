"""Claims on packs, so that two processes seldom train the same; nothing depends on them.

A claim is a file that names its holder, who touches it every RENEW_SECONDS. It falls with the
holder: at once where that was a process of this machine, else when nobody has touched it for
STALE_SECONDS. What has been touched is seen by looking twice, so that clocks need not agree.
"""

import contextlib
import json
import os
import platform
import secrets
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

from klom_bench.errors import KlomError, visible
from klom_bench.files import atomic

RENEW_SECONDS = 5.0
STALE_SECONDS = 60.0
CLAIMS = ".claims"


@dataclass(frozen=True)
class Holder:
    """A process that is at work: its machine, id and beginning; token tells two claims apart.

    space: where process ids count: since the machine was started, in a container or not.
    """

    host: str
    space: str
    pid: int
    since: str
    token: str

    @classmethod
    def here(cls) -> "Holder":
        """This process, from now on."""
        now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        return cls(*_machine(), os.getpid(), now, secrets.token_hex(8))

    def __str__(self) -> str:
        return f"process {self.pid} on {visible(self.host)} (since {visible(self.since)})"

    @property
    def is_here(self) -> bool:
        """Whether it is this process itself: another thread of it."""
        return (self.host, self.space) == _machine() and self.pid == os.getpid()

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this machine, and has ended."""
        if (self.host, self.space) != _machine() or sys.platform == "win32":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            return False
        return _is_zombie(self.pid)


UNKNOWN = Holder("a machine that is not known", "", 0, "?", "")


@dataclass
class Claims:
    """What one run has claimed, and seen others hold."""

    renew_seconds: float = RENEW_SECONDS
    stale_seconds: float = STALE_SECONDS
    seen: dict[Path, tuple[object, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """A line for each claim that was taken over."""

    @contextmanager
    def take(self, path: Path) -> Iterator[Holder | None]:
        """Claim it while the block runs; None where that is done, else who holds it."""
        if other := self._holder(path):
            yield other
            return
        content = json.dumps(asdict(Holder.here())).encode()
        if (lies := _claimed(path, content)) != content:
            yield _parsed(lies)  # another one was faster
            return
        ended = threading.Event()
        renewing = threading.Thread(
            target=_renew, args=(path, content, self.renew_seconds, ended), daemon=True
        )
        renewing.start()
        try:
            yield None
        finally:
            ended.set()
            _remove(path, content)

    @contextmanager
    def wait(self, path: Path) -> Iterator[None]:
        """Claim it once nobody else does; for what takes no time."""
        while True:
            with self.take(path) as other:
                if other is None:
                    yield
                    return
            time.sleep(0.05)

    def _holder(self, path: Path) -> Holder | None:
        """Who holds it; what is stale is removed."""
        found = _look(path)
        if found is None:
            self.seen.pop(path, None)
            return None
        holder, stamp = found
        before, when = self.seen.get(path, (None, 0.0))
        if stamp != before:
            when = time.monotonic()
            self.seen[path] = stamp, when
        silent, dead = time.monotonic() - when, holder.is_dead
        if not dead and silent < self.stale_seconds:
            return holder
        why = "it has ended" if dead else f"nothing was heard of it for {silent:.0f} s"
        self.notes.append(f"{path.name} was taken over from {holder}: {why}")
        _remove(path, stamp[-1])
        return None


def _claimed(path: Path, content: bytes) -> bytes:
    """The claim that lies there after this one was tried; KlomError where the folder has gone.

    Where none can be written the work is done without.
    """
    if not path.parents[1].is_dir():
        raise KlomError(
            f"{path.parents[1]} is gone: was the store moved or removed while the run was going "
            "on? The same command starts it anew"
        )
    try:
        path.parent.mkdir(exist_ok=True)
        return atomic.write_first(path, content)
    except (OSError, KlomError):
        return content


@cache
def _machine() -> tuple[str, str]:
    """Host and space of this process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return platform.node(), f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node(), ""


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not noticed, as far as the system says."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1]
    except OSError:
        return False
    return state == [b"Z"]


def refuse_claimed(folder: Path) -> None:
    """KlomError where somebody may still be training into a folder."""
    for path in sorted((folder / CLAIMS).glob("pack_*")):
        if (found := _look(path)) and not found[0].is_dead:
            raise KlomError(
                f"another run is training into {folder}: {found[0]}. Wait until it has ended; if "
                f"its machine is gone, remove {path}"
            )


def _look(path: Path) -> tuple[Holder, tuple[int, int, bytes]] | None:
    """Who holds a claim, and what changes when it is renewed."""
    try:
        if not stat.S_ISREG((there := path.lstat()).st_mode):
            return UNKNOWN, (there.st_ino, there.st_mtime_ns, b"")
        with path.open("rb") as stream:  # opened, so that a network file system asks its server
            there, content = os.fstat(stream.fileno()), stream.read()
    except OSError:  # gone, or going
        return None
    return _parsed(content), (there.st_ino, there.st_mtime_ns, content)


def _parsed(content: bytes) -> Holder:
    try:
        found = json.loads(content)
        texts = all(isinstance(found[n], str) for n in ("host", "space", "since", "token"))
        if texts and type(found["pid"]) is int and 0 < found["pid"] < 2**31:
            return Holder(**found)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return UNKNOWN


def _renew(path: Path, content: bytes, seconds: float, ended: threading.Event) -> None:
    """Touch a claim until it ends or another process has taken it over."""
    while not ended.wait(seconds):
        with contextlib.suppress(OSError):
            if path.read_bytes() != content:
                return
            os.utime(path)


def _remove(path: Path, content: bytes) -> None:
    """Remove a claim unless it is another one by now."""
    with contextlib.suppress(OSError):
        if (found := _look(path)) and found[1][-1] == content:
            path.unlink()
