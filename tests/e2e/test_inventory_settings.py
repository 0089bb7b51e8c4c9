"""Settings of the inventory: exact times, the change feed, retention, IAM tokens."""

import json
import time
from datetime import datetime

import psycopg
import pytest

from support.authority import Authority
from support.identity import CheckingStore, Cloud, Issuer
from support.inventory import table_of
from support.poll import until
from support.rds import RdsGate
from support.tcp import FaultProxy

#: What the checking store says of every object; its PUTs are answered with the time of day.
ITS_TIME = datetime(2026, 11, 21, 6, 41, 17)


def timed_proxy(lab, mirror=None, **settings):
    """A proxy whose main answers a PUT at another time than it then tells."""
    keys = {"TIMEKEY": ("time-secret", None, None)}
    store = lab.closing(CheckingStore(keys))
    proxy = lab.proxy(
        main_endpoint=store.endpoint, mirror_endpoint=mirror, start=False, **settings
    )
    proxy.process.environment |= {"MAIN_ACCESS_KEY": "TIMEKEY", "MAIN_SECRET_KEY": "time-secret"}
    return store, proxy.start()


@pytest.mark.parametrize("exact", [True, False])
def test_the_time_of_an_upload_is_main_s_own_from_the_first_row_on_if_that_is_paid_for(lab, exact):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    relay.refuse()
    settings = {"INVENTORY_EXACT_TIME": str(exact).lower()}
    _, proxy = timed_proxy(lab, mirror=relay.endpoint, **settings)
    lab.client(proxy).put_object(Bucket="timed", Key="k", Body=b"x", ContentType="a/b")
    inventory = lab.sqlite(proxy)
    until(lambda: inventory.rows("timed"), "the row of an object that the mirror lacks")
    (row,) = inventory.rows("timed")
    assert not row["is_backed_up"]
    assert (row["last_modified"] == ITS_TIME) is exact
    relay.forward()
    proxy.wait_drained()
    (row,) = inventory.rows("timed")
    assert row["is_backed_up"] and row["last_modified"] == ITS_TIME


@pytest.mark.parametrize("exact", [True, False])
def test_a_copy_that_main_is_not_asked_about_leaves_the_time_to_the_setting(lab, exact):
    settings = {"INVENTORY_EXACT_TIME": str(exact).lower(), "FENCE": "overlap"}
    _, proxy = timed_proxy(lab, **settings)
    # The first copy learns main's default media type, and asks; the second has nothing to ask.
    for key in ("first", "second"):
        lab.client(proxy).put_object(Bucket="timed", Key=key, Body=b"x", ContentType="a/b")
        proxy.wait_drained()
    rows = {row["path"]: row for row in lab.sqlite(proxy).rows("timed")}
    assert rows["second"]["is_backed_up"]
    assert (rows["second"]["last_modified"] == ITS_TIME) is exact


def test_an_object_that_main_tells_nothing_about_has_a_row_all_the_same(lab):
    store, proxy = timed_proxy(lab, INVENTORY_EXACT_TIME="true")
    store.is_secret = True
    lab.client(proxy).put_object(Bucket="timed", Key="k", Body=b"x", ContentType="a/b")
    inventory = lab.sqlite(proxy)
    until(lambda: inventory.rows("timed"), "the row of an object that cannot be asked about")
    (row,) = inventory.rows("timed")
    assert (row["size"], row["content_type"]) == (1, "a/b")
    assert proxy.status()["inventory"]["parked_rows"] == 0


def test_changes_are_told_to_a_channel(lab):
    inventory = lab.postgres()
    proxy = lab.proxy({**inventory.settings(), "INVENTORY_NOTIFY": "objects"})
    bucket = lab.bucket("told")
    with inventory.cluster.connect(inventory.database) as listener:
        listener.execute("LISTEN objects")
        client = lab.client(proxy)
        client.put_object(Bucket=bucket, Key="a b", Body=b"12345")
        proxy.wait_drained()
        client.delete_object(Bucket=bucket, Key="a b")
        lab.assert_converged(proxy, bucket, inventory=inventory)
        told = [json.loads(each.payload) for each in listener.notifies(timeout=0)]
        if not told:  # one look at the socket is not always enough
            told = [json.loads(each.payload) for each in listener.notifies(timeout=5)]
    assert all((each["bucket"], each["path"]) == (bucket, "a b") for each in told), told
    first, last = told[0], told[-1]
    assert (first["deleted"], first["size"], first["table"]) == (False, 5, table_of(bucket))
    assert (last["deleted"], last["is_backed_up"]) == (True, True)


