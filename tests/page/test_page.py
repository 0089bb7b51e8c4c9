"""The operator's page in a real browser, light and dark: every page, with mouse and keyboard."""

import json

import pytest
from selenium.webdriver.common.keys import Keys

from support.http_fault import HttpFaultProxy, s3_error
from support.poll import until

TOKEN = "an-admin-token-of-some-length"
# What a client may call a key: markup, quotes, what turns text around, and what is not seen.
EVIL = "<img src=x onerror=document.title='owned'>/\"'&\u202e\u200b?#%25 ü"
PAGES = ("overview", "buckets", "inventory", "explain", "parked", "jobs", "settings")


class Scene:
    """A proxy with some objects, and two keys its mirror refuses until `mend`."""

    def __init__(self, lab):
        self.refusing = True
        relay = lab.closing(HttpFaultProxy(lab.mirror.address, self._rule))
        self.lab = lab
        self.proxy = lab.proxy(mirror_endpoint=relay.endpoint, ADMIN_TOKEN=TOKEN)
        self.bucket, self.stuck = lab.bucket("holiday-photos"), lab.bucket("invoices")
        client = lab.client(self.proxy)
        for number in range(120):
            key = f"2026/{number // 30 + 1:02d}/picture-{number:04d}.jpg"
            client.put_object(Bucket=self.bucket, Key=key, Body=b"x" * 40 * number, ContentType="image/jpeg")
        for key in (EVIL, "2026/bill.pdf"):
            client.put_object(Bucket=self.stuck, Key=key, Body=b"12345")
        until(lambda: self.proxy.status()["mirror"]["parked"] == 2, "two parked keys")
        until(lambda: self.proxy.status()["inventory"]["pending_rows"] == 0, "the rows")
        until(lambda: self.proxy.status()["mirror"]["pending_operations"] == 0, "the copies")

    def _rule(self, request):
        refused = self.refusing and request.method == "PUT"
        if refused and "invoices" in request.target and request.target.strip("/").count("/") >= 1:
            return s3_error(400, "Bad Request", "KeyTooLongError")
        return None

    def mend(self):
        self.refusing = False

    def parked(self):
        return self.proxy.status()["mirror"]["parked"]


@pytest.fixture
def scene(lab):
    return Scene(lab)


def sign_in(browser):
    browser.click("Enter token", "header")
    browser.type("#token-input", TOKEN + Keys.ENTER)
    browser.wait_text("Forget token", selector="header")


def test_every_page_shows_what_it_is_for_and_is_accessible(scene, browser):
    expected = {
        "overview": ("Something will not arrive by itself", "KeyTooLongError", "s3-mirror retry --all", "main", "mirror"),
        "buckets": (scene.bucket, "120", scene.stuck),
        "inventory": ("picture-0000.jpg", "mirrored", "Next page"),
        "explain": ("parked", "KeyTooLongError", "not recorded", "different: only on main"),
        "parked": ("2026/bill.pdf", "KeyTooLongError"),
        "jobs": ("Start a job",),
        "settings": ("MIRROR_SECRET_KEY", "***", "FENCE"),
    }
    values = {
        "inventory": {"bucket": scene.bucket, "prefix": "2026/", "contains": "picture"},
        "explain": {"bucket": scene.stuck, "key": EVIL},
    }
    found = {}
    for page in PAGES:
        browser.open(scene.proxy, page, **values.get(page, {}))
        if page == "explain":
            browser.click("Ask main and mirror")
        browser.wait_text(*expected[page])
        if violations := browser.look(page):
            found[page] = violations
    assert not found, json.dumps(found, indent=1)
    assert browser.complaints() == []
    assert "owned" not in browser.driver.title
    assert not browser.all("main img"), "a key became markup"


def test_names_of_keys_are_text_and_what_is_unseen_in_them_is_shown(scene, browser):
    browser.open(scene.proxy, "parked", bucket=scene.stuck)
    browser.wait_text("<img src=x onerror=", "\\u{202e}", "\\u{200b}", "bill.pdf")
    browser.all("main td a.key")[0].click()
    browser.wait_text("Changes on their way")
    link = browser.driver.execute_script("return new URLSearchParams(location.hash.split('?')[1]).get('key')")
    assert link in (EVIL, "2026/bill.pdf")
    assert browser.complaints() == []


