"""GPTCache in its own process on a stream of labelled prompts: the same ONNX model, FAISS, SQLite.

usage: gptcache_replay.py MODEL_DIR STREAM.jsonl COUNT THRESHOLD

Prints one JSON object: requests, hits, wrong, p50_ms, p99_ms of the hits. The answer to a prompt is its
class, so a hit of another class is a wrong one. There is no HTTP in it: the cache is called directly.
"""

import json
import pathlib
import statistics
import sys
import tempfile
import time

import numpy
import onnxruntime
from gptcache import cache
from gptcache.adapter.api import get, put
from gptcache.config import Config
from gptcache.manager import CacheBase, VectorBase, get_data_manager
from gptcache.processor.pre import get_prompt
from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation
from tokenizers import Tokenizer


class Model:
    """The model folder that Reprise itself uses, mean-pooled and normalised."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            next(folder.rglob("*.onnx")), options, providers=["CPUExecutionProvider"])
        self.names = {one.name for one in self.session.get_inputs()}
        self.tokenizer = Tokenizer.from_file(str(next(folder.rglob("tokenizer.json"))))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def embed(self, text, **_):
        told = self.tokenizer.encode(text)
        feed = {"input_ids": told.ids, "attention_mask": told.attention_mask, "token_type_ids": told.type_ids}
        feed = {name: numpy.array([ids], dtype=numpy.int64) for name, ids in feed.items() if name in self.names}
        hidden = self.session.run(None, feed)[0]
        vector = hidden[0].mean(axis=0) if hidden.ndim == 3 else hidden[0]
        return (vector / numpy.linalg.norm(vector)).astype(numpy.float32)


def main():
    folder, stream, count, threshold = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    rows = [json.loads(line) for line in open(stream, encoding="utf-8")][:count]
    model = Model(folder)
    with tempfile.TemporaryDirectory() as work:
        store = get_data_manager(
            CacheBase("sqlite", sql_url=f"sqlite:///{work}/sql.db"),
            VectorBase("faiss", dimension=384, index_path=f"{work}/faiss.index"))
        # FAISS gives squared distances of unit vectors: d = 2 - 2 cos, at most 4.
        most = 4.0
        cache.init(
            pre_embedding_func=get_prompt, embedding_func=model.embed, data_manager=store,
            similarity_evaluation=SearchDistanceEvaluation(max_distance=most),
            # Its score is (most - d); its gate compares with most x similarity_threshold.
            config=Config(similarity_threshold=1 - (2 - 2 * threshold) / most))
        took, hits, wrong = [], 0, 0
        for row in rows:
            begun = time.perf_counter()
            found = get(row["prompt"])
            span = time.perf_counter() - begun
            if found is None:
                put(row["prompt"], str(row["class"]))
            else:
                hits += 1
                wrong += found != str(row["class"])
                took.append(span * 1000)
    took.sort()
    print(json.dumps({
        "requests": len(rows), "hits": hits, "wrong": wrong, "p50_ms": statistics.median(took),
        "p99_ms": took[len(took) * 99 // 100]}))


if __name__ == "__main__":
    main()
