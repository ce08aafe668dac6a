"""The commands that people type, against a living proxy: what they print, what they refuse, what
their exit codes are; `top` and a purge's question in a real terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import httpx2
import pytest

import rig
from terminal import Terminal

PATH = "/v1/chat/completions"
TOKEN = "moonlight-over-bruges"


@pytest.fixture
def shown(sim, start, ask):
    """A proxy with a token and with five requests behind it: a miss, three hits, a bypass."""
    proxy = start(sim.url, settings={"admin.token": TOKEN})
    with httpx2.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        key = {"authorization": "Bearer sk-cli"}
        for _ in range(4):
            client.post(PATH, json=ask("shown"), headers=key).raise_for_status()
        client.post(PATH, json=ask("shown"), headers={**key, "cache-control": "no-store"})
    rig.eventually(lambda: sum(proxy.requests().values()) == 5, what="five records")
    return proxy


def environment(proxy: rig.Reprise, token: str = TOKEN) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("REPRISE__")}
    return {**own, "REPRISE_ADMIN_URL": proxy.admin_url, "REPRISE__ADMIN__TOKEN": token}


def run(proxy: rig.Reprise, *command: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(rig.REPRISE), *command], cwd=rig.ROOT, capture_output=True, text=True,
        env=environment(proxy, token), stdin=subprocess.DEVNULL, timeout=60,
    )


@pytest.fixture
def terminal():
    opened = []

    def open_one(*command: str, proxy: rig.Reprise | None = None, **options) -> Terminal:
        told = environment(proxy) if proxy else dict(os.environ)
        opened.append(Terminal(command, told, **options))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_stats_are_those_of_the_admin_api(shown):
    told = run(shown, "stats")
    assert told.returncode == 0 and told.stderr == "", told
    lines = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.strip()}
    assert "hit rate  75.0 %" in told.stdout, told.stdout
    assert (lines["hit_exact"][1], lines["miss"][1], lines["bypass"][1]) == ("3", "1", "1")
    assert lines["hit_exact"][2] == "p50" and lines["upstream"][3] == "healthy,", told.stdout
    exact = json.loads(run(shown, "stats", "--json").stdout)
    said = shown.admin.get("/api/v1/stats").json()
    assert exact["requests"] == said["requests"] and exact["saved"] == said["saved"]
    assert f"saved     {said['saved']['tokens']} tokens" in told.stdout and said["saved"]["tokens"] > 0


def test_health_is_an_exit_code(shown):
    told = run(shown, "health")
    assert told.returncode == 0 and "[+]embedder ok" in told.stdout, told
    shown.kill()
    told = run(shown, "health")
    assert told.returncode != 0 and told.stdout == "", told
    assert f"no answer from {shown.admin_url}" in told.stderr, told.stderr
    for command in ["stats", "top"]:
        told = run(shown, command)
        assert told.returncode != 0 and "Is Reprise running there?" in told.stderr, (command, told)


def test_a_purge_counts_asks_and_deletes(shown, terminal):
    entries = lambda: shown.admin.get("/api/v1/stats").json()["memory"]["entries"]
    assert run(shown, "purge", "--all", "--dry-run").stdout == "1 entries; nothing was deleted\n"
    assert run(shown, "purge", "--model", "gpt").stdout == "0 entries; nothing was deleted\n"
    nobody = run(shown, "purge", "--all")
    assert nobody.returncode != 0 and "add --yes" in nobody.stderr, nobody
    stranger = run(shown, "purge", "--all", "--yes", token="guess")
    assert stranger.returncode != 0 and "401" in stranger.stderr, stranger
    assert run(shown, "purge").returncode != 0, "which ones has to be said"
    assert "--before" in run(shown, "purge", "--before", "yesterday").stderr
    command = [str(rig.REPRISE), "purge", "--model", "sim"]
    doubtful = terminal(*command, proxy=shown)
    doubtful.shows("Delete 1 entries", "[y/N]")
    doubtful.type("\n")
    assert doubtful.ended() == 0 and "nothing was deleted" in doubtful.look()
    assert entries() == 1
    sure = terminal(*command, proxy=shown)
    sure.shows("[y/N]")
    sure.type("y\n")
    assert sure.ended() == 0 and "deleted 1 entries" in sure.look()
    assert entries() == 0
    assert TOKEN not in shown.log.read_text()


def test_top_lives_in_a_terminal(shown, terminal, ask):
    top = terminal(str(rig.REPRISE), "top", "--every", "200ms", proxy=shown)
    top.shows("hit rate", "75.0 %", "latency budget of the mean miss", "inference", "healthy", "q: quit")
    assert re.search(r"hit_exact +3 +0\.0 ", top.look()), top.look()
    with httpx2.Client(base_url=shown.url, trust_env=False, timeout=60) as client:
        for _ in range(4):
            client.post(PATH, json=ask("shown"), headers={"authorization": "Bearer sk-cli"})
    top.shows("87.5 %")
    # The usual window shows all of it; one that is too small goes without some, and comes back.
    top.size(80, 24)
    top.shows("bypass", "post_processing", "healthy")
    top.size(40, 10)
    top.shows("hit rate 87.5 %")
    top.size(120, 40)
    top.shows("q: quit", "healthy")
    shown.kill()
    top.shows("no answer from")
    assert not top.is_as_before(), "it is drawing still"
    top.type("q")
    assert top.ended() == 0
    assert top.is_as_before() and b"\x1b[?1049l" in top.written, "the shell's screen is back"


@pytest.mark.parametrize("key", ["\x03", "\x1b"])
def test_top_ends_by_the_usual_keys(shown, terminal, key):
    top = terminal(str(rig.REPRISE), "top", proxy=shown)
    top.shows("q: quit")
    top.type(key)
    assert top.ended() == 0 and top.is_as_before()


def completions(shell: str, tmp_path) -> str:
    told = subprocess.run(
        [str(rig.REPRISE), "completions", shell], capture_output=True, text=True, check=True
    )
    file = tmp_path / f"reprise.{shell}"
    file.write_text(told.stdout)
    return str(file)


@pytest.mark.direct
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_what_is_typed(shell, terminal, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    file = completions(shell, tmp_path)
    ways = {
        "bash": (["bash", "--norc", "--noprofile", "-i"], f"source {file}"),
        "zsh": (["zsh", "-f", "-i"], f"autoload -U compinit && compinit -u -D && source {file}"),
    }
    command, load = ways[shell]
    opened = terminal(*command)
    opened.type(f"PS1='ready> '; {load}\n")
    opened.shows("ready> ")
    opened.type("reprise pur\t--dry\t")
    opened.shows("reprise purge --dry-run")
    opened.type("\x15reprise comp\tba\t")
    opened.shows("reprise completions bash")


@pytest.mark.direct
@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not here")
def test_fish_completes_too(tmp_path):
    ask = f"source {completions('fish', tmp_path)}; complete --do-complete 'reprise purge --d'"
    told = subprocess.run(["fish", "--no-config", "-c", ask], capture_output=True, text=True)
    assert told.stdout.startswith("--dry-run\t") and told.stderr == "", told


@pytest.mark.direct
@pytest.mark.skipif(shutil.which("man") is None, reason="man is not here")
def test_the_manual_can_be_read(tmp_path):
    subprocess.run([str(rig.REPRISE), "man", "--dir", str(tmp_path)], check=True)
    pages = sorted(tmp_path.glob("*.1"))
    assert len(pages) > 10
    for page in pages:
        plain = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
        command = ["man", "--warnings", "--local-file", "--no-hyphenation", str(page)]
        read = subprocess.run(command, capture_output=True, text=True, env=plain)
        assert read.returncode == 0 and read.stderr == "", (page, read.stderr)
        assert "SYNOPSIS" in read.stdout and "DESCRIPTION" in read.stdout, page
    purge = tmp_path / "reprise-purge.1"
    assert "dry" in purge.read_text()
