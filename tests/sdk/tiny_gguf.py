"""Writes a language model of half a megabyte with random weights: what it says is noise, the server
that says it is llama.cpp's own. Its words are bytes and a few syllables, and it often ends by itself.

usage: tiny_gguf.py FILE
"""

import sys

import gguf
import numpy as np

WIDTH, HEADS, LAYERS, INNER, CONTEXT = 64, 4, 2, 128, 2048
SYLLABLES = [c + v for c in "bdfgklmnprst" for v in "aeiou"]


def vocabulary() -> tuple[list[str], list[gguf.TokenType]]:
    special = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
    single = [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
    words = [(f"\u2581{syllable}", gguf.TokenType.NORMAL) for syllable in SYLLABLES]
    tokens, kinds = zip(*special, *single, *words)
    return list(tokens), list(kinds)


def main(path: str) -> None:
    tokens, kinds = vocabulary()
    draw = np.random.default_rng(7)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return draw.normal(0, 0.06, (rows, columns)).astype(np.float32)

    words = matrix(len(tokens), WIDTH)
    # Syllables are likelier than bytes, and the end as likely as several of them.
    words[2] *= 4
    words[3:259] *= 0.3
    model = gguf.GGUFWriter(path, "llama")
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_block_count(LAYERS)
    model.add_feed_forward_length(INNER)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_vocab_size(len(tokens))
    model.add_tokenizer_model("llama")
    model.add_token_list(tokens)
    model.add_token_types(kinds)
    model.add_token_scores([-float(place) for place in range(len(tokens))])
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)
    model.add_unk_token_id(0)
    model.add_tensor("token_embd.weight", matrix(len(tokens), WIDTH))
    model.add_tensor("output.weight", words)
    model.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    shapes = {
        "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH),
        "ffn_down": (WIDTH, INNER),
    }
    for layer in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            model.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(WIDTH, dtype=np.float32))
        for name, shape in shapes.items():
            model.add_tensor(f"blk.{layer}.{name}.weight", matrix(*shape))
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


if __name__ == "__main__":
    main(sys.argv[1])
