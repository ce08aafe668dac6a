"""The dashboard in a real browser, in front of a real Reprise and the simulated model server.

usage: dashboard.py REPRISE SIMULATED

Holds: its numbers equal /api/v1/stats, it lives, it is dark where the system is, it fits a phone,
everything can be reached by keyboard, axe-core finds nothing that bars anybody, a day open does not
grow it, a purge asks first, what clients wrote stays text, and the browser asks nobody else and
complains of nothing.
"""

import argparse
import json
import pathlib
import shutil

import axe_playwright_python
from playwright.sync_api import sync_playwright
from servers import Servers, wait

# axe-core itself: the package's own way of running it is not needed.
AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
# WCAG 2.2 up to AA, and what axe-core holds to be good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
HOSTILE = "<img src=x onerror=alert(1)>"


def traffic(servers):
    for text in ["How do I reset my password?", "Where is my card?", "What is the capital of France?"]:
        for _ in range(4):
            servers.ask(text)
    servers.ask("How can I reset my password?")
    servers.ask("Where is my card?", **{"cache-control": "no-store"})
    servers.ask("Tell me of markup", model=HOSTILE)
    wait("13 answers kept", lambda: servers.stats()["requests"]["miss"] >= 4)


class Page:
    """A page that remembers what the browser said and whom it asked."""

    def __init__(self, browser, servers, script=None, **context):
        self.page = browser.new_context(**context).new_page()
        if script:
            self.page.add_init_script(script)
        self.said, self.asked, self.origin = [], set(), f"http://{servers.admin}"
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(self.origin + "/")
        self.page.wait_for_selector('#link[data-state="live"]')

    def text(self, id):
        return self.page.locator(f"#{id}").inner_text()

    def end(self):
        strangers = {url for url in self.asked if not url.startswith(self.origin + "/")}
        assert not strangers, strangers
        assert not self.said, self.said
        self.page.context.close()


def numbers_are_those_of_the_api(browser, servers):
    page = Page(browser, servers)
    stats = servers.stats()
    total = sum(stats["requests"].values())
    wait("all requests are shown", lambda: page.text("requests-total") == f"{total:,}")
    assert page.text("hit-rate") == f"{stats['hit_rate'] * 100:.1f} %", page.text("hit-rate")
    assert page.text("saved-tokens") == f"{stats['saved']['tokens']:,}"
    assert page.text("saved-usd") == f"${stats['saved']['usd']:,.2f}", page.text("saved-usd")
    assert "2026-11-01" in page.text("saved-usd-note")
    miss = page.page.locator("#percentiles tr", has_text="miss").inner_text()
    assert miss.endswith(str(stats["latency"]["miss"]["count"])), miss
    page.page.select_option("#budget-outcome", "miss")
    for part in stats["parts"]["miss"]:
        assert part.replace("_", "-") in page.text("five-legend"), part
    assert "sim: 2.00 s for 99.0 %" in page.text("slo"), page.text("slo")
    wait("the servers' own metrics are shown", lambda: "29.8 GiB of 79.2 GiB" in page.text("upstreams"))
    assert f"exact {stats['requests']['hit_exact']}" in page.text("hit-note")
    for reason, count in stats["bypass_reasons"].items():
        assert (f"{reason}\n{count}" in page.text("reasons")) == (count > 0), reason
    assert f"{stats['memory']['entries']:,} entries" in page.text("parts")
    rows = page.page.locator("#latest tr")
    assert rows.count() == total, rows.count()
    page.end()


def clients_cannot_write_markup(browser, servers):
    page = Page(browser, servers)
    cell = page.page.locator("#latest td", has_text="<img")
    wait("the model is shown as text", lambda: cell.count() == 1)
    assert cell.inner_text() == HOSTILE
    assert page.page.locator("#latest img").count() == 0
    page.end()


def it_lives(browser, servers):
    page = Page(browser, servers)
    before = int(page.text("requests-total").replace(",", ""))
    servers.ask("Where is my card?")
    wait("a new request appears", lambda: page.text("requests-total") == f"{before + 1:,}")
    page.page.select_option("#outcome-filter", "bypass")
    assert page.page.locator("#latest tr").count() == 1
    page.page.select_option("#outcome-filter", "")
    page.page.click("#pause")
    servers.ask("Where is my card?")
    wait("held rows are counted", lambda: "1 newer" in page.text("skipped"))
    page.page.click("#pause")
    wait("and come", lambda: page.text("skipped") == "")
    page.page.get_by_label("24 hours").check()
    page.end()


def it_is_dark_where_the_system_is(browser, servers):
    def ground(page):
        return page.page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = (Page(browser, servers, color_scheme=it) for it in ("light", "dark"))
    assert ground(light) != ground(dark)
    night = ground(dark)
    light.page.click("#theme")
    assert ground(light) == night
    light.page.reload()
    assert ground(light) == night, "the choice is kept"
    light.end()
    dark.end()


