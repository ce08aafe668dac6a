"""Under the embedded store: files damaged at random, a disk that somebody else fills."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import time

import contract
import pytest
import rig
from conftest import Cached, Way

PATH = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-one"}
QUESTIONS = 300
#: Of them asked again after each damage.
ASKED = 79
#: How many files are damaged, one at a time.
DAMAGES = int(os.environ.get("REPRISE_TEST_DAMAGES", "3"))
SEED = int(os.environ.get("REPRISE_TEST_SEED", "1"))


def question(number: int) -> str:
    return f"What does article {number} of the code say, and since when?"


def post_all(proxy: rig.Reprise, bodies):
    """Answers, and what each took in milliseconds, sorted."""
    answers, took = [], []
    with Way("http1", proxy.url).raw() as raw:
        for body in bodies:
            began = time.perf_counter()
            answers.append(raw.post(PATH, json=body, headers=KEY))
            took.append((time.perf_counter() - began) * 1000)
            assert answers[-1].status_code == 200, answers[-1].text
    return answers, sorted(took)


def untouched(_: pathlib.Path, __: random.Random) -> None:
    pass


def flipped(file: pathlib.Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(64):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def halved(file: pathlib.Path, _: random.Random) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: pathlib.Path, _: random.Random) -> None:
    os.truncate(file, 0)


def removed(file: pathlib.Path, _: random.Random) -> None:
    file.unlink()


@pytest.mark.long
@pytest.mark.timeout(180 + 30 * DAMAGES)
def test_a_damaged_file_stops_nothing_and_serves_nothing_wrong(start, sim, ask, tmp_path):
    bodies = [ask(question(number)) for number in range(QUESTIONS)]
    first = start(sim.url, tmp_path / "whole", settings={"store.compact_after": "100"})
    contents = [answer.content for answer in post_all(first, bodies)[0]]
    rig.eventually(lambda: first.written() >= QUESTIONS, 60, what="the writes")
    first.stop()
    chance = random.Random(SEED)
    as_before = set_aside = 0
    # Once without damage.
    for number in range(DAMAGES + 1):
        folder = tmp_path / f"damaged-{number}"
        shutil.copytree(tmp_path / "whole" / "store", folder / "store")
        files = [file for file in (folder / "store").rglob("*") if file.is_file()]
        # Without its key the store would be unreadable for good, which is not this test's question.
        files = [file for file in files if file.name != "tenant.key" and file.stat().st_size > 0]
        file = chance.choice(sorted(files))
        damage = chance.choice([flipped, halved, emptied, removed]) if number > 0 else untouched
        print(f"{file.relative_to(folder)} {damage.__name__}: ", end="", flush=True)
        damage(file, chance)
        proxy = start(sim.url, folder)
        asked = chance.sample(range(QUESTIONS), ASKED)
        answers, _ = post_all(proxy, [bodies[one] for one in asked])
        hits = 0
        for one, answer in zip(asked, answers):
            outcome = contract.verdict(answer.headers).outcome
            assert outcome == "hit_exact" or not outcome.startswith("hit"), "articles differ by number"
            if outcome == "hit_exact":
                assert answer.content == contents[one]
                hits += 1
        aside = list((folder / "store").glob("v*.corrupt-*"))
        print(f"{hits} of {ASKED} hit, {len(aside)} set aside")
        said = proxy.admin.get("/readyz?verbose").text
        assert not aside or "corrupt" in said
        if number == 0:
            assert hits == ASKED and not aside
        else:
            as_before += hits == ASKED
            set_aside += bool(aside)
        proxy.stop()
        shutil.rmtree(folder)
    print(f"{DAMAGES} damages: {as_before} times as before, {set_aside} times set aside")


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of 300 MiB of this test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "reprise-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"no mount here: {error}")
    if done.returncode != 0:
        pytest.skip(f"no filesystem may be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: pathlib.Path, free: int) -> None:
    """Somebody else's file grows until so many bytes are free."""
    disk = os.statvfs(folder)
    wanted = disk.f_bavail * disk.f_frsize - free
    # The last piece may find less room than there was.
    with (folder / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
        while wanted > 0:
            wanted -= ballast.write(bytes(min(wanted, 1 << 20)))


# The disk first: it is unmounted when the proxies on it are gone.
@pytest.mark.timeout(400)
def test_a_full_disk_fails_no_request_and_loses_nothing(small_disk, start, sim, ask):
    on_it = {"store.path": str(small_disk / "store")}
    proxy = start(sim.url, settings=on_it)
    bodies = [ask(question(number)) for number in range(4 * 150)]

    def asked(phase, what):
        answers, took = post_all(proxy, bodies[phase * 150 : (phase + 1) * 150])
        print(f"{what}: p50 {took[75]:.0f} ms, p99 {took[148]:.0f} ms, trouble {proxy.trouble()}")
        return [answer.content for answer in answers]

    kept = asked(0, "room")
    rig.eventually(lambda: proxy.written() >= 150, 60, what="the writes")
    # The store leaves 128 MiB to others.
    fill(small_disk, 100 << 20)
    asked(1, "less than the store leaves alone")
    rig.eventually(lambda: proxy.failed() >= 150, 60, what="the refusals")
    assert "store_full" in proxy.trouble()
    fill(small_disk, 0)
    asked(2, "no byte")
    rig.eventually(lambda: proxy.failed() >= 300, 60, what="the refusals")
    assert proxy.written() == 150
    assert proxy.admin.get("/readyz").status_code == 200
    (small_disk / "ballast").unlink()
    # The next write finds out, or the one after a flush that had no room.
    tried = itertools.count()

    def well() -> bool:
        post_all(proxy, [ask(question(10_000 + next(tried)))])
        return proxy.trouble() is None

    rig.eventually(well, 60, what="recovery")
    kept += asked(3, "room again")
    # The last of those that found out may be written behind the first of these: all are waited for.
    answers = 4 * 150 + next(tried)
    rig.eventually(lambda: proxy.written() + proxy.failed() >= answers, 60, what="the writes")
    proxy.kill()

    again = start(sim.url, settings=on_it)
    cached = Cached(Way("http1", again.url))
    for body, content in zip(bodies[:150] + bodies[450:], kept):
        answer = cached.lookup(body)
        assert answer.status_code == 200 and answer.content == content
