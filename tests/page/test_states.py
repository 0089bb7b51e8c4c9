"""The page on bad days: the mirror away, deletes held back, events refused, searches and jobs that
take their time. What is pressed here is looked for in the service, not on the page alone."""

import json

import pytest
from selenium.webdriver.common.keys import Keys

from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until
from support.receiver import Receiver
from support.tcp import FaultProxy
from test_page import TOKEN, Scene, sign_in


@pytest.fixture
def scene(lab):
    return Scene(lab)


def test_a_mirror_that_is_away_is_told_with_what_waits_and_that_nothing_is_lost(lab, browser):
    relay = lab.closing(FaultProxy(lab.mirror.address))
    proxy = lab.proxy(mirror_endpoint=relay.endpoint, ADMIN_TOKEN=TOKEN)
    bucket = lab.bucket("backlog")
    relay.refuse()
    client = lab.client(proxy)
    for number in range(30):
        client.put_object(Bucket=bucket, Key=f"{number:03d}", Body=b"x" * 4096)
    browser.open(proxy, "overview")
    browser.wait_text("The mirror is behind", "The mirror cannot be reached", "nothing is lost", "away", "30")
    browser.wait_text("Behind", selector="#state")
    assert browser.look("behind") == []
    browser.open(proxy, "buckets")
    browser.wait_text(bucket, "30")
    browser.open(proxy, "overview")
    relay.forward()
    browser.wait_text("The mirror is in step with main")
    assert browser.look("in-step") == []
    proxy.stop()
    browser.wait_text("the service does not answer", "What is shown here is of")
    assert browser.look("gone") == []


def test_deletes_that_are_held_back_are_released_by_bucket_after_a_question(lab, browser):
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN, MIRROR_DELETE_BRAKE_KEYS=3)
    bucket = lab.bucket("braked")
    client = lab.client(proxy)
    for number in range(12):
        client.put_object(Bucket=bucket, Key=f"{number}", Body=b"x")
    lab.assert_converged(proxy, bucket)
    for number in range(12):
        client.delete_object(Bucket=bucket, Key=f"{number}")
    until(lambda: proxy.status()["mirror"]["brakes"], "the brake")
    browser.open(proxy, "overview")
    sign_in(browser)
    browser.wait_text("Something is stopped", f"eletes of {bucket} are held back")
    assert browser.look("braked") == []
    browser.click(f"Release {bucket}")
    browser.wait_text("cannot be taken back", selector="dialog")
    assert browser.look("release") == []
    browser.click("Cancel", "dialog")
    assert proxy.status()["mirror"]["brakes"], "a question that was answered with no"
    assert lab.keys_on_mirror(bucket)
    browser.click(f"Release {bucket}")
    browser.click("Release", "dialog")
    until(lambda: not lab.keys_on_mirror(bucket), "the deletes on the mirror")
    browser.wait_text("The mirror is in step with main")
    assert browser.complaints() == []


def test_the_tile_of_events_tells_what_waits_what_is_refused_and_when_some_were_taken(lab, browser):
    answers = {"bad": 400}
    receiver = lab.closing(
        Receiver(lambda records: max(answers.get(r["s3"]["object"]["key"], 200) for r in records))
    )
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN, **receiver.settings())
    bucket = lab.bucket("told")
    client = lab.client(proxy)
    browser.open(proxy, "overview")
    browser.wait_text("none delivered since the start")
    client.put_object(Bucket=bucket, Key="good", Body=b"x")
    until(lambda: proxy.status()["events"]["last_delivered_ms"], "the event to be delivered")
    browser.wait_text("last delivered")
    client.put_object(Bucket=bucket, Key="bad", Body=b"x")
    until(lambda: proxy.status()["events"]["refused"] == 1, "the event to be refused")
    browser.wait_text("1 refused", "The receiver of events refuses 1 of them", "answered 400")
    assert browser.look("events-refused") == []
    answers["later"] = 503
    client.put_object(Bucket=bucket, Key="later", Body=b"x")
    browser.wait_text("the oldest for", "webhook", "answered 503")
    assert browser.look("events-away") == []
    answers.clear()
    other = lab.proxy(name="without")
    browser.open(other, "overview")
    browser.wait_text("no webhook is set")


