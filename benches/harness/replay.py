"""A stream of real questions: Reprise over HTTP against GPTCache inside its own process."""

import http.client
import http.server
import json
import os
import pathlib
import random
import statistics
import subprocess
import threading
import time

from systems import PATH, PEERS, ROOT, venv

PROXY, ADMIN = 9350, 9351
COUNT = 2000
STREAM = pathlib.Path(os.environ.get("REPRISE_SHARED", ROOT / "../shared")) / "data/stream_banking77.jsonl"


def measure(running):
    if not STREAM.exists():
        return {"skipped": f"{STREAM} is not there"}
    # The file lists intent after intent; people's questions come mixed.
    rows = [json.loads(line) for line in STREAM.open(encoding="utf-8")]
    random.Random(1).shuffle(rows)
    rows = rows[:COUNT]
    mixed = running.work / "mixed.jsonl"
    mixed.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    results = {}
    for level in ("0.90", "0.95"):
        results[f"GPTCache, {level}, in its own process"] = gptcache(mixed, level)
    for name, policy in (
            ("Reprise, verified, target 1 %, over HTTP", {"REPRISE__CACHE__SEMANTIC__POLICY": "verified"}),
            ("Reprise, threshold 0.90 with guards, over HTTP",
             {"REPRISE__CACHE__SEMANTIC__POLICY": "threshold", "REPRISE__CACHE__SEMANTIC__MIN_SIMILARITY": "0.90"})):
        results[name] = reprise(running, rows, policy)
    return results


def gptcache(stream, level):
    python = venv("gptcache", "gptcache", "faiss-cpu", "onnxruntime", "tokenizers", "sqlalchemy", "numpy") / "python"
    told = subprocess.run(
        [python, PEERS / "gptcache_replay.py", ROOT / "assets/all-MiniLM-L6-v2", stream, str(COUNT), level],
        capture_output=True, text=True, check=True).stdout
    return json.loads(told.splitlines()[-1])


def reprise(running, rows, policy):
    """Every prompt over one connection. A hit is wrong if it brings the answer of another class."""
    origin = Classes({row["prompt"]: row["class"] for row in rows})
    child = running.reprise(f"reprise-replay-{len(running.children)}", f"http://127.0.0.1:{origin.port}", PROXY, ADMIN,
                            **policy)
    client = http.client.HTTPConnection("127.0.0.1", PROXY)
    took, hits, wrong = [], 0, 0
    for row in rows:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": row["prompt"]}]})
        begun = time.perf_counter()
        client.request("POST", PATH, body, {"content-type": "application/json", "authorization": "Bearer bench"})
        answer = client.getresponse()
        text = json.loads(answer.read())["choices"][0]["message"]["content"]
        span = time.perf_counter() - begun
        if answer.headers["x-cache"] == "HIT":
            hits += 1
            wrong += text != say(row["class"])
            if answer.headers["x-reprise-similarity"]:
                took.append(span * 1000)
    client.close()
    child.terminate()
    child.wait(timeout=30)
    origin.stop()
    took.sort()
    return {"requests": len(rows), "hits": hits, "wrong": wrong, "p50_ms": statistics.median(took),
            "p99_ms": took[len(took) * 99 // 100]}


def say(name):
    return f"This is how we handle {name.replace('_', ' ')}: please follow the steps of that page."


class Classes:
    """A model server that answers a prompt with its class."""

    def __init__(self, classes):
        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                text = say(classes[asked["messages"][-1]["content"]])
                body = json.dumps({
                    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
                    "choices": [{"index": 0, "finish_reason": "stop",
                                 "message": {"role": "assistant", "content": text}}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
