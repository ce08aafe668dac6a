"""What every dialect must do, whoever its client is: one journey through the four kinds of answers.

A client is two functions, `whole(url, question)` and `stream(url, question)`, each of which returns
what the client made of the answer: a pair of its essence (equal in both shapes, and from whichever
server) and of all of it (equal only for a replay).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import rig

QUESTION = "How do I reset my online banking password?"
PARAPHRASE = "How can I reset my online banking password?"

Told = tuple[Any, Any]
Ask = Callable[[str, str], Told]


@dataclasses.dataclass
class Journey:
    """Walks one client through the proxy beside the origin."""

    proxy: rig.Reprise
    sim: rig.Simulated

    def written(self) -> int:
        return self.proxy.written()

    def total(self) -> int:
        return self.sim.stats()["calls_total"]

    def missed(self, ask: Ask, question: str) -> Told:
        """Asked for the first time: forwarded, then stored with its vector."""
        before, calls = self.written(), self.total()
        told = ask(self.proxy.url, question)
        assert self.total() == calls + 1, "a miss asks the upstream once"
        rig.eventually(lambda: self.written() > before, what="storing")
        return told

    def hit(self, ask: Ask, question: str) -> Told:
        """Answered without the upstream."""
        calls = self.total()
        told = ask(self.proxy.url, question)
        assert self.total() == calls, "a hit does not ask the upstream"
        return told

    def walk(self, first: Ask, other: Ask | None, semantic: bool = True) -> None:
        """Miss, exact hit, semantic hit and cross-shape hit, each beside the origin."""
        expected = first(self.sim.url, QUESTION)
        missed = self.missed(first, QUESTION)
        assert missed[0] == expected[0], "a miss is what the origin says"
        assert self.hit(first, QUESTION) == missed, "a replay is the same to the last field"
        if semantic:
            assert self.hit(first, PARAPHRASE) == missed, "so is that of a paraphrase"
        if other is not None:
            # The origin's own answer in the other shape has the same essence.
            assert other(self.sim.url, QUESTION)[0] == expected[0]
            assert self.hit(other, QUESTION)[0] == expected[0]
            if semantic:
                assert self.hit(other, PARAPHRASE)[0] == expected[0]