def test_refused_events_are_sent_again_and_given_up_from_the_page(lab, browser):
    refused = {"bad", "worse", "worst"}
    receiver = lab.closing(
        Receiver(lambda records: 400 if {r["s3"]["object"]["key"] for r in records} & refused else 200)
    )
    proxy = lab.proxy(ADMIN_TOKEN=TOKEN, **receiver.settings())
    bucket, client = lab.bucket("told"), lab.client(proxy)
    for key in sorted(refused):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")

    def left():
        return proxy.status()["events"]["refused"]

    until(lambda: left() == 3, "the events to be refused")
    browser.open(proxy, "overview")
    sign_in(browser)
    until(lambda: browser.one("main a[href='#/events']"), "the number of refused events").click()
    browser.wait_text("Refused events", f"{bucket}/worse", "answered 400", "ObjectCreated:Put")
    assert browser.look("events") == []
    refused.remove("bad")
    browser.click("Send again: bad")
    until(lambda: left() == 2, "the event to be delivered")
    browser.open(proxy, "events")
    browser.click("Give up: worse")
    browser.wait_text("is never told", selector="dialog")
    browser.click("Give up", "dialog")
    browser.wait_text("One event is given up", selector="#notice")
    until(lambda: left() == 1, "the event to be given up")
    browser.click("Give all up")
    browser.wait_text("Give up the one event that is refused?", selector="dialog")
    browser.click("Give up", "dialog")
    browser.wait_text("No event is refused")
    assert left() == 0
    assert browser.complaints() == []


def test_a_part_of_a_key_is_searched_for_until_something_is_found(scene, browser):
    browser.open(scene.proxy, "inventory", bucket=scene.bucket)
    browser.type("#contains", "0119" + Keys.ENTER)
    browser.wait_text("picture-0119.jpg", "1 keys in", "last page")
    assert "picture-0118" not in browser.text()
    browser.open(scene.proxy, "inventory", bucket=scene.bucket, contains="no such part")
    browser.wait_text("No key of this bucket is like that")
    assert browser.look("inventory-nothing") == []
    browser.open(scene.proxy, "inventory", bucket=scene.stuck, pending="true")
    browser.wait_text("bill.pdf", "not mirrored")
    browser.open(scene.proxy, "inventory", bucket=scene.bucket, pending="true")
    browser.wait_text("The mirror has everything of this bucket")
    assert browser.complaints() == []


def test_all_parked_keys_are_given_up_after_a_question_that_names_their_number(scene, browser):
    proxy = scene.proxy
    browser.open(proxy, "parked", bucket=scene.bucket)
    browser.wait_text(f"Nothing is parked of {scene.bucket}")
    browser.open(proxy, "overview")
    sign_in(browser)
    browser.one("main a[href='#/parked']").click()
    browser.wait_text("bill.pdf")
    browser.click("Give all up")
    browser.wait_text("Give up all 2 changes that are parked of all buckets?", selector="dialog")
    browser.click("Cancel", "dialog")
    assert scene.parked() == 2
    browser.click("Give all up")
    browser.click("Give up", "dialog")
    browser.wait_text("2 changes were given up", selector="#notice")
    browser.wait_text("Nothing is parked of all buckets")
    assert scene.parked() == 0
    assert scene.lab.keys_on_mirror(scene.stuck) == set()


def test_a_key_is_explained_and_tried_again_from_there(scene, browser):
    proxy = scene.proxy
    browser.open(proxy, "explain")
    browser.type("#bucket", scene.stuck)
    browser.type("#key", "2026/bill.pdf" + Keys.ENTER)
    browser.wait_text("parked", "KeyTooLongError", "has not confirmed it")
    sign_in(browser)
    scene.mend()
    browser.click("Try again now")
    until(lambda: "2026/bill.pdf" in scene.lab.keys_on_mirror(scene.stuck), "the key on the mirror")
    until(lambda: scene.parked() == 1, "the key to be parked no longer")
    browser.open(proxy, "explain", bucket=scene.stuck, key="2026/bill.pdf")
    browser.wait_text("the mirror has confirmed it", "None: the journal forgets")
    browser.click("Ask main and mirror")
    browser.wait_text("main and mirror are equal now", "equal")
    assert browser.look("explain-equal") == []
    browser.open(proxy, "explain", bucket=scene.stuck, key="no/such/key")
    browser.wait_text("There is no row for this key")


