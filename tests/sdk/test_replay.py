"""How kept answers are replayed, and the few requests that are not forwarded as they came: settings
that are off unless somebody wants them."""

import time

import dialect
import rig
from conftest import Way
from dialect import PARAPHRASE, QUESTION

UPSTREAM = '\n[[upstream]]\nname = "sim"\nurls = ["{url}"]\n'


def chat(url: str, system: str, question: str, **more):
    client = Way("http1", url).client()
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return client.chat.completions.create(model=more.pop("model", "sim"), messages=messages, **more)


def test_fresh_ids_and_no_counts(start, sim, nonce):
    settings = {"cache.replay_identity": "fresh", "cache.replay_usage": "zero"}
    proxy = start(sim.url, settings=settings)
    journey = dialect.Journey(proxy, sim)
    first = journey.missed(lambda url, question: chat(url, nonce, question), QUESTION)
    again = [journey.hit(lambda url, question: chat(url, nonce, question), QUESTION) for _ in "ab"]
    assert len({first.id, again[0].id, again[1].id}) == 3
    assert all(answer.id.startswith("chatcmpl-") for answer in again)
    assert again[0].choices == first.choices
    assert first.usage.total_tokens > 0 and again[0].usage.total_tokens == 0

    options = {"stream": True, "stream_options": {"include_usage": True}}
    stream = journey.hit(lambda url, question: list(chat(url, nonce, question, **options)), QUESTION)
    assert len({chunk.id for chunk in stream}) == 1 and stream[0].id != first.id
    assert stream[-1].usage.total_tokens == 0


def test_the_recorded_pace(start, sim, nonce):
    proxy = start(sim.url, settings={"cache.replay": "recorded"})
    journey = dialect.Journey(proxy, sim)

    def played(system):
        """When the pieces came: as they were made, and replayed."""

        def ask(url, question):
            begun = time.monotonic()
            times = []
            for _ in chat(url, system, question, stream=True):
                times.append(time.monotonic() - begun)
            return times

        return journey.missed(ask, QUESTION), journey.hit(ask, QUESTION)

    def even(number):
        made, replayed = played(f"{nonce} {number} [[slow:10ms]] [[rate:20]] [[tokens:20]]")
        assert made[-1] > 0.8
        assert 0.6 * made[-1] < replayed[-1] < 3 * made[-1] + 1
        assert replayed[0] < 0.5 * replayed[-1], "piece by piece"

    def uneven(number):
        # A pause before the first token and the words then at once: no even pace says that.
        _, (first, *_, last) = played(f"{nonce} {number} [[slow:900ms]] [[rate:0]] [[tokens:20]]")
        assert first > 0.8 and last - first < 0.5 * first

    rig.at_best(even)
    rig.at_best(uneven)


def test_a_public_name_for_a_model(start, sim, nonce):
    config = UPSTREAM.format(url=sim.url) + 'aliases = { "public" = "the-real-one" }\n'
    proxy = start("", config=config)
    journey = dialect.Journey(proxy, sim)
    first = journey.missed(lambda url, question: chat(url, nonce, question, model="public"), QUESTION)
    assert first.model == "the-real-one"
    # Both names are one model.
    again = journey.hit(lambda url, question: chat(url, nonce, question, model="the-real-one"), QUESTION)
    assert again.id == first.id
    other = journey.missed(lambda url, question: chat(url, nonce, question, model="another"), QUESTION)
    assert other.model == "another"


TEMPLATE = '[[cache.template]]\nafter = "Question:"\nbefore = "\\nAnswer:"\n'


def test_the_question_inside_a_prompt_with_documents(start, sim, nonce):
    proxy = start("", config=TEMPLATE + UPSTREAM.format(url=sim.url))
    journey = dialect.Journey(proxy, sim)
    filler = "Our bank opens at nine. " * 40

    def ask(documents):
        def ask(url, question):
            prompt = f"Use only this.\n{filler}{documents}\nQuestion: {question}\nAnswer:"
            return chat(url, nonce, prompt).id

        return ask

    first = journey.missed(ask("Document 1"), QUESTION)
    assert journey.hit(ask("Document 1"), QUESTION) == first
    assert journey.hit(ask("Document 1"), PARAPHRASE) == first
    # Another document is another context: not even the same question may have that answer.
    assert journey.missed(ask("Document 2"), QUESTION) != first
