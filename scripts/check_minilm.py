"""Compares a converted all-MiniLM-L6-v2 with its float32 weights, sentence by sentence.

The float32 side is computed here with numpy, from the published weights and by another route than
the graph: a wrong transpose, mask or scale in the conversion cannot cancel out.
"""

import json
import math

import numpy as np
from convert_minilm import read_weights
from onnx_runtime import Model

LEAST_COSINE = 0.998
# Plain lower-case words only: `tokenize` below knows no more.
SENTENCES = (
    "what is the capital of france",
    "how do i undo the last commit in git without losing my changes",
    "sunscreen",
    "the patient must not take this medicine with alcohol or grapefruit juice",
)

erf = np.vectorize(math.erf, otypes=[np.float32])


def tokenize(text, vocabulary):
    """WordPiece: the longest known beginning of a word, then the longest `##` continuation, ..."""
    ids = [vocabulary["[CLS]"]]
    for word in text.split():
        start = 0
        while start < len(word):
            pieces = (
                ("##" if start else "") + word[start:end]
                for end in range(len(word), start, -1)
            )
            piece = next(piece for piece in pieces if piece in vocabulary)
            ids.append(vocabulary[piece])
            start += len(piece) - (2 if start else 0)
    return ids + [vocabulary["[SEP]"]]


class Reference:
    """BERT in float32 for one unpadded sentence (Devlin et al. 2018)."""

    def __init__(self, config, weights):
        self.config, self.weights = config, weights

    def vector(self, ids):
        weights, epsilon = self.weights, self.config["layer_norm_eps"]

        def linear(x, name):
            return x @ weights[name + ".weight"].T + weights[name + ".bias"]

        def norm(x, name):
            centered = x - x.mean(-1, keepdims=True)
            deviation = np.sqrt(np.square(centered).mean(-1, keepdims=True) + epsilon)
            return (
                centered / deviation * weights[name + ".weight"]
                + weights[name + ".bias"]
            )

        tables = [
            weights[f"embeddings.{kind}_embeddings.weight"]
            for kind in ("word", "position", "token_type")
        ]
        x = norm(
            tables[0][ids] + tables[1][: len(ids)] + tables[2][0],
            "embeddings.LayerNorm",
        )
        for n in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{n}."
            query, key, value = (
                self.heads(linear(x, f"{layer}attention.self.{part}"))
                for part in ("query", "key", "value")
            )
            weight = np.exp(query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1]))
            mixed = (
                (weight / weight.sum(-1, keepdims=True) @ value)
                .swapaxes(0, 1)
                .reshape(x.shape)
            )
            x = norm(
                x + linear(mixed, layer + "attention.output.dense"),
                layer + "attention.output.LayerNorm",
            )
            wide = linear(x, layer + "intermediate.dense")
            gelu = wide * (1 + erf(wide / math.sqrt(2))) / 2
            x = norm(
                x + linear(gelu, layer + "output.dense"), layer + "output.LayerNorm"
            )
        return unit(x.mean(0))

    def heads(self, x):
        return x.reshape(len(x), self.config["num_attention_heads"], -1).swapaxes(0, 1)


def unit(vector):
    return vector / np.linalg.norm(vector)


def converted_vectors(model, sentences, hidden):
    """All sentences in one padded batch: what is compared also went through the mask."""
    length = max(map(len, sentences))
    ids, mask = np.zeros((2, len(sentences), length), np.int64)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)], mask[row, : len(sentence)] = sentence, 1
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
    }
    states = model.run(inputs, "last_hidden_state", (*ids.shape, hidden))
    return [
        unit(state[: len(sentence)].mean(0))
        for state, sentence in zip(states, sentences)
    ]


def least_cosine(source, model, library):
    """The worst cosine over SENTENCES between `model` (bytes) run by `library` and the weights in `source`."""
    config = json.loads((source / "config.json").read_text())
    vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    sentences = [tokenize(text, vocabulary) for text in SENTENCES]
    reference = Reference(config, read_weights(source / "model.safetensors"))
    vectors = converted_vectors(Model(library, model), sentences, config["hidden_size"])
    return min(
        float(reference.vector(ids) @ vector) for ids, vector in zip(sentences, vectors)
    )
