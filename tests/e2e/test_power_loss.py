"""P2, P3: the power goes, and of the journal is left what its disk has promised.

SIGKILL leaves everything that was written, since the machine goes on. Here each file is put back to
what its last sync has promised; in half of the rounds some of the sectors written since are there
all the same, as a disk writes them in any order.
"""

import sys
import threading

import pytest

from support import raw, s3
from support.crash import fail_on_loss, keys_of_writers, write_until
from support.lab import seeded_random
from support.poll import until
from support.tcp import FaultProxy

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="which file is synced is told by what only Linux has"
)

ROUNDS = 16
CONNECTIONS = 24
#: With such keys twice as much as a file of the log holds.
WRITES, KEY_BYTES = 2500, 900


@pytest.mark.timeout(400)
def test_nothing_acknowledged_is_lost_when_the_power_goes(lab, syncs):
    rng = seeded_random("power")
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, **syncs.settings())
    buckets = [lab.bucket("power"), lab.bucket("power")]
    owned = keys_of_writers(buckets)
    operations = pending = 0

    for number in range(ROUNDS):
        # Without a mirror nothing but the journal knows of what was written.
        if number % 4:
            relay.refuse()
        operations += write_until(lambda: syncs.power_goes(proxy, rng), proxy, owned, rng)
        proxy.start()
        pending += proxy.status()["mirror"]["pending_operations"]
        relay.forward()

    print(f"{ROUNDS} losses of power, {operations} operations, {pending} keys found pending")
    assert pending >= ROUNDS, "the journal had nothing to remember"
    proxy.wait_drained(60)
    fail_on_loss(lab, owned)
    lab.assert_converged(proxy, *buckets, inventory=lab.sqlite(proxy))


class Stream(threading.Thread):
    """Writes one small object after another over one connection, until that ends."""

    def __init__(self, proxy, bucket, number):
        super().__init__(daemon=True)
        self._proxy, self._target = proxy, f"/{bucket}/{number:02}-".ljust(KEY_BYTES, "k")
        self.acknowledged = []

    def run(self):
        headers = [("Host", "h"), ("Content-Length", "1")]
        try:
            with raw.Connection(self._proxy.address) as connection:
                while True:
                    target = f"{self._target}{len(self.acknowledged)}"
                    connection.send(raw.request_bytes("PUT", target, headers, b"x"))
                    assert connection.read_response().status == 200
                    self.acknowledged.append(target.rpartition("/")[2])
        except (raw.ConnectionEnded, OSError):
            pass


@pytest.mark.timeout(300)
def test_many_writers_lose_nothing_when_the_power_goes(lab, syncs):
    rng = seeded_random("power")
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, **syncs.settings())
    bucket = lab.bucket("streams")
    relay.refuse()
    streams = [Stream(proxy, bucket, number) for number in range(CONNECTIONS)]
    for stream in streams:
        stream.start()

    def acknowledged():
        return sum(len(stream.acknowledged) for stream in streams)

    until(lambda: acknowledged() >= WRITES or not streams[0].is_alive(), f"{WRITES} writes", 100)
    syncs.power_goes(proxy, rng)
    for stream in streams:
        stream.join(20)
    written = {key for stream in streams for key in stream.acknowledged}
    assert len(written) >= WRITES, "the proxy ended before its power went"
    proxy.start()
    relay.forward()
    proxy.wait_drained(100)
    on_main = set(s3.every_key(lab.s3_main, bucket))
    assert written <= on_main
    assert lab.keys_on_mirror(bucket) == on_main
