"""An executable `gcloud` for shell scripts: a few lines of bash that ask the stand-in in the test's own process.

A Python program in its place would take longer to start than all that it does.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from tests.support.cloud_project import CloudProject

_CLIENT = r"""#!/usr/bin/env bash
exec 3<>/dev/tcp/127.0.0.1/{port}
printf '%s\0' "$#" "$@" >&3
read -r status <&3
if [ "$status" = 0 ]; then cat <&3; else cat <&3 >&2; fi
exit "$status"
"""


@dataclass(frozen=True)
class Machine:
    """A machine whose `gcloud` is the stand-in, and whose `sleep` does not wait."""

    folder: Path
    cloud: CloudProject

    @property
    def path(self) -> str:
        """Where programs are looked for."""
        return f"{self.folder}:{os.environ['PATH']}"

    @property
    def pauses(self) -> list[int]:
        """For how many seconds `sleep` was told to wait."""
        return [int(line) for line in (self.folder / "pauses").read_text().splitlines()]

    def run(self, script: str) -> None:
        """Run a shell script that is expected to succeed."""
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-c", script],
            env=os.environ | {"PATH": self.path},
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        assert done.returncode == 0, done.stderr + done.stdout


@contextmanager
def machine_in(folder: Path) -> Iterator[Machine]:
    """Put the programs into a folder, and answer them until the block ends."""
    cloud = CloudProject()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            words = [self._word() for _ in range(int(self._word()))]
            answer = cloud(words, None)
            self.wfile.write(f"{answer.status}\n{answer.stdout or answer.stderr}".encode())

        def _word(self) -> str:
            word = bytearray()
            while (byte := self.rfile.read(1)) != b"\0":
                word += byte
            return word.decode()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _program(folder / "gcloud", _CLIENT.format(port=server.server_address[1]))
        (folder / "pauses").touch()
        _program(folder / "sleep", f'#!/bin/sh\necho "$1" >>"{folder}/pauses"\n')
        yield Machine(folder, cloud)
        server.shutdown()


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
