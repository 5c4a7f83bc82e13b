"""One driver per sweep at a time: whoever drives it holds a lease in its directory.

lease.json names the holder and is rewritten every few seconds. Clocks of two machines need not agree: a lease is dead
where its process is known to be gone, or where it does not change for as long as its holder would have renewed it
several times. A holder that finds another's name in it (it was suspended, say) has lost the sweep and must stop.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from trainables.directory import SweepDirectory
from trainables.errors import CorruptFile, InfrastructureError
from trainables.records import Record

HEARTBEAT_SECONDS = 5.0
_DEAD_AFTER_BEATS = 4


class Holder(Record):
    """A process that drives a sweep.

    `place` tells machines (and containers) apart, `started` a process from a later one with the same number: the
    kernel's ticks, None where they are not known. `beat` counts renewals.
    """

    token: str
    host: str
    place: str
    pid: int
    started: int | None
    since: int
    beat: int = 0

    @classmethod
    def here(cls) -> Self:
        """This process, from now on."""
        return cls(
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            place=_place(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            since=int(time.time() * 1000),
        )

    def is_alive(self) -> bool | None:
        """Whether the process is there; None where that cannot be known from here."""
        if self.place != _place():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        started = _started(self.pid)
        if started is None or self.started is None:
            return None
        return started == self.started

    def __str__(self) -> str:
        since = datetime.datetime.fromtimestamp(self.since / 1000, datetime.UTC)
        return f"process {self.pid} on {self.host}, since {since:%Y-%m-%d %H:%M} UTC"


class Lease:
    """A lease that this process holds. `is_lost` tells whether another process has taken it over."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.path, self.holder = path, holder
        self.is_lost = False

    def renew(self) -> None:
        """Say that the holder is alive, unless the lease is another's by now. One that is gone is written again."""
        if not (self.is_ours() or _create(self)):
            self.is_lost = True
            return
        self.holder = self.holder.model_copy(update={"beat": self.holder.beat + 1})
        self.holder.write(self.path)

    def is_ours(self) -> bool:
        found = _read(self.path)
        return found is not None and found.token == self.holder.token

    def is_anothers(self) -> bool:
        """Whether another process has it by now; where the storage does not say, none has."""
        found = None
        with contextlib.suppress(OSError):
            found = _read(self.path)
        return self.is_lost or (found is not None and found.token != self.holder.token)

    def release(self) -> None:
        """Let others drive the sweep."""
        if self.is_ours():
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(
    sweep: SweepDirectory, *, heartbeat: float = HEARTBEAT_SECONDS, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[Lease]:
    """Hold the lease of a sweep inside the block.

    Raises InfrastructureError where another process holds it. Whether one on another machine is alive shows after
    some seconds: `on_wait` is told what is waited for. A lease that is lost interrupts the process as SIGTERM would.
    """
    sweep.root.mkdir(parents=True, exist_ok=True)
    lease = Lease(sweep.lease, Holder.here())
    _take(lease, heartbeat, on_wait)
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(lease, heartbeat, ended), name="fleetune-lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        ended.set()
        keeper.join()
        lease.release()


def _keep(lease: Lease, heartbeat: float, ended: threading.Event) -> None:
    while not ended.wait(heartbeat):
        # A storage that is away for a moment is no reason to stop; whether the lease is still ours shows afterwards.
        with contextlib.suppress(OSError):
            lease.renew()
        if lease.is_lost:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _take(lease: Lease, heartbeat: float, on_wait: Callable[[str], None]) -> None:
    """Write the lease where there is none; a dead one is put away first."""
    while not _create(lease):
        found = _bytes(lease.path)
        if found is not None and _is_dead(lease.path, found, heartbeat, on_wait):
            _put_away(lease, found)


def _create(lease: Lease) -> bool:
    """Write the lease unless there is one; of several that try at once, one succeeds."""
    try:
        lease.path.open("x").close()
    except FileExistsError:
        return False
    lease.holder.write(lease.path)
    return True


def _is_dead(path: Path, found: bytes, heartbeat: float, on_wait: Callable[[str], None]) -> bool:
    """Whether the holder of a lease, read as `found`, is gone. Raises InfrastructureError where it is not."""
    holder = _read(path)
    alive = holder.is_alive() if holder else None
    if alive is None:
        on_wait(f"waiting to see whether {holder or 'the holder of ' + path.name} is alive")
        deadline = time.monotonic() + heartbeat * _DEAD_AFTER_BEATS
        while time.monotonic() < deadline:
            if _bytes(path) != found:
                alive = True
                break
            time.sleep(min(heartbeat, 0.5))
    if alive and _bytes(path) is not None:
        raise InfrastructureError(
            f"{path.parent} is driven by another process now ({_read(path) or holder}). Nothing was started. "
            "Wait for it, or end it; then the same command continues the sweep"
        )
    return not alive


def _put_away(lease: Lease, dead: bytes) -> None:
    """Remove a dead lease. One that another process wrote in the meantime is put back."""
    aside = lease.path.with_name(f".{lease.path.name}.{lease.holder.token[:8]}")
    with contextlib.suppress(FileNotFoundError):
        lease.path.rename(aside)
        if aside.read_bytes() != dead and not lease.path.exists():
            aside.rename(lease.path)
        aside.unlink()


def _read(path: Path) -> Holder | None:
    """Who holds a lease; None where nobody does, or where the file does not tell."""
    try:
        return Holder.read(path)
    except (FileNotFoundError, CorruptFile, ValidationError):
        return None


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _place() -> str:
    """What two processes share that can see each other's numbers: the running kernel and the process namespace."""
    known = [socket.gethostname()]
    with contextlib.suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        known.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(known)


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks; 0 for one that has ended and waits to be reaped.

    None where there is no /proc, or no such process. Fields 3 and 22 of proc_pid_stat(5), counted from behind the
    name, which may hold blanks and brackets.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
