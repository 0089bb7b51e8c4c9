"""A disk whose syncs fail or hang, and which keeps only what it has promised when the power goes."""

import mmap
import struct
from pathlib import Path

from .poll import until

#: What happens, how many failed, how many hang; of the journal's log, then of all other files.
KINDS = struct.Struct("=6q")
PASS, FAIL, HANG = range(3)
#: What a disk writes whole or not at all.
SECTOR_BYTES = 512


class Syncs:
    """The syncs of one process that was started with `settings()`."""

    def __init__(self, library, directory):
        self._library = library
        self._kept = Path(directory) / "kept"
        self._kept.mkdir()
        self._path = Path(directory) / "syncs"
        self._path.write_bytes(bytes(KINDS.size))
        with open(self._path, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), KINDS.size)

    def settings(self):
        return {
            "LD_PRELOAD": str(self._library),
            "SYNC_FILE": str(self._path),
            "SYNC_KEPT": str(self._kept),
        }

    def fail(self, *, log=True, others=True):
        self._say(FAIL if log else PASS, FAIL if others else PASS)

    def hang(self):
        """The log's alone, because whoever hangs there waits for nothing else."""
        self._say(HANG, PASS)

    def go_on(self):
        self._say(PASS, PASS)

    def failed(self):
        """How many have failed so far: of the log, of others."""
        _, log, _, _, others, _ = KINDS.unpack_from(self._shared)
        return log, others

    def wait_hanging(self):
        until(lambda: KINDS.unpack_from(self._shared)[2] > 0, "a sync of the log to hang")

    def power_goes(self, proxy, rng):
        """Kills the proxy, and leaves of its files what was promised, and by chance some of the rest.

        Half of the time there is no rest: nothing has reached the disk that was not asked for.
        """
        proxy.kill()
        chance = rng.choice((0, rng.random()))
        for path in filter(Path.is_file, proxy.data_dir.iterdir()):
            kept = self._kept / path.name
            if kept.exists():
                left = _torn(kept.read_bytes(), path.read_bytes(), chance, rng)
                path.write_bytes(left)
                # It is there now, and the next loss does not take it back.
                kept.write_bytes(left)
            else:
                # Neither the file nor its name was promised.
                path.unlink()

    def _say(self, log, others):
        # Only what is told: the counters are the other side's.
        struct.pack_into("=q", self._shared, 0, log)
        struct.pack_into("=q", self._shared, KINDS.size // 2, others)

    def close(self):
        self._shared.close()


def _torn(kept, written, chance, rng):
    """What was kept, with some sectors as they were written last."""
    if chance == 0:
        return kept
    torn = bytearray(kept.ljust(len(written), b"\0"))
    for at in range(0, len(written), SECTOR_BYTES):
        sector = slice(at, at + SECTOR_BYTES)
        if torn[sector] != written[sector] and rng.random() < chance:
            torn[sector] = written[sector]
    return bytes(torn)