def test_wrong_tokens_are_told_and_after_ten_of_them_nobody_is_listened_to(scene, browser):
    proxy = scene.proxy
    browser.open(proxy, "overview")
    browser.click("Pause mirroring")
    browser.click("Pause", "dialog")
    for _ in range(10):
        browser.wait_text("Admin token", selector="dialog")
        field = until(lambda: browser.one("#token-input"), "the field")
        field.send_keys("a-wrong-token-for-this-service" + Keys.ENTER)
        until(lambda: _stale(field), "the answer to the token")
    field = until(lambda: browser.one("#token-input"), "the field")
    field.send_keys(TOKEN + Keys.ENTER)
    browser.wait_text("Not done: too many wrong tokens", selector="#notice")
    assert proxy.status()["mirror"]["paused"] is None


def _stale(element):
    try:
        element.is_displayed()
    except Exception:  # noqa: BLE001
        return True
    return False


def test_a_verification_repairs_and_a_job_that_takes_long_is_cancelled(scene, browser):
    lab, proxy = scene.lab, scene.proxy
    lab.s3_mirror.delete_object(Bucket=scene.bucket, Key="2026/01/picture-0003.jpg")
    lab.s3_mirror.put_object(Bucket=scene.bucket, Key="extra", Body=b"1")
    browser.open(proxy, "jobs")
    sign_in(browser)
    browser.one("#kind option[value=verify]").click()
    browser.type("#bucket", scene.bucket)
    for words in ("repair what differs", "and remove from the mirror what main does not have"):
        next(label for label in browser.all("form.card label.check") if label.text == words).click()
    browser.click("Start")
    browser.wait_text("Remove from the mirror what main does not have?", selector="dialog")
    browser.click("Start and remove", "dialog")
    until(lambda: "done" in browser.text(".card table"), lambda: browser.text())
    kept = lab.keys_on_mirror(scene.bucket)
    until(
        lambda: (found := lab.keys_on_mirror(scene.bucket)) and "2026/01/picture-0003.jpg" in found and "extra" not in found,
        lambda: f"the repair; on the mirror are {kept}",
    )
    report = until(lambda: browser.one("main td a[href$='/report']"), "the report of the verification")
    href = report.get_attribute("href")
    assert browser.look("jobs-verified") == []
    slow = lab.bucket("slow")
    for number in range(200):
        lab.s3_main.put_object(Bucket=slow, Key=f"{number:03d}", Body=b"x" * (1 << 18))
    browser.type("#bucket", slow)
    browser.type("#bandwidth", "1")
    browser.click("Start")
    cancel = until(lambda: browser.one("main td button[aria-label^='Cancel backfill']"), "a job that runs")
    assert browser.look("jobs-running") == []
    cancel = until(lambda: browser.one("main td button[aria-label^='Cancel backfill']"), "a job that runs")
    cancel.click()
    jobs = lambda: json.loads(proxy.admin("/api/v1/jobs")[2])
    until(lambda: jobs()[0]["state"] == "cancelled", lambda: f"the job to be cancelled: {jobs()}")
    browser.wait_text("cancelled")
    assert browser.complaints() == []
    browser.driver.get(href)
    until(lambda: scene.bucket in browser.text("body"), "the report as it is")


def test_settings_are_found_and_no_secret_of_theirs_is_shown(scene, browser):
    browser.open(scene.proxy, "settings")
    browser.wait_text("MIRROR_SECRET_KEY", "FENCE")
    text = browser.driver.page_source
    for secret in (TOKEN, *scene.lab.secrets().values()):
        assert secret not in text
    browser.type("#filter", "admin_")
    until(lambda: "FENCE" not in browser.text(), "the others to go")
    browser.wait_text("ADMIN_ADDR", "ADMIN_TOKEN_FILE")
    browser.one("main label.check").click()
    until(lambda: "ADMIN_TOKEN_FILE" not in browser.text(), "what was not set to go")
    browser.wait_text("ADMIN_TOKEN", "***")
    assert browser.look("settings-few") == []
