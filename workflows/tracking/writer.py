"""Where MLflow is, and the one writer that keeps it in line while a sweep runs.

MLflow never holds up training: the writer is a thread of its own that tries again and remembers what went wrong.
The client library is imported there too, so a sweep starts without waiting for it.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trainables import garbage
from trainables.directory import SweepDirectory
from trainables.errors import BadInput, CorruptFile
from trainables.files import read_json
from trainables.records import InferenceCost, Result
from trainables.redaction import redact
from workflows import inference
from workflows.tracking.mark import Mark, RunMark
from workflows.tracking.store import missing_driver

if TYPE_CHECKING:
    from workflows.tracking.mirror import Mirror

_INTERVAL = 5.0
# What another try will not cure; anything else may be the store.
_DEFECTS = (CorruptFile, TypeError, AttributeError, LookupError, AssertionError)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# After an interrupt: for what is on its way, and beyond that until no run is RUNNING.
LAST_WORDS_SECONDS = 10.0
SECONDS_FOR_STATES = 30.0
# How often `finish` looks whether something has arrived.
_LOOK = 1.0


def default_uri(storage: Path) -> str:
    """The store of a storage folder that names no other: `sqlite:///<storage>/mlflow.db`."""
    return f"sqlite:///{storage.absolute() / 'mlflow.db'}"


def check_uri(uri: str) -> None:
    """Raise BadInput for a tracking URI that cannot be one. Does not connect."""
    if uri.startswith("sqlite:") and not re.match(r"sqlite:///.", uri):
        raise BadInput(f"tracking.uri: {uri!r} must be sqlite:///relative/file.db or sqlite:////absolute/file.db")
    try:
        parts = urlsplit(uri)
        valid = parts.scheme not in ("http", "https") or (parts.hostname is not None and parts.port != 0)
    except ValueError:
        valid = False
    if not valid:
        raise BadInput(f"tracking.uri: {redact(uri)!r} must name a host, as in http://127.0.0.1:5000")
    if re.match(r"postgresql|mysql|mssql", uri) and (missing := missing_driver(uri)):
        raise BadInput(
            f"tracking.uri: {redact(uri)!r} needs the Python package {missing}, which is not installed; install it, or "
            "name a driver that is, as in postgresql+psycopg2://… (pip install psycopg2-binary)"
        )


def ui_command(uri: str, storage: Path) -> list[str]:
    """What shows a store in a browser: a command for a database, the address itself for a server."""
    if not re.match(r"sqlite|postgresql|mysql|mssql", uri):
        return [redact(uri)]
    artifacts = (storage.absolute() / "mlartifacts").as_uri()
    command = ["mlflow", "ui", "--backend-store-uri", redact(uri), "--default-artifact-root", artifacts]
    return [*command, "--host", "127.0.0.1"]


class Writer:
    """Delivers a sweep directory to MLflow from a thread of its own; no method raises for a failure of the store.

    `last_error` says why something is not delivered yet, and is None once all is.
    """

    def __init__(
        self, sweep: SweepDirectory, uri: str, experiment: str, *, interval: float = _INTERVAL, delay: float = 0.0
    ) -> None:
        """Deliver after `delay` seconds, then at each `notify` and at least every `interval` seconds."""
        self.last_error: str | None = None
        self._sweep, self._uri, self._experiment = sweep, uri, experiment
        self._interval, self._delay = interval, delay
        self._mirror: Mirror | None = None
        self._publish: list[tuple[str, Path, str | None]] = []
        self._turn = threading.Lock()
        self._wake = threading.Event()
        self._pausing = threading.Event()
        self._finishing = threading.Event()
        self._ended = threading.Event()
        self._status = ""
        self._timeout, self._deadline = 0.0, float("inf")
        self._arrived = 0
        self._live = True
        self._delivered = False
        self._refused = False
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="fleetune-mlflow", daemon=True)
        self._thread.start()

    @staticmethod
    def is_complete(sweep: SweepDirectory, uri: str, experiment: str | None = None) -> bool:
        """Whether a store has got all that a sweep directory holds, by the mark alone. Does not connect."""
        manifest = read_json(sweep.manifest)
        tracking = manifest["config"].get("tracking", {})
        name = experiment or tracking.get("experiment") or manifest["name"]
        return _is_complete(sweep, Mark.read(sweep, uri, name), manifest, tracking)

    def notify(self) -> None:
        """Say that there is something new. Returns at once."""
        self._wake.set()

    def publish(self, trial_id: str, folder: Path, register_as: str | None = None) -> None:
        """Have a plain Hugging Face model directory added to a trial's run and, if named, registered. Returns at once.

        It happens after the trial's own results are delivered, and counts for `finish`. `folder` must stay until then.
        """
        self._publish.append((trial_id, folder, register_as))
        self.notify()

    def draw_all(self) -> None:
        """Say that no trial needs the cores any more: figures wait no longer. Returns at once."""
        self._live = False
        self.notify()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Deliver nothing inside the block, where something is timed on the same cores.

        Waits for what is going on, but for no further figure.
        """
        self._pausing.set()
        with self._turn:
            self._pausing.clear()
            yield
        self.notify()

    def finish(self, status: str, timeout: float = 60.0, *, for_states: float = 0.0) -> bool:
        """Deliver all that is left, end every run, and say whether that worked.

        `status` is the parent's: FINISHED, FAILED or KILLED. Waits for as long as something arrives at least every
        `timeout` seconds, or a file of a model is on its way; after KILLED for `timeout` seconds in all, so that states
        come through but perhaps not every figure. Where even the states are not through by then, though the store
        refuses nothing, they have `for_states` seconds more.
        """
        self._status, self._timeout = status, timeout
        self._deadline = time.monotonic() + timeout
        self._finishing.set()
        self._wake.set()
        while self._thread.is_alive() and (left := self._left() + 1) > 0:
            self._thread.join(min(left, _LOOK))
        if status == "KILLED" and self.last_error is None:
            self._ended.wait(for_states)
        if self._thread.is_alive():
            self.last_error = self.last_error or f"{redact(self._uri)} did not take everything in {timeout:g} seconds"
            return False
        return self._delivered

    def abandon(self) -> None:
        """Deliver nothing more, not even how the sweep ends: another process drives it. Returns at once."""
        self._abandoned = True
        self._finishing.set()
        self._wake.set()

    def _left(self) -> float:
        """For how many seconds `finish` still waits. What has arrived since the last look puts its deadline off."""
        if self._mirror is None or self._status == "KILLED":
            return self._deadline - time.monotonic()
        # Asked first: a file that arrives right now is either still on its way, or counts as arrived below.
        allowance = self._mirror.allowance
        arrived = self._mirror.arrived
        if arrived > self._arrived:
            self._arrived, self._deadline = arrived, time.monotonic() + self._timeout
        return self._deadline + allowance - time.monotonic()

    def _work(self) -> None:
        pause = _FIRST_PAUSE
        self._wake.wait(self._delay)
        while not self._abandoned:
            finishing = self._finishing.is_set()
            self._wake.clear()
            before = self._mirror.arrived if self._mirror else 0
            failed = self._attempt(self._close if finishing else self._deliver)
            if self._mirror and self._mirror.arrived > before:
                pause = _FIRST_PAUSE
            if finishing and (not failed or self._refused or self._left() <= 0):
                self._delivered = not failed
                self._ended.set()
                return
            if failed:
                # A notify must not shorten the pause, or a store that is away would be asked at every epoch.
                self._pause(pause, finishing)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
                self._wake.wait(self._interval)

    def _pause(self, seconds: float, finishing: bool) -> None:
        if finishing:
            time.sleep(max(0.0, min(seconds, 2.0, self._deadline - time.monotonic())))
        else:
            self._finishing.wait(seconds)

    def _attempt(self, step: Callable[[Mirror], None]) -> bool:
        """Take one step; returns whether something is left undone, with the reason in `last_error`."""
        self._refused = False
        try:
            with self._turn:
                if self._mirror is None:
                    self._mirror = self._open()
                step(self._mirror)
            self.last_error = "; ".join(self._mirror.problems) or None
            self._refused = self.last_error is not None
        except Exception as error:  # noqa: BLE001 - whatever a store's driver raises is recorded and tried again
            self.last_error = redact(f"{type(error).__name__}: {error}".split("\n")[0])
            self._refused = isinstance(error, _DEFECTS)
        return self.last_error is not None

    def _open(self) -> Mirror:
        from workflows.tracking.mirror import Mirror

        mirror = Mirror(self._sweep, self._uri, self._experiment)
        mirror.in_a_hurry = lambda: self._finishing.is_set() or self._pausing.is_set()
        # The store's client has been imported, and what it will draw is cyclic.
        garbage.collect_all()
        return mirror

    def _deliver(self, mirror: Mirror) -> None:
        mirror.deliver(live=self._live)
        self._publish_all(mirror)

    def _close(self, mirror: Mirror) -> None:
        """States come before figures and checkpoints: a driver that is being killed has seconds."""
        mirror.in_a_hurry = lambda: True
        mirror.deliver()
        mirror.close(self._status)
        self._ended.set()
        mirror.in_a_hurry = lambda: False
        mirror.deliver()
        self._publish_all(mirror)
        # Workers that an interrupt has not reached yet go on recording epochs, which open their runs again.
        mirror.close(self._status)

    def _publish_all(self, mirror: Mirror) -> None:
        """Publish what was handed over and is still there; what fails stays for the next time."""
        while self._publish:
            if self._publish[0][1].is_dir():
                mirror.publish(*self._publish[0])
            self._publish.pop(0)


