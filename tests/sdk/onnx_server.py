"""A small inference server, as people write them around ONNX Runtime: the sentence model in assets/,
once as it is (numbers in, numbers out) and once as a classifier of texts.

It speaks KServe's v2 protocol in JSON, and at /classify one of its own. `GET /calls` says how often
the model really ran. Writes its address and serves until its standard input closes.
"""

import http.server
import json
import pathlib
import re
import sys
import threading

import numpy as np
import onnxruntime
import tokenizers

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "assets/all-MiniLM-L6-v2"
INTENTS = {
    "password": "I forgot the password of my online banking",
    "card": "my bank card was lost or stolen",
    "transfer": "send money to another account",
}


class Model:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(ASSETS / "model.onnx", providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizers.Tokenizer.from_file(str(ASSETS / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.calls = 0
        self.lock = threading.Lock()
        self.intents = {name: self.embed(text) for name, text in INTENTS.items()}
        self.calls = 0

    def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Mean of the last layer over the tokens, as unit vectors."""
        with self.lock:
            self.calls += 1
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        [states] = self.session.run(None, fed)
        mean = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def embed(self, text: str) -> np.ndarray:
        ids = np.array([self.tokenizer.encode(text).ids], dtype=np.int64)
        return self.run(ids, np.ones_like(ids))[0]

    def classify(self, text: str) -> tuple[str, float]:
        vector = self.embed(text)
        scores = {name: float(vector @ intent) for name, intent in self.intents.items()}
        best = max(scores, key=scores.__getitem__)
        return best, scores[best]


def tensor(name: str, datatype: str, values: np.ndarray) -> dict:
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "data": values.flatten().tolist()}


def infer(model: Model, name: str, asked: dict) -> dict:
    inputs = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in asked["inputs"]}
    if name == "minilm":
        vectors = model.run(inputs["input_ids"], inputs["attention_mask"])
        outputs = [tensor("sentence", "FP32", vectors)]
    else:
        told = [model.classify(text) for text in inputs["text"].flatten()]
        outputs = [
            tensor("label", "BYTES", np.array([label for label, _ in told])),
            tensor("score", "FP32", np.array([score for _, score in told])),
        ]
    return {"model_name": name, "model_version": "1", "outputs": outputs}


def handler(model: Model) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def say(self, status: int, told: object) -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.say(200, model.calls if self.path == "/calls" else {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found = re.fullmatch(r"/v2/models/(minilm|intents)/infer", self.path)
            try:
                if self.path == "/classify":
                    label, score = model.classify(json.loads(body)["text"])
                    self.say(200, {"label": label, "score": score})
                elif found:
                    self.say(200, infer(model, found[1], json.loads(body)))
                else:
                    self.say(404, {"error": "no such model"})
            except (KeyError, TypeError, ValueError, IndexError) as error:
                self.say(400, {"error": f"cannot be read: {error!r}"})

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(Model()))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
