"""Run a program as careful platforms run a container: all file systems are read-only, and there are no capabilities."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

_PREPARE = """
set -eu
mount --make-rprivate /
# Also the mounts below the root: a container's /tmp and /dev/shm are there.
while read -r _ _ _ _ point _; do mount -o remount,bind,ro "$point" 2>/dev/null || true; done </proc/self/mountinfo
exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs "$@"
"""

_PROBE = """
import json, os, pathlib, tempfile
def writable(folder):
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
candidates = ["/tmp", "/var/tmp", "/dev/shm", "/", os.getcwd(), os.path.expanduser("~")]
status = dict(line.split(":\\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps([[folder for folder in candidates if writable(folder)], int(status["CapEff"], 16)]))
"""


def confined(command: Sequence[str]) -> list[str]:
    """Return the command that runs this one with every file system read-only and without capabilities.

    It replaces itself with the program, so signals to it reach the program.
    """
    unprivileged = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *unprivileged, "sh", "-c", _PREPARE, "sh", *command]


@cache
def confinement_missing() -> str:
    """Return why this machine cannot confine a program; an empty text if it can."""
    if sys.platform != "linux":
        return "read-only mounts of one's own need Linux"
    if absent := [tool for tool in ("unshare", "mount", "setpriv") if shutil.which(tool) is None]:
        return f"needs {' and '.join(absent)} of util-linux"
    done = subprocess.run(
        confined([sys.executable, "-c", _PROBE]), capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        return f"this machine does not allow mounts of one's own: {done.stderr.strip()}"
    writable, capabilities = json.loads(done.stdout)
    return f"could not take away: {writable}, capabilities {capabilities:#x}" if writable or capabilities else ""
