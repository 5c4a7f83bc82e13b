"""A real PostgreSQL for tests, from the system's packages: a cluster of its own on a free port of loopback."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

STARTUP_SECONDS = 60
_INSTALLED = Path("/usr/lib/postgresql")
_USER = "fleetune"


def binaries() -> Path | None:
    """The folder of the newest server that is installed (Debian's package `postgresql`), or None."""
    found = [path for path in _INSTALLED.glob("*/bin") if (path / "initdb").exists() and (path / "postgres").exists()]
    return max(found, key=lambda path: float(path.parent.name), default=None)


class Postgres:
    """One server over an empty database; everything it has lies in a temporary folder and goes with it.

    PostgreSQL refuses to run as root, so there it runs as the user `postgres`, or as `nobody`.
    """

    def __init__(self, bin_folder: Path) -> None:
        self.bin = bin_folder
        # Not below pytest's own folder, which another user cannot enter.
        self.folder = Path(tempfile.mkdtemp(prefix="fleetune-postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.password = secrets.token_hex(8)
        self.uri = f"postgresql+psycopg2://{_USER}:{self.password}@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, int] = {}
        if os.geteuid() == 0:
            user = _unprivileged()
            self._as = {"user": user.pw_uid, "group": user.pw_gid}
            os.chown(self.folder, user.pw_uid, user.pw_gid)

    def start(self) -> None:
        """Make the cluster, start the server and wait until it answers."""
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        options = ["--username", _USER, "--auth", "scram-sha-256", "--pwfile", str(password), "--no-sync"]
        command = [
            str(self.bin / "initdb"),
            "--pgdata",
            str(self.folder / "data"),
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]
        made = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            cwd=self.folder,
            extra_groups=[] if self._as else None,
            **self._as,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", "fsync=off")
        command = [str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        with (self.folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *(part for setting in settings for part in ("-c", setting))],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                extra_groups=[] if self._as else None,
                **self._as,
            )
        self._wait()

    def stop(self) -> None:
        """End the server, whoever is connected, and delete what it had."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        import psycopg2

        assert self.process
        deadline = time.monotonic() + STARTUP_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg2.connect(self.uri.replace("+psycopg2", "")).close()
                return
            except psycopg2.OperationalError:
                time.sleep(0.1)
        raise TimeoutError((self.folder / "server.log").read_text())


def _unprivileged() -> pwd.struct_passwd:
    known = {user.pw_name: user for user in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]
