"""Writers at work until the proxy's end, and whether anything acknowledged is lost afterwards."""

import random
import threading

from .driver import Key, Writer, observe
from .poll import until

WRITERS = 4
NAMES = ("hot", "a b+c%", "ü/日本", "x//y", "dir/", "n1", "n2", "n3", "n4", "n5")


def keys_of_writers(buckets):
    """The keys of each writer, over the buckets in turn."""
    return [
        [
            Key(buckets[number % len(buckets)], f"w{writer}/{name}")
            for number, name in enumerate(NAMES)
        ]
        for writer in range(WRITERS)
    ]


def write_until(end, proxy, owned, rng):
    """One round: all writers at work, `end()`, all writers gone; returns the operations done."""
    stop = threading.Event()
    writers = [
        Writer(proxy.endpoint, keys, random.Random(rng.randrange(1 << 32)), stop) for keys in owned
    ]
    for writer in writers:
        writer.start()
    # The moment of the end is counted in finished operations, so that a slow machine sees the
    # same kind of moment; sometimes it comes before the first one ends.
    wanted = rng.choice((0, 1, 3, 10, 30, 60))

    def reached():
        done = sum(writer.done for writer in writers)
        return done >= wanted or not any(writer.is_alive() for writer in writers)

    until(reached, f"{wanted} operations to be done", 60, 0.001)
    end()
    stop.set()
    for writer in writers:
        writer.join(60)
        assert not writer.is_alive()
        assert writer.crash is None, writer.crash
        assert not writer.refusals, writer.refusals
    return sum(writer.done for writer in writers)


def fail_on_loss(lab, owned):
    """Main holds, for every key, the last acknowledged state or that of a change without an answer."""
    wrong = [
        f"{key.bucket}/{key.name}: main has {state}, acknowledged was {key.acknowledged}, "
        f"possible {key.possible}"
        for keys in owned
        for key in keys
        if not key.accepts(state := observe(lab.s3_main, key))
    ]
    assert not wrong, "\n".join(wrong)
