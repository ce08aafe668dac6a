"""Node's official clients, `openai` and the Vercel AI SDK, beside the origin. tests/node/ask.mjs is
one process that asks for them; scripts/test-sdk brings what it needs from npm."""

import json
import shutil
import subprocess

import pytest

import rig

FOLDER = rig.ROOT / ".tools/node"
CLIENTS = (
    "openai-chat", "openai-chat-tools", "openai-responses", "openai-completions",
    "ai-chat", "ai-chat-tools", "ai-responses",
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and (FOLDER / "stamp").exists()),
    reason="no Node.js with npm here, or its clients were not installed: scripts/test-sdk does it",
)


@pytest.fixture(scope="module")
def node():
    """Asks one of the clients, and returns what it made of the answer."""
    command = ["node", str(rig.ROOT / "tests/node/ask.mjs"), str(FOLDER)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(**asked):
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("first", ["whole", "stream"])
@pytest.mark.parametrize("client", CLIENTS)
def test_node(journey, node, nonce, client, first):
    def asker(shape):
        def ask(url, question):
            told = node(client=client, shape=shape, url=url, question=question, nonce=nonce)
            assert "error" not in told, told
            return tuple(told["told"])

        return ask

    other = {"whole": "stream", "stream": "whole"}[first]
    journey.walk(asker(first), asker(other))


def test_an_error_is_the_same_to_the_client(journey, node, nonce):
    def ask(url):
        question = "Please fail. [[fail:429]]"
        return node(client="openai-chat", shape="whole", url=url, question=question, nonce=nonce)

    direct = ask(journey.sim.url)
    assert direct["status"] == 429
    assert ask(journey.proxy.url) == direct
