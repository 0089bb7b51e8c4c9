"""A clock that a test sets forward: limits of minutes, seen in the program as it is, in no time."""

import mmap
import struct
from pathlib import Path

from .poll import until

WORD = struct.Struct("=q")
LOOP = struct.Struct("=qq")
#: As in leap.c.
LOOPS = 1024
#: The first wait may have begun before the leap, the second has seen it, and what it woke has been
#: served before the third; one more for an event loop that looks in between.
WAITS = 4


class LeapingClock:
    """The clock of one process that was started with `settings()`."""

    def __init__(self, library, directory):
        self._library = library
        self._path = Path(directory) / "leap"
        size = WORD.size + LOOPS * LOOP.size
        self._path.write_bytes(bytes(size))
        with open(self._path, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), size)
        self._seconds = 0

    def settings(self):
        return {"LD_PRELOAD": str(self._library), "LEAP_FILE": str(self._path)}

    def leap(self, *, minutes=0, seconds=0):
        """Sets it forward; returns when whatever was due by then has been served."""
        self._seconds += 60 * minutes + seconds
        WORD.pack_into(self._shared, 0, self._seconds)
        assert self._loops(), "nothing looks at this clock"
        until(
            lambda: all(seen == self._seconds and waits >= WAITS for seen, waits in self._loops()),
            "every event loop to see the leap",
        )

    def settle(self):
        """Returns when what is under way has begun to wait, and its time to count."""
        self.leap(seconds=1)

    def _loops(self):
        loops = LOOP.iter_unpack(self._shared[WORD.size :])
        return [(seen, waits) for seen, waits in loops if waits]

    def close(self):
        self._shared.close()
