"""P2, P3, P4: SIGKILL at any moment loses nothing that was acknowledged, and everything converges.

Several writers put, overwrite, copy, delete and upload in parts through the proxy while it is
killed and restarted again and again. At the end main holds, for every key, the last acknowledged
state or that of a change whose answer never came; mirror and inventory equal main in either case.
"""

import threading

import pytest

from support.crash import fail_on_loss, keys_of_writers, write_until
from support.lab import seeded_random
from support.poll import until

ROUNDS = 24


@pytest.mark.timeout(400)
@pytest.mark.parametrize("inventory_kind", ["postgres", "sqlite"])
def test_nothing_acknowledged_is_lost_over_many_kills(lab, inventory_kind):
    rounds = ROUNDS if inventory_kind == "postgres" else ROUNDS // 3
    rng = seeded_random("crash")
    inventory = lab.postgres() if inventory_kind == "postgres" else None
    proxy = lab.proxy(inventory.settings() if inventory else None)
    inventory = inventory or lab.sqlite(proxy)
    buckets = [lab.bucket("crash"), lab.bucket("crash")]
    owned = keys_of_writers(buckets)
    operations = 0
    unanswered_rounds = 0

    for _ in range(rounds):
        operations += write_until(proxy.kill, proxy, owned, rng)
        unanswered_rounds += any(key.possible for keys in owned for key in keys)
        proxy.start()

    print(f"{rounds} kills, {operations} operations, {unanswered_rounds} rounds with lost answers")
    # Otherwise the kills came at moments when nothing was under way.
    assert unanswered_rounds >= rounds // 4
    proxy.wait_drained(60)
    fail_on_loss(lab, owned)
    lab.assert_converged(proxy, *buckets, inventory=inventory)


def test_changes_waiting_for_an_absent_mirror_survive_a_kill(lab):
    """The backlog is in the journal, not in memory, and neither are the bodies needed."""
    from support.tcp import FaultProxy

    relay = lab.closing(FaultProxy(lab.mirror.address))
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings(), mirror_endpoint=relay.endpoint)
    bucket = lab.bucket("backlog")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="deleted", Body=b"x")
    proxy.wait_drained()
    relay.refuse()
    for number in range(50):
        client.put_object(Bucket=bucket, Key=f"{number % 40}", Body=b"x" * number)
    client.delete_object(Bucket=bucket, Key="deleted")
    proxy.kill()
    proxy.start()
    until(
        lambda: proxy.status()["mirror"]["pending_operations"] == 41,
        lambda: f"41 keys to be pending: {proxy.status()}",
    )
    relay.forward()
    lab.assert_converged(proxy, bucket, inventory=inventory)


def test_an_intent_without_an_outcome_is_settled_by_asking_main(lab):
    """The proxy is killed while main, paused, holds the answer back; main then finishes."""
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings())
    bucket = lab.bucket("unsettled")
    client = lab.client(proxy)
    client.put_object(Bucket=bucket, Key="overwritten", Body=b"before")
    client.put_object(Bucket=bucket, Key="deleted", Body=b"before")
    proxy.wait_drained()

    lab.main.process.pause()
    try:
        threads = [
            threading.Thread(target=_quietly, args=(action,))
            for action in (
                lambda: lab.client(proxy).put_object(
                    Bucket=bucket, Key="overwritten", Body=b"after"
                ),
                lambda: lab.client(proxy).delete_object(Bucket=bucket, Key="deleted"),
                lambda: lab.client(proxy).put_object(Bucket=bucket, Key="new", Body=b"after"),
            )
        ]
        for thread in threads:
            thread.start()
        until(lambda: proxy.status()["unsettled_intents"] == 3, "three intents on disk")
        proxy.kill()
        for thread in threads:
            thread.join(30)
    finally:
        lab.main.process.resume()
    # Main has taken the requests in: they were in its socket buffers.
    proxy.start()
    lab.assert_converged(proxy, bucket, inventory=inventory)
    assert proxy.status()["unsettled_intents"] == 0


def _quietly(action):
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        action()
    except (BotoCoreError, ClientError, OSError):
        pass


def test_a_kill_right_after_the_acknowledgement_loses_nothing(lab):
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings())
    bucket = lab.bucket("instant")
    for number in range(6):
        lab.client(proxy).put_object(Bucket=bucket, Key=f"put {number}", Body=b"x" * number)
        proxy.kill()
        proxy.start()
    lab.client(proxy).delete_object(Bucket=bucket, Key="put 0")
    proxy.kill()
    proxy.start()
    lab.assert_converged(proxy, bucket, inventory=inventory)
    assert lab.keys_on_mirror(bucket) == {f"put {number}" for number in range(1, 6)}