def test_rows_of_keys_deleted_long_ago_go_and_the_rest_stays(lab):
    inventory = lab.postgres()
    proxy = lab.proxy(inventory.settings())
    bucket = lab.bucket("retained")
    client = lab.client(proxy)
    for key in ("long ago", "today", "there"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    for key in ("long ago", "today"):
        client.delete_object(Bucket=bucket, Key=key)
    lab.assert_converged(proxy, bucket, inventory=inventory)
    with inventory.cluster.connect(inventory.database) as connection:
        connection.execute(
            f"UPDATE {table_of(bucket)} SET updated_at = updated_at - INTERVAL '31 days' "
            "WHERE path <> 'today'"
        )
    proxy.stop()
    assert len(inventory.rows(bucket)) == 3, "rows stay unless it is asked for"
    lab.proxy({**inventory.settings(), "INVENTORY_RETAIN_DELETED_DAYS": "30"})
    until(lambda: len(inventory.rows(bucket)) < 3, "the first round of removals")
    assert {row["path"] for row in inventory.rows(bucket)} == {"today", "there"}


def trusted_role(cluster, name):
    """A role that the server asks nothing: the gate in front of it has asked."""
    with cluster.connect("postgres") as connection:
        connection.execute(f'CREATE ROLE "{name}" LOGIN CREATEDB')
        rules = cluster.data / "pg_hba.conf"
        line = f'host all "{name}" 127.0.0.1/32 trust\n'
        rules.write_text(line + rules.read_text())
        connection.execute("SELECT pg_reload_conf()")

    def accepted():
        try:
            psycopg.connect(
                host=cluster.host, port=cluster.port, user=name, dbname="postgres"
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    until(accepted, "the server to read its rules again")


def test_logins_are_iam_tokens_that_are_never_stale(lab, tmp_path):
    seconds = 4
    issuer = Issuer(seconds)
    token = tmp_path / "container-token"
    token.write_text("pod-identity")
    cloud = lab.closing(Cloud(issuer, container_token="pod-identity"))
    authority = Authority(tmp_path / "authority")
    certificate, key = tmp_path / "rds.pem", tmp_path / "rds.key"
    authority.issue("rds", certificate, key)
    user = "s3 mirror@iam"
    trusted_role(lab.cluster, user)
    gate = lab.closing(
        RdsGate(lab.cluster.address, issuer.sessions, "eu-west-1", certificate, key)
    )
    proxy = lab.proxy(start=False)
    nowhere = str(tmp_path / "nowhere")
    proxy.process.environment |= {
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": cloud.endpoint + "/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        "POSTGRES_HOST": "localhost",
        "POSTGRES_PORT": str(gate.port),
        "POSTGRES_USER": user,
        # It is not there: whoever may make it makes it, with a token too.
        "POSTGRES_DB": "iam_inventory",
        "POSTGRES_SSLMODE": "verify-full",
        "POSTGRES_CA_FILE": str(authority.file),
        "POSTGRES_IAM": "true",
        "POSTGRES_IAM_REGION": "eu-west-1",
    }
    proxy.start()
    bucket = lab.bucket("iam")
    client = lab.client(proxy)
    for number in range(3):
        client.put_object(Bucket=bucket, Key=f"k{number}", Body=b"x")
        proxy.wait_drained()
        if number == 2:
            break
        ended = max(end for _, _, end in issuer.sessions.values())
        # Every login so far is cut, and every session it was signed with ends.
        gate.cut()
        until(lambda: time.time() > ended, "the end of the sessions so far", seconds + 5)  # noqa: B023
    assert not gate.refused, gate.refused[:3]
    assert len(set(gate.taken)) >= 3, gate.taken
    rows = lab.cluster.query("iam_inventory", f"SELECT path FROM {table_of(bucket)} ORDER BY 1")
    assert [row["path"] for row in rows] == ["k0", "k1", "k2"]
    output = proxy.process.stdout() + proxy.process.stderr()
    for login in gate.tokens:
        assert login not in output and login.rpartition("=")[2] not in output


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"POSTGRES_IAM": "true"}, "POSTGRES_SSLMODE"),
        ({"INVENTORY_NOTIFY": "true"}, "INVENTORY_NOTIFY"),
        ({"INVENTORY_RETAIN_DELETED_DAYS": "hunter2"}, "INVENTORY_RETAIN_DELETED_DAYS"),
        ({"INVENTORY_EXACT_TIME": "hunter2"}, "INVENTORY_EXACT_TIME"),
    ],
)
def test_settings_that_cannot_work_are_told_at_the_start(lab, settings, named):
    proxy = lab.proxy(start=False, **settings)
    proxy.process.spawn()
    assert proxy.process.wait(20) == 64
    assert named in proxy.process.stderr() and "hunter2" not in proxy.process.stderr()
