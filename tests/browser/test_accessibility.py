"""axe finds no fault in any page, light or dark, with dialogs open or not."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

PROJECT = Path(__file__).parents[2]
AXE = PROJECT / "annotator" / "web" / "node_modules" / "axe-core" / "axe.min.js"

pytestmark = [pytest.mark.browser, pytest.mark.data]


def faults(page: Page) -> list[str]:
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    return [
        f"{fault['impact']}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_fault(url: str, visitor: Any, scheme: str) -> None:
    # axe comes in as a script of the page's, which the content policy would not let in.
    with visitor(color_scheme=scheme, bypass_csp=True) as ada:
        ada.open(url)
        assert faults(ada.page) == [], "the picture"
        ada.press("Tab", "g")
        ada.made()
        ada.page.locator("#filter summary").click()
        assert faults(ada.page) == [], "with a mask in the making"
        ada.press("?")
        assert faults(ada.page) == [], "the list of keys"
        ada.press("Escape", "Escape", "Control+Enter")
        assert faults(ada.page) == [], "a question"
        ada.press("Escape")
        ada.page.goto(f"{url}/lead")
        ada.page.locator("#holders table").wait_for()
        assert faults(ada.page) == [], "the lead's page"
        ada.page.goto(f"{url}/sign-in")
        assert faults(ada.page) == [], "signing in"
