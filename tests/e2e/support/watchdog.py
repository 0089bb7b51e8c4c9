"""Leaves nothing behind: kills every process of the suite when the suite itself is killed.

One helper process reads lines from a pipe whose only writer is the test process. `+pid` and `-pid`
keep its list, `dir path` names a directory to remove. The pipe's end (the test process is gone,
whatever the way) makes it kill what is still listed.
"""

import subprocess
import sys

_PROGRAM = r"""
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pids, directories = set(), set()
for line in sys.stdin:
    line = line.rstrip("\n")
    if line.startswith("+"):
        pids.add(int(line[1:]))
    elif line.startswith("-"):
        pids.discard(int(line[1:]))
    elif line.startswith("dir "):
        directories.add(line[4:])
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
for directory in directories:
    shutil.rmtree(directory, ignore_errors=True)
"""

_helper = None


def _send(line):
    global _helper
    if _helper is None:
        _helper = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
    _helper.stdin.write(line + "\n")


def add(pid):
    _send(f"+{pid}")


def remove(pid):
    _send(f"-{pid}")


def add_directory(path):
    """Removed when the suite ends, however it ends."""
    _send(f"dir {path}")