def _is_complete(sweep: SweepDirectory, mark: Mark, manifest: dict[str, Any], tracking: dict[str, Any]) -> bool:
    from workflows.tracking.mirror import parent_content

    directories = {name: sweep.trial(name) for name in manifest["trials"]}
    directories |= {name: sweep.baseline(name) for name in manifest["baselines"]}
    for name, directory in directories.items():
        run = mark.runs.get(name)
        if not directory.result.exists() or run is None or not run.artifacts:
            return False
        result = Result.read(directory.result)
        if run.ended != result.ended or not _has_cost(sweep, name, result, run):
            return False
        wanted = tracking.get("checkpoints") == "all" and (result.kind, result.status) == ("trial", "DONE")
        if wanted and run.published is None:
            return False
    if mark.parent_status == "RUNNING" or mark.parent_content != parent_content(sweep):
        return False
    return _is_published(sweep, mark, tracking)


def _has_cost(sweep: SweepDirectory, name: str, result: Result, run: RunMark) -> bool:
    """Whether a run has got what predicting costs, as far as that is measured."""
    path = inference.cost_file(sweep, name, result.kind)
    if result.status != "DONE" or path is None or not path.exists():
        return True
    return run.measured == InferenceCost.read(path).measured


def _is_published(sweep: SweepDirectory, mark: Mark, tracking: dict[str, Any]) -> bool:
    champion = read_json(sweep.leaderboard_json)["champion"] if sweep.leaderboard_json.exists() else None
    if champion is None:
        return True
    run = mark.runs[champion]
    if tracking.get("checkpoints", "none") != "none" and run.published is None:
        return False
    name = tracking.get("register_as")
    return not name or mark.registered == [name, champion, run.published]