def it_fits_a_phone(browser, servers):
    page = Page(browser, servers, viewport={"width": 360, "height": 740}, has_touch=True)
    page.page.wait_for_timeout(2500)
    width = page.page.evaluate("document.documentElement.scrollWidth")
    wide = page.page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter((it) =>
        !it.closest('.scroll') && it.getBoundingClientRect().right > innerWidth)
        .map((it) => it.outerHTML.slice(0, 120))"""
    )
    assert width <= 360, wide
    page.end()


def everything_has_a_name_and_a_key(browser, servers):
    page = Page(browser, servers)
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll('button,select,input,[role=img],[role=group]')]
        .filter((it) => it.offsetParent !== null)
        .filter((it) => !(it.textContent.trim() || it.labels?.length ||
            it.getAttribute('aria-label') || it.getAttribute('aria-labelledby')))
        .map((it) => it.outerHTML)"""
    )
    assert not nameless, nameless
    page.page.keyboard.press("Tab")
    assert "Skip" in page.page.evaluate("document.activeElement.textContent")
    # A point of a chart by the arrow keys, said in the line under it.
    page.page.focus("#similarity-chart svg")
    page.page.keyboard.press("End")
    assert page.text("similarity-readout").startswith("0.99 to 1.00"), page.text("similarity-readout")
    page.page.keyboard.press("ArrowLeft")
    assert page.text("similarity-readout").startswith("0.98 to 0.99")
    # An entry by the keyboard, and back.
    page.page.locator("#latest button").first.focus()
    page.page.keyboard.press("Enter")
    wait("the entry is shown", lambda: "Fresh until" in page.text("entry"))
    assert "password" not in page.text("entry"), "no prompt text by default"
    page.page.keyboard.press("Escape")
    wait("the dialog closes", lambda: not page.page.locator("#entry").is_visible())
    page.end()


def a_purge_asks_first(browser, servers):
    page = Page(browser, servers)
    entries = servers.stats()["memory"]["entries"]
    page.page.fill("#purge-value", "no-such-model")
    page.page.click("text=Count first")
    wait("nothing to delete", lambda: "Nothing to delete" in page.text("purge-result"))
    page.page.fill("#purge-value", "sim")
    page.page.click("text=Count first")
    page.page.wait_for_selector("#confirm[open]")
    assert "cannot be undone" in page.text("confirm-text")
    page.page.keyboard.press("Enter")
    wait("kept: the safe answer has the focus", lambda: "Nothing was" in page.text("purge-result"))
    assert servers.stats()["memory"]["entries"] == entries
    page.page.click("text=Count first")
    page.page.click('#confirm button[value="delete"]')
    wait("deleted", lambda: page.text("purge-result").startswith("Deleted"))
    wait("only the other model's is left", lambda: servers.stats()["memory"]["entries"] == 1)
    page.end()


def a_request_is_explained(browser, servers):
    page = Page(browser, servers)
    body = {"model": "sim", "messages": [{"role": "user", "content": "Where is my card?"}]}
    page.page.fill("#explain-body", json.dumps({"stream": False, **body}))
    page.page.fill("#explain-credential", "Bearer sk-browser")
    page.page.get_by_role("button", name="Explain").click()
    wait("it is a hit", lambda: page.text("explain-result").startswith("hit (exact)"))
    before = servers.stats()["requests"]
    body["messages"][0]["content"] = "How could I reset my password?"
    page.page.fill("#explain-body", json.dumps(body))
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    wait("its neighbours are named", lambda: page.page.locator("#explain-nearest tr").count() > 0)
    assert "Similarity" in page.text("explain-fields")
    assert "password" not in page.text("explain-table"), "no prompt text by default"
    page.page.fill("#explain-body", "{")
    page.page.get_by_role("button", name="Explain").click()
    wait("what cannot be read is said", lambda: "unreadable" in page.text("explain-result"))
    assert servers.stats()["requests"] == before, "explaining is no request"
    page.end()


def feedback_asks_before_it_deletes(browser, servers):
    page = Page(browser, servers)
    entries = servers.stats()["memory"]["entries"]
    page.page.locator("#latest button").first.click()
    wait("the entry is shown", lambda: "Fresh until" in page.text("entry"))
    page.page.click("#entry-right")
    wait("right is noted", lambda: page.text("entry-result") == "Noted: right.")
    page.page.click("#entry-wrong")
    page.page.wait_for_selector("#confirm[open]")
    page.page.keyboard.press("Enter")
    wait("the safe answer has the focus", lambda: "Nothing was" in page.text("entry-result"))
    page.page.click("#entry-wrong")
    page.page.click('#confirm button[value="delete"]')
    wait("wrong is noted", lambda: page.text("entry-result").startswith("Noted: wrong"))
    wait("and it is gone", lambda: servers.stats()["memory"]["entries"] < entries)
    page.end()


