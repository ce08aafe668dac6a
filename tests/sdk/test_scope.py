"""One tenant never sees another's entries, by any of the tiers."""

import pytest

import contract
from conftest import Way
from test_parity import PARAPHRASE, QUESTION, create

PATH = "/v1/chat/completions"


def test_two_keys_share_nothing(each_way: Way, cached, sim, ask):
    sim.reset()
    one, two = each_way.client("sk-one"), each_way.client("sk-two")
    create(one, ask(QUESTION))
    cached.wait(ask(PARAPHRASE), "sk-one")
    for prompt in (PARAPHRASE, QUESTION):
        body = ask(prompt)
        answer, verdict = create(two, body)
        said = contract.stamps(answer.choices[0].message.content)
        if verdict.outcome == "miss":
            assert said == [contract.stamp(body, "Bearer sk-two")]
        else:
            assert said == [contract.stamp(ask(PARAPHRASE), "Bearer sk-two")]
    assert sim.stats()["calls_total"] >= 2


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_every_kind_of_credential_counts(via: Way, sim, ask, header):
    body = ask(QUESTION)
    sim.reset()
    with via.raw() as raw:
        for credential in ("alpha", "beta", None):
            headers = {header: credential} if credential else {}
            for _ in range(2):
                answer = raw.post(PATH, json=body, headers=headers).json()
                text = answer["choices"][0]["message"]["content"]
                assert contract.stamps(text) == [contract.stamp(body, credential or "")]
    assert sim.calls() == 3


@pytest.mark.parametrize("change", [
    {"model": "other"}, {"temperature": 0.1}, {"seed": 1}, {"max_tokens": 4000},
    {"response_format": {"type": "json_object"}}, {"tools": []}, {"vendor_field": 1},
])
def test_all_but_the_last_turn_matches_exactly(via: Way, cached, sim, ask, change):
    with via.raw() as raw:
        headers = {"authorization": "Bearer sk-one"}
        raw.post(PATH, json=ask(QUESTION), headers=headers)
        cached.wait(ask(PARAPHRASE))
        for prompt in (QUESTION, PARAPHRASE):
            body = ask(prompt) | change
            assert cached.lookup(body).status_code == 504


def test_earlier_turns_and_the_system_prompt_match_exactly(via: Way, cached, ask):
    body = ask(QUESTION)
    with via.raw() as raw:
        raw.post(PATH, json=body, headers={"authorization": "Bearer sk-one"})
    cached.wait(ask(PARAPHRASE))
    assert cached.lookup(ask(PARAPHRASE, system="Answer in French.")).status_code == 504
    longer = ask(PARAPHRASE)
    longer["messages"][1:1] = [
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"},
    ]
    assert cached.lookup(longer).status_code == 504


@pytest.mark.parametrize("stored, asked", [
    ("Transfer 100 euros to my savings account", "Transfer 900 euros to my savings account"),
    ("Is it possible to cancel my transfer?", "Is it not possible to cancel my transfer?"),
])
def test_a_number_or_a_negation_is_never_overlooked(via: Way, cached, ask, stored, asked):
    create(via.client(), ask(stored))
    cached.wait(ask(stored))
    assert cached.lookup(ask(asked)).status_code == 504


def test_fields_that_cannot_change_an_answer_do_not_part_entries(via: Way, cached, sim, ask):
    create(via.client(), ask(QUESTION, user="a", metadata={"k": "1"}))
    cached.wait(ask(QUESTION))
    sim.reset()
    _, verdict = create(via.client(), ask(QUESTION, user="b", store=False))
    assert verdict.outcome == "hit_exact"
    assert sim.calls() == 0
