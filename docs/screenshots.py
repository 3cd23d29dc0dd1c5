"""Take the pictures of the documentation from a running demo: `python docs/screenshots.py http://127.0.0.1:8000`.

`make demo` has to run for a minute first, so that the ticker has something to show. The environment variable `CHROMIUM`
names another browser than the first Chromium on `PATH`.
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
SIZE = {"width": 1180, "height": 720}
RECORDS = "/admin/declbind/bindingrecord/"


def take_pictures(browser: Browser, site: str) -> None:
    """Take a picture of the ticker, of the list of bindings and of the live traffic."""
    page = browser.new_page(viewport=SIZE)
    page.goto(f"{site}/ticker/")
    page.wait_for_timeout(6_000)  # for the lines of the chart to get some length
    page.screenshot(path=IMAGES / "page.png")
    page.goto(f"{site}/admin/login/")
    page.fill("input[name=username]", "operator")
    page.fill("input[name=password]", "operator-demo")
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{site}/admin/")
    # The list of apps takes a quarter of the width and says nothing about bindings.
    page.evaluate("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    watcher = browser.new_page()  # gives the traffic somebody to go to
    watcher.goto(f"{site}/ticker/")
    page.set_viewport_size({"width": 1180, "height": 900})
    for name, address in (("admin", RECORDS), ("live", f"{RECORDS}live/")):
        page.goto(site + address)
        page.wait_for_timeout(8_000)  # for the charts and the pushes
        page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    with sync_playwright() as playwright:
        found = os.environ.get("CHROMIUM") or shutil.which("chromium")
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        take_pictures(launched, sys.argv[1])
        launched.close()
