#!/usr/bin/env python3
"""What both sides of `compare.py` read, made once, by the Python of the other side.

    inputs.py --peers DIR ids --model DIR --conllu FILE --sentences 64 --out ids.json
    inputs.py --peers DIR text --model DIR --conllu FILE --words 10000 --out FILE [--tokens 480]
    inputs.py --peers DIR model --shape gpt2 --tokenizer DIR --out DIR
    inputs.py --peers DIR spaced --tokenizer DIR --out DIR

`ids`: token ids of the sentences that w3_ablate.py takes. `text`: the first sentences that the scripts read,
as a CoNLL-U file of its own; with --tokens, consecutive ones joined to sequences of at most so many. `model`:
random weights of a shape of the class of 100 million parameters. `spaced`: the model in that folder with a
tokenizer that begins every word with a space, the first too, so that words given one by one and a text
with spaces become the same tokens.
"""
import argparse
import json
import os
import shutil
import sys

SHAPES = {
    "bert": dict(model_type="bert", architectures=["BertModel"], hidden_size=768, num_hidden_layers=12,
                 num_attention_heads=12, intermediate_size=3072, hidden_act="gelu",
                 max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0),
    "gpt2": dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], n_embd=768, n_layer=12, n_head=12,
                 n_inner=3072, n_positions=1024, activation_function="gelu_new"),
    "llama": dict(model_type="llama", architectures=["LlamaForCausalLM"], hidden_size=768,
                  num_hidden_layers=14, num_attention_heads=12, num_key_value_heads=4,
                  intermediate_size=2048, hidden_act="silu", max_position_embeddings=1024,
                  rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True),
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def tokens_of(words, tokenizer):
    return tokenizer(words, is_split_into_words=True)["input_ids"]


def ids(a, common):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(a.model)
    chosen = common.read_words(a.conllu, 10 ** 6, 8, 30)[:a.sentences]
    json.dump([tokens_of([word for word, _ in one], tokenizer) for one in chosen], open(a.out, "w"))


def text(a, common):
    sentences = common.read_words(a.conllu, a.words)
    if a.tokens:
        from transformers import AutoTokenizer

        sentences = joined(sentences, AutoTokenizer.from_pretrained(a.model), a.tokens)
    with open(a.out, "w", encoding="utf-8") as out:
        for sentence in sentences:
            spaced = " ".join(word for word, _ in sentence)
            out.write("# text = %s\n" % spaced)
            for number, (word, tag) in enumerate(sentence, 1):
                out.write("%d\t%s\t_\t%s\t_\t_\t_\t_\t_\t_\n" % (number, word, tag))
            out.write("\n")


def joined(sentences, tokenizer, most):
    made, now = [], []
    for sentence in sentences:
        if now and len(tokens_of([word for word, _ in now + sentence], tokenizer)) > most:
            made.append(now)
            now = []
        now = now + sentence
    return made + [now]


def model(a, _):
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    shape = dict(SHAPES[a.shape], vocab_size=len(AutoTokenizer.from_pretrained(a.tokenizer)))
    if a.shape != "bert":
        shape.update(bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    made = (AutoModel if a.shape == "bert" else AutoModelForCausalLM).from_config(AutoConfig.for_model(**shape))
    made.save_pretrained(a.out)
    for name in TOKENIZER:
        if os.path.exists(os.path.join(a.tokenizer, name)):
            shutil.copyfile(os.path.join(a.tokenizer, name), os.path.join(a.out, name))


def spaced(a, _):
    shutil.copytree(a.tokenizer, a.out, copy_function=shutil.copyfile)
    path = os.path.join(a.out, "tokenizer.json")
    tokenizer = json.load(open(path, encoding="utf-8"))
    parts = tokenizer["pre_tokenizer"]
    for part in parts.get("pretokenizers", [parts]):
        if part["type"] == "ByteLevel":
            part["add_prefix_space"] = True
    json.dump(tokenizer, open(path, "w", encoding="utf-8"), ensure_ascii=False)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("what", choices=["ids", "text", "model", "spaced"])
    a.add_argument("--peers", required=True, help="folder of the scripts for other tools")
    for name in ("--model", "--conllu", "--tokenizer"):
        a.add_argument(name)
    a.add_argument("--out", required=True)
    a.add_argument("--shape", choices=sorted(SHAPES))
    a.add_argument("--sentences", type=int, default=64)
    a.add_argument("--words", type=int, default=10000)
    a.add_argument("--tokens", type=int, default=0)
    a = a.parse_args()
    sys.path.insert(0, a.peers)
    import common

    {"ids": ids, "text": text, "model": model, "spaced": spaced}[a.what](a, common)


if __name__ == "__main__":
    main()
