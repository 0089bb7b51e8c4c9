"""A headless Chromium with an empty profile, and the questions the tests ask of a page."""

import os
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from support.poll import until

REPOSITORY = Path(__file__).resolve().parents[2]
AXE = Path(
    os.environ.get("AXE_JS")
    or REPOSITORY / ".cache" / "page" / "node_modules" / "axe-core" / "axe.min.js"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1280,900",
)


WIDE, NARROW = 1280, 375


class Browser:
    """One browser; `scheme` is light or dark."""

    def __init__(self, profile, scheme):
        options = webdriver.ChromeOptions()
        options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")
        self.scheme = scheme
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        self.width(WIDE)

    def close(self):
        self.driver.quit()

    def open(self, proxy, page, **values):
        from urllib.parse import urlencode, quote

        query = urlencode(values, quote_via=quote)
        url = f"http://127.0.0.1:{proxy.admin_port}/#/{page}" + (f"?{query}" if query else "")
        self.driver.get("about:blank")
        self.driver.get(url)
        until(lambda: self.one("main h1, main h2"), f"{page} to be shown")

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        found = self.all(selector)
        return found[0] if found else None

    def text(self, selector="main"):
        return self.driver.execute_script(
            "return document.querySelector(arguments[0])?.innerText ?? ''", selector
        )

    def wait_text(self, *words, selector="main"):
        until(
            lambda: all(word in self.text(selector) for word in words),
            lambda: f"{words} in {selector}, which shows: {self.text(selector)}",
        )

    def button(self, words, inside="main"):
        def find():
            for button in self.all(f"{inside} button"):
                if words in (button.text, button.get_attribute("aria-label")) and button.is_enabled():
                    return button
            return None

        return until(find, lambda: f"a button {words!r}; there are {[b.text for b in self.all('button')]}")

    def click(self, words, inside="main"):
        self.button(words, inside).click()

    def type(self, selector, text):
        until(lambda: self.one(selector), f"{selector}").send_keys(text)

    def keys(self, *keys):
        """Presses keys wherever the focus is, as somebody without a mouse does."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, words, most=160):
        """Presses Tab until what has the focus says `words`."""
        for _ in range(most):
            try:
                focused = self.driver.switch_to.active_element
                if words in (focused.text, focused.get_attribute("aria-label")):
                    return
                focused.send_keys(Keys.TAB)
            except StaleElementReferenceException:
                # It was drawn anew under the focus, which stays where it was.
                continue
        raise AssertionError(f"{most} times Tab never came to {words!r}")

    def violations(self):
        """What axe finds against WCAG 2.2 AA, as text."""
        self.driver.execute_script(AXE.read_text())
        result = self.driver.execute_async_script(
            """
            const done = arguments[arguments.length - 1];
            const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
            axe.run(document, {runOnly: tags}).then(done, (error) => done({violations: [{id: String(error), nodes: []}]}));
            """
        )
        return [
            f"{each['id']}: {[node['html'][:160] + ' ' + node.get('failureSummary', '')[:300] for node in each['nodes'][:4]]}"
            for each in result["violations"]
        ]

    def complaints(self):
        """What the browser wrote to its console: broken policies, errors of scripts."""
        entries = self.driver.get_log("browser")
        # A refused change is an answer of the service, not a fault of the page.
        return [each["message"] for each in entries if "status of 401" not in each["message"]]

    def look(self, name):
        """Pictures of what is shown, on a wide and on a narrow screen, and what axe finds on both."""
        found = []
        for width, size in ((WIDE, ""), (NARROW, "-narrow")):
            self.width(width)
            self.screenshot(name + size)
            found += self.violations()
            wide, screen = self.driver.execute_script(
                "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            if wide > screen:
                found.append(f"{name} is {wide} wide on a screen of {screen}")
        self.width(WIDE)
        return found

    def width(self, width, height=900):
        """Of the page itself: windows cannot be as narrow as telephones are."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self._width = width

    def screenshot(self, name):
        """Into SCREENSHOTS, if that is set: the whole page, to be looked at."""
        directory = os.environ.get("SCREENSHOTS")
        if not directory:
            return
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        width = self._width
        self.width(width, max(700, min(height + 20, 2600)))
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(Path(directory) / f"{name}-{self.scheme}.png"))
        self.width(width)
