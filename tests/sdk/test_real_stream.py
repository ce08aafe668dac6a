"""Three thousand real questions by two tenants, with a restart in the middle."""

import collections
import json
import os

import anyio
import pytest

import contract
import rig
from conftest import Way

PROMPTS = 3000
AT_ONCE = 8
KEYS = ("sk-one", "sk-two")
FILE = rig.ROOT / os.environ.get("REPRISE_SHARED", "../shared") / "data/stream_banking77.jsonl"


class Run:
    """What was asked and what was said, over both halves."""

    def __init__(self) -> None:
        self.outcomes: collections.Counter[str] = collections.Counter()
        #: Tenant -> stamp of each answer that the model made for it, with the prompt it was for.
        self.made: dict[str, dict[str, str]] = {key: {} for key in KEYS}
        #: What must be found again: (tenant, prompt) -> entry and text.
        self.stored: dict[tuple[str, str], tuple[str, str]] = {}
        self.wrong: list[str] = []

    def body(self, prompt: str) -> dict:
        return {"model": "sim", "messages": [{"role": "user", "content": prompt}]}

    async def one(self, client, key: str, prompt: str, stream: bool) -> None:
        body = self.body(prompt)
        create = client.chat.completions.with_raw_response.create
        raw = await create(**body, stream=stream)
        parsed = raw.parse()
        if stream:
            parts = [chunk.choices[0].delta.content or "" async for chunk in parsed]
            text = "".join(parts)
        else:
            text = parsed.choices[0].message.content
        verdict = contract.verdict(raw.headers)
        self.outcomes[verdict.outcome] += 1
        self.judge(key, prompt, text, verdict)

    def judge(self, key: str, prompt: str, text: str, verdict: contract.Verdict) -> None:
        """An answer must be the one to this very request; a semantic one, to another of the same
        tenant."""
        said = contract.stamps(text)
        own = contract.stamp(self.body(prompt), f"Bearer {key}")
        where = f"{key} {verdict.outcome} {prompt!r}: {said}"
        if verdict.outcome in {"miss", "hit_exact", "collapsed"}:
            if said != [own]:
                self.wrong.append(where)
        elif verdict.outcome == "hit_semantic":
            if len(said) != 1 or said[0] not in self.made[key]:
                self.wrong.append(where)
        else:
            self.wrong.append(f"unexpected: {where}")
        if verdict.outcome == "miss":
            self.made[key][own] = prompt
            if verdict.params.get("stored"):
                self.stored[key, prompt] = (verdict.entry, text)

    async def half(self, proxy: rig.Reprise, prompts: list[str], offset: int) -> None:
        """Sends `prompts`, each by one of the tenants, half of them streamed."""
        way = Way("http1", proxy.url)
        clients = {key: way.async_client(key) for key in KEYS}
        queue = iter(list(enumerate(prompts, offset)))

        async def worker() -> None:
            for index, prompt in queue:
                key = KEYS[index % 7 % 2]
                await self.one(clients[key], key, prompt, stream=index % 2 == 0)

        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(worker)
        for client in clients.values():
            await client.close()


def prompts() -> list[str]:
    if not FILE.exists():
        pytest.skip(f"{FILE} is not here (REPRISE_SHARED names the folder that holds data/)")
    with FILE.open() as lines:
        return [json.loads(line)["prompt"] for line, _ in zip(lines, range(PROMPTS))]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.anyio
async def test_three_thousand_real_questions_with_a_restart(start, sim, tmp_path):
    questions = prompts()
    assert len(questions) == PROMPTS
    middle = PROMPTS // 2
    folder = tmp_path / "kept"
    run = Run()
    sim.reset()

    proxy = start(sim.url, folder)
    await run.half(proxy, questions[:middle], 0)
    assert_counted(proxy, run.outcomes)
    assert not run.wrong, run.wrong[:5]
    proxy.stop()

    proxy = start(sim.url, folder)
    calls = sim.calls()
    with Way("http1", proxy.url).raw() as raw:
        for (key, prompt), (entry, text) in run.stored.items():
            # Never asks the upstream; what was stored as a stream is asked for as a whole.
            headers = {"authorization": f"Bearer {key}", "cache-control": "only-if-cached"}
            answer = raw.post("/v1/chat/completions", json=run.body(prompt), headers=headers)
            assert answer.status_code == 200, f"lost: {key} {prompt!r}"
            verdict = contract.verdict(answer.headers)
            assert (verdict.outcome, verdict.entry) == ("hit_exact", entry)
            assert contract.stamps(answer.text) == contract.stamps(text)
    assert sim.calls() == calls, "nothing was asked again"
    proxy.stop()

    first_half = collections.Counter(run.outcomes)
    proxy = start(sim.url, folder)
    await run.half(proxy, questions[middle:], middle)
    assert_counted(proxy, run.outcomes - first_half)
    assert not run.wrong, run.wrong[:5]
    assert run.outcomes["miss"] == sim.calls()
    assert sum(run.outcomes.values()) == PROMPTS
    print(f"\n{PROMPTS} prompts: {dict(run.outcomes)}")


def assert_counted(proxy: rig.Reprise, outcomes: collections.Counter) -> None:
    """What the headers said is what the statistics say."""
    counted = {name: count for name, count in proxy.requests().items() if count}
    assert counted == dict(outcomes)