def test_parked_keys_are_retried_and_given_up_with_the_token(scene, browser):
    proxy = scene.proxy
    browser.open(proxy, "parked")
    browser.wait_text("bill.pdf")
    # Without the token nothing happens but the question for it; a wrong one is asked for again.
    browser.click("Try all again")
    browser.wait_text("this needs the admin token", selector="dialog")
    assert browser.look("token") == []
    browser.type("#token-input", "a-wrong-token-for-this-service" + Keys.ENTER)
    browser.wait_text("this is not the admin token", selector="dialog")
    assert scene.parked() == 2
    browser.click("Cancel", "dialog")
    sign_in(browser)
    browser.open(proxy, "parked")
    browser.wait_text("bill.pdf")
    browser.click("Give up: 2026/bill.pdf")
    browser.wait_text("Give up this key?", "bill.pdf", selector="dialog")
    assert browser.look("discard") == []
    browser.keys(Keys.ESCAPE)
    until(lambda: not browser.one("dialog[open]"), "the question to be closed")
    assert scene.parked() == 2
    browser.click("Give up: 2026/bill.pdf")
    browser.click("Give up", "dialog")
    until(lambda: scene.parked() == 1, "one key to be given up")
    browser.wait_text("One change was given up", selector="#notice")
    scene.mend()
    until(lambda: browser.one("main input[aria-label='Choose all on this page']"), "the list anew").click()
    browser.click("Try chosen again")
    until(lambda: scene.parked() == 0, "the other to be tried again")
    browser.wait_text("Nothing is parked")
    until(lambda: EVIL in scene.lab.keys_on_mirror(scene.stuck), "the key on the mirror")
    # The token is this tab's alone, and no answer, address or storage that lasts has it.
    assert browser.driver.execute_script("return localStorage.length + document.cookie.length") == 0
    assert TOKEN not in browser.driver.current_url


def test_pause_and_resume_with_the_keyboard_alone(scene, browser):
    proxy = scene.proxy
    browser.open(proxy, "overview")
    sign_in(browser)
    browser.button("Pause mirroring")
    browser.driver.execute_script("document.activeElement.blur()")
    browser.tab_to("Pause mirroring")
    browser.keys(Keys.ENTER)
    browser.wait_text("Pause mirroring?", selector="dialog")
    browser.type("#reason", "the mirror moves" + Keys.ENTER)
    until(lambda: proxy.status()["mirror"]["paused"], "the pause")
    browser.wait_text("Something is stopped", "the mirror moves", "s3-mirror resume")
    browser.wait_text("Stopped", selector="#state")
    assert browser.look("paused") == []
    browser.tab_to("Resume mirroring")
    browser.keys(Keys.SPACE)
    until(lambda: proxy.status()["mirror"]["paused"] is None, "mirroring to go on")
    assert browser.complaints() == []


def test_the_inventory_is_searched_and_paged_with_the_keyboard(scene, browser):
    browser.open(scene.proxy, "inventory")
    browser.wait_text("Which bucket?")
    browser.type("#bucket", scene.bucket)
    browser.type("#prefix", "2026/" + Keys.ENTER)
    browser.wait_text("picture-0000.jpg", "100 keys in")
    browser.tab_to("Next page")
    browser.keys(Keys.ENTER)
    browser.wait_text("picture-0119.jpg", "20 keys in", "last page")
    browser.tab_to("Previous page")
    browser.keys(Keys.ENTER)
    browser.wait_text("picture-0000.jpg")
    browser.open(scene.proxy, "inventory", bucket=scene.bucket, prefix="nothing/")
    browser.wait_text("No key of this bucket is like that")


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(scene, browser):
    browser.open(scene.proxy, "overview")
    browser.wait_text("Who can be reached")
    loaded = browser.driver.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    own = f"http://127.0.0.1:{scene.proxy.admin_port}/"
    assert len(loaded) > 10 and all(name.startswith(own) for name in loaded), loaded
    ran = browser.driver.execute_script(
        """
        const script = document.createElement("script");
        try { script.textContent = "window.ran = 1"; document.head.append(script); } catch (error) { return "refused"; }
        return window.ran ? "ran" : "refused";
        """
    )
    assert ran == "refused"
    size = browser.driver.execute_script(
        "return performance.getEntriesByType('resource').filter((each) => each.name.includes('/page/')).reduce((sum, each) => sum + each.decodedBodySize, 0)"
    )
    assert size < 100_000, size


def test_a_job_is_started_and_its_end_is_seen(scene, browser):
    proxy = scene.proxy
    scene.lab.s3_main.put_object(Bucket=scene.bucket, Key="old/behind-the-proxy", Body=b"1")
    browser.open(proxy, "jobs")
    sign_in(browser)
    browser.wait_text("No job has run yet")
    assert "repair" not in browser.text("form.card"), "that is of verifications only"
    browser.one("#kind option[value=verify]").click()
    browser.wait_text("repair what differs", selector="form.card")
    browser.one("#kind option[value=backfill]").click()
    browser.type("#bucket", scene.bucket)
    browser.click("Start")
    browser.wait_text("The job is started", selector="#notice")
    until(lambda: "done" in browser.text(".card table"), lambda: browser.text())
    assert "old/behind-the-proxy" in scene.lab.keys_on_mirror(scene.bucket)
    browser.wait_text("121")
    assert browser.look("jobs-done") == []
    assert browser.complaints() == []
