"""Under the embedded store: files damaged at random, a disk that somebody else fills."""

import contextlib
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
RESERVE = 128 << 20


def question(number: int) -> str:
    return f"What does article {number} of the code say, and since when?"


def post_all(proxy: rig.Reprise, bodies):
    """Answers, and what each took in milliseconds."""
    answers, took = [], []
    with Way("http1", proxy.url).raw() as raw:
        for body in bodies:
            began = time.perf_counter()
            answers.append(raw.post(PATH, json=body, headers=KEY))
            took.append((time.perf_counter() - began) * 1000)
            assert answers[-1].status_code == 200, answers[-1].text
    return answers, sorted(took)


def hits(answers) -> int:
    return sum(contract.verdict(answer.headers).outcome == "hit_exact" for answer in answers)


def flipped(file: pathlib.Path, chance: random.Random) -> None:
    bytes_ = bytearray(file.read_bytes())
    for _ in range(64):
        bytes_[chance.randrange(len(bytes_))] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes_)


def halved(file: pathlib.Path, _: random.Random) -> None:
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: pathlib.Path, _: random.Random) -> None:
    os.truncate(file, 0)


def removed(file: pathlib.Path, _: random.Random) -> None:
    file.unlink()


@pytest.mark.timeout(180 + 30 * DAMAGES)
def test_a_damaged_file_stops_nothing_and_serves_nothing_wrong(start, sim, ask, tmp_path):
    bodies = [ask(question(number)) for number in range(QUESTIONS)]
    first = start(sim.url, tmp_path / "whole", settings={"store.compact_after": "100"})
    contents = [answer.content for answer in post_all(first, bodies)[0]]
    rig.eventually(lambda: first.written() >= QUESTIONS, 60, what="the writes")
    first.stop()
    chance = random.Random()
    as_before = set_aside = 0
    for number in range(DAMAGES):
        folder = tmp_path / f"damaged-{number}"
        shutil.copytree(tmp_path / "whole" / "store", folder / "store")
        files = [file for file in (folder / "store").rglob("*") if file.is_file()]
        # Without its key the store would be unreadable for good, which is not this test's question.
        files = [file for file in files if file.name != "tenant.key" and file.stat().st_size > 0]
        file, damage = chance.choice(files), chance.choice([flipped, halved, emptied, removed])
        damage(file, chance)
        proxy = start(sim.url, folder)
        asked = chance.sample(range(QUESTIONS), ASKED)
        answers, _ = post_all(proxy, [bodies[one] for one in asked])
        for one, answer in zip(asked, answers):
            if contract.verdict(answer.headers).outcome == "hit_exact":
                assert answer.content == contents[one]
        aside = [path for path in folder.rglob("*.corrupt-*")]
        said = "corrupt" in proxy.admin.get("/readyz?verbose").text
        assert not aside or said
        as_before += hits(answers) == ASKED
        set_aside += bool(aside)
        print(f"{file.relative_to(folder)} {damage.__name__}: {hits(answers)} of {ASKED} hit, {len(aside)} set aside")
        proxy.stop()
        shutil.rmtree(folder)
    print(f"{DAMAGES} damages: {as_before} times as before, {set_aside} times set aside")


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of 700 MiB of this test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700m", "reprise-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"no mount here: {error}")
    if done.returncode != 0:
        pytest.skip(f"no filesystem may be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(folder: pathlib.Path, free: int) -> None:
    """Somebody else's file takes all but so many bytes."""
    file = folder / "ballast"
    file.unlink(missing_ok=True)
    if free >= 600 << 20:
        return
    with file.open("wb") as ballast, contextlib.suppress(OSError):
        wanted = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - free
        while wanted > 0:
            wanted -= ballast.write(bytes(min(wanted, 1 << 20)))
            ballast.flush()


@pytest.mark.timeout(300)
def test_a_full_disk_fails_no_request_and_loses_nothing(start, sim, ask, small_disk):
    proxy = start(sim.url, small_disk / "kept")
    trouble = lambda: proxy.admin.get("/api/v1/stats").json()["store"]["trouble"]
    bodies = [ask(question(number)) for number in range(4 * 150)]

    def asked(phase, what):
        answers, took = post_all(proxy, bodies[phase * 150 : (phase + 1) * 150])
        print(f"{what}: p50 {took[75]:.0f} ms, p99 {took[148]:.0f} ms, trouble {trouble()}")
        return [answer.content for answer in answers]

    kept = asked(0, "room")
    rig.eventually(lambda: proxy.written() >= 150, 60, what="the writes")
    leave(small_disk, RESERVE - (28 << 20))
    asked(1, "less than the store leaves alone")
    rig.eventually(lambda: trouble() is not None, 30, what="saying so")
    leave(small_disk, 0)
    asked(2, "no byte")
    assert proxy.admin.get("/readyz").status_code == 200
    assert hits(post_all(proxy, bodies[:50])[0]) == 50, "old answers still hit"
    leave(small_disk, 1 << 30)
    kept += asked(3, "room again")
    rig.eventually(lambda: trouble() is None, 60, what="recovery")
    rig.eventually(lambda: proxy.written() >= 300, 60, what="the writes")
    proxy.kill()

    again = start(sim.url, small_disk / "kept")
    cached = Cached(Way("http1", again.url))
    for body, content in zip(bodies[:150] + bodies[450:], kept):
        answer = cached.lookup(body)
        assert answer.status_code == 200 and answer.content == content
