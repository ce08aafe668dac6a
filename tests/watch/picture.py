"""The pictures of docs/: the dashboard after some minutes of a busy help desk.

usage: picture.py REPRISE SIMULATED FOLDER
"""

import argparse
import concurrent.futures
import pathlib
import random
import shutil
import time

from playwright.sync_api import sync_playwright
from servers import Servers

MINUTES = 4
WAYS = [
    "How do I {}?", "How can I {}?", "How could I {}?", "How do I {} please?", "How would I {}?",
    "What do I do to {}?", "Tell me how to {}", "What is the way to {}?",
]
TOPICS = [
    f"{verb} {thing}"
    for verb in ["reset", "change", "block", "find", "order", "cancel"]
    for thing in [
        "my online banking password", "my credit card limit", "the address of my account",
        "a standing order", "my transaction history", "the phone number for my account",
    ]
]


def customer(servers, chance, end):
    """Asks what others ask too, in their own words, now with and now without a stream."""
    while time.monotonic() < end:
        # The first topics are asked most, as in every help desk.
        topic = TOPICS[min(int(chance.paretovariate(0.6)) - 1, len(TOPICS) - 1)]
        way = WAYS[min(int(chance.expovariate(0.6)), len(WAYS) - 1)]
        private = {"cache-control": "no-store"} if chance.random() < 0.03 else {}
        servers.ask(way.format(topic), stream=chance.random() < 0.5, **private)
        time.sleep(chance.expovariate(2))


def shoot(servers, folder):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, width, scheme in [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")]:
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 1560 if width > 800 else 844}
            )
            page = context.new_page()
            page.goto(f"http://{servers.admin}/")
            page.wait_for_selector('#link[data-state="live"]')
            page.select_option("#budget-outcome", "miss")
            page.wait_for_timeout(3000)
            page.screenshot(path=folder / f"dashboard-{name}.png")
        browser.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("reprise")
    arguments.add_argument("simulated")
    arguments.add_argument("folder", type=pathlib.Path)
    given = arguments.parse_args()
    servers = Servers(given.reprise, given.simulated)
    try:
        end = time.monotonic() + 60 * MINUTES
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(customer, servers, random.Random(seed), end) for seed in range(6)]
            for one in asked:
                one.result()
        shoot(servers, given.folder)
    finally:
        servers.close()


main()
