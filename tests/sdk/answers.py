"""Answers in a form that can be compared: without what differs between any two of them."""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk


def whole(answer: ChatCompletion) -> dict[str, Any]:
    """All of it but `id` and `created`."""
    return drop_identity(answer.model_dump())


def chunks(stream: list[ChatCompletionChunk]) -> list[dict[str, Any]]:
    """All chunks but their `id` and `created`."""
    return [drop_identity(chunk.model_dump()) for chunk in stream]


def essence_of_whole(answer: ChatCompletion) -> dict[str, Any]:
    """What a whole answer and a stream of it have in common."""
    choices = {}
    for choice in answer.choices:
        calls = [
            {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
            for call in choice.message.tool_calls or []
        ]
        logprobs = choice.logprobs.model_dump() if choice.logprobs else None
        choices[choice.index] = {
            "role": choice.message.role,
            "content": choice.message.content or "",
            "calls": calls,
            "finish": choice.finish_reason,
            "logprobs": (logprobs or {}).get("content"),
        }
    return {"model": answer.model, "choices": choices, "usage": counts(answer.usage)}


def essence_of_stream(stream: list[ChatCompletionChunk]) -> dict[str, Any]:
    """The same, added up from chunks as clients do."""
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    for chunk in stream:
        usage = chunk.usage or usage
        for part in chunk.choices:
            choice = choices.setdefault(
                part.index,
                {"role": None, "content": "", "calls": [], "finish": None, "logprobs": None},
            )
            choice["role"] = part.delta.role or choice["role"]
            choice["content"] += part.delta.content or ""
            choice["finish"] = part.finish_reason or choice["finish"]
            if part.logprobs and part.logprobs.content:
                entries = [entry.model_dump() for entry in part.logprobs.content]
                choice["logprobs"] = (choice["logprobs"] or []) + entries
            for call in part.delta.tool_calls or []:
                if call.index == len(choice["calls"]):
                    choice["calls"].append({"id": call.id, "name": "", "arguments": ""})
                function = call.function
                if function:
                    choice["calls"][call.index]["name"] += function.name or ""
                    choice["calls"][call.index]["arguments"] += function.arguments or ""
    return {"model": stream[-1].model, "choices": choices, "usage": counts(usage)}


def events(body: bytes) -> list[str]:
    """The data of each event; the framing must be exact."""
    assert body.endswith(b"\n\n"), body[-80:]
    parts = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(part.startswith("data: ") for part in parts), parts
    return [part.removeprefix("data: ") for part in parts]


def chunk_objects(body: bytes) -> list[dict[str, Any]]:
    """The JSON of a complete stream's events, which must end with [DONE] and say it once."""
    data = events(body)
    assert data[-1] == "[DONE]", data[-1]
    assert data.count("[DONE]") == 1
    return [json.loads(event) for event in data[:-1]]


def drop_identity(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in {"id", "created"}}


def counts(usage: Any) -> tuple[int, int, int] | None:
    return usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
