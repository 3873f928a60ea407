"""Headless Chromium, for pages of Dagster's UI and for pictures of the documentation."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTH, HEIGHT = 1440, 900
# No traffic but to the page; a container has no user namespace for the sandbox.
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@contextmanager
def open_page() -> Generator[Page]:
    """Open a page of Chromium, which must be installed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        browser.close()