def nothing_bars_anybody(browser, servers):
    """axe-core finds no violation: at rest in light and dark and on a phone, and in each dialog."""
    phone = {"viewport": {"width": 360, "height": 740}}
    for context in [{"color_scheme": "light"}, {"color_scheme": "dark"}, phone]:
        page = Page(browser, servers, **context)
        page.page.wait_for_timeout(500)
        accessible(page, context)
        page.page.locator("#latest button").first.click()
        wait("the entry is shown", lambda: "Fresh until" in page.text("entry"))
        accessible(page, "an entry")
        page.page.keyboard.press("Escape")
        page.page.fill("#explain-body", '{"model":"sim","messages":[{"role":"user","content":"Where is it?"}]}')
        page.page.get_by_role("button", name="Explain").click()
        wait("it is explained", lambda: "miss" in page.text("explain-result"))
        page.page.fill("#purge-value", "sim")
        page.page.click("text=Count first")
        page.page.wait_for_selector("#confirm[open]")
        accessible(page, "a purge's question")
        page.page.keyboard.press("Enter")
        accessible(page, "after it")
        page.end()


def accessible(page, when):
    run = "(rules) => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })"
    # As a script of the protocol, which the page's own policy does not bar.
    page.page.evaluate(AXE)
    found = page.page.evaluate(run, RULES)
    told = [
        (one["id"], node["html"][:160], [any["message"] for any in node["any"]])
        for one in found["violations"] for node in one["nodes"]
    ]
    assert not told, (when, told)
    assert len(found["passes"]) > 10, "axe-core has looked"


# The day in fast motion: each message has a new number, a new request and a new point.
DAY = """async (count) => {
    const first = JSON.parse(window.lastLive);
    window.turn ??= 0;
    for (let left = count; left > 0; left -= 1) {
        const seq = 1e6 + (window.turn += 1);
        const point = { ...first.hour[0], seq, at_ms: seq * 10000 };
        const live = { ...first, hour: [point], day: [point],
            requests: [{ ...first.requests[0], seq, request_id: `day-${seq}` }] };
        window.source.dispatchEvent(new MessageEvent('live', { data: JSON.stringify(live) }));
        if (seq % 100 === 0) await new Promise((done) => setTimeout(done));
    }
}"""
WATCH = """const Real = EventSource;
window.EventSource = class extends Real {
    constructor(...all) {
        super(...all);
        window.source = this;
        this.addEventListener('live', (event) => { window.lastLive ??= event.data; });
    }
};"""
# Messages until every list of the page is full, and then as many as tell a leak from noise: a day has
# 43,200 of them, so that 1 KiB a message would be 42 MiB, and 0.6 MiB of these.
FULL, MORE = 400, 600


def a_day_does_not_grow_it(browser, servers):
    wait("there is a point", lambda: servers.stats()["uptime_seconds"] > 11)
    page = Page(browser, servers, script=WATCH)
    tools = page.page.context.new_cdp_session(page.page)

    def size():
        """Elements, listeners and heap, after what nobody holds is gone."""
        tools.send("HeapProfiler.collectGarbage")
        counted = tools.send("Memory.getDOMCounters")
        return counted["nodes"], counted["jsEventListeners"], tools.send("Runtime.getHeapUsage")["usedSize"]

    page.page.evaluate(DAY, FULL)
    before = size()
    page.page.evaluate(DAY, MORE)
    after = size()
    print(f"nodes, listeners, heap after {FULL} messages {before}, after {MORE} more {after}")
    assert page.page.locator("#latest tr").count() <= 50
    assert after[0] <= before[0] + 100 and after[1] <= before[1] + 5, (before, after)
    assert after[2] < before[2] + 1024 * MORE, (before, after)
    page.end()


def it_says_when_it_lost_the_proxy(browser, servers):
    page = Page(browser, servers)
    servers.processes[1].terminate()
    wait("it is said", lambda: "not connected" in page.text("link"))
    page.page.context.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("reprise")
    arguments.add_argument("simulated")
    given = arguments.parse_args()
    servers = Servers(given.reprise, given.simulated)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "needs chromium: apt-get install chromium"
    try:
        traffic(servers)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            numbers_are_those_of_the_api(browser, servers)
            clients_cannot_write_markup(browser, servers)
            it_lives(browser, servers)
            it_is_dark_where_the_system_is(browser, servers)
            it_fits_a_phone(browser, servers)
            everything_has_a_name_and_a_key(browser, servers)
            nothing_bars_anybody(browser, servers)
            a_request_is_explained(browser, servers)
            a_day_does_not_grow_it(browser, servers)
            feedback_asks_before_it_deletes(browser, servers)
            a_purge_asks_first(browser, servers)
            it_says_when_it_lost_the_proxy(browser, servers)
            browser.close()
    finally:
        servers.close()
    print("the dashboard holds")


main()
