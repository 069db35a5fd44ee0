#!/usr/bin/env python3
"""Cuts the example corpora of this folder out of their sources. Needs pyarrow for the Parquet file.

    make_examples.py EWT_DEV.conllu SENTENCE_POLARITY.jsonl SUBJECTIVITY.jsonl NOVELS.txt

EWT_DEV    en_ewt-ud-dev.conllu of UD_English-EWT, commit 15d613d8
POLARITY   sentence polarity dataset v1.0 as JSONL of id, text, label
SUBJECTIVITY  subjectivity dataset v1.0, likewise
NOVELS     one paragraph a line, with Emma and Moby-Dick in it

Running it again gives the same bytes (the Parquet file: with the same pyarrow).
"""

import collections
import gzip
import json
import pathlib
import re
import sys

import pyarrow
import pyarrow.parquet

HERE = pathlib.Path(__file__).parent
ewt, polarity, subjectivity, novels = (pathlib.Path(p).read_text("utf-8") for p in sys.argv[1:])

# Whole documents, in the order of the treebank: every second one of each genre.
documents, seen = [], collections.Counter()
for block in ewt.strip().split("\n\n"):
    new = re.search(r"^# newdoc id = (\S+)", block, re.M)
    if new:
        documents.append((new[1].split("-")[0], []))
    documents[-1][1].append(block)
kept = []
for genre, sentences in documents:
    seen[genre] += 1
    if seen[genre] % 2 == 1:
        kept.append(sentences)


def conllu(documents):
    return "".join(block + "\n\n" for sentences in documents for block in sentences)


(HERE / "en_ewt" / "en_ewt-dev-half.conllu").write_text(conllu(kept), "utf-8")
examples = HERE / "examples"
with open(examples / "treebank.conllu.gz", "wb") as file:
    file.write(gzip.compress(conllu(kept[:6]).encode(), mtime=0))

# Parallel files: the same words, blank between them, and one label for each.
words, labels = [], []
for sentences in kept[:12]:
    for block in sentences:
        rows = [line.split("\t") for line in block.split("\n") if re.match(r"\d+\t", line)]
        # A form may hold a blank; the format cannot.
        words.append(" ".join(row[1].replace(" ", "") for row in rows))
        labels.append(" ".join(row[3] for row in rows))
(examples / "tagged.word").write_text("\n".join(words) + "\n", "utf-8")
(examples / "tagged.label").write_text("\n".join(labels) + "\n", "utf-8")


def some_of_each(text, n):
    """The first n lines of each label, in the order of the file."""
    taken, out = collections.Counter(), []
    for line in text.strip().split("\n"):
        row = json.loads(line)
        taken[row["label"]] += 1
        if taken[row["label"]] <= n:
            out.append(row)
    return out


rows = some_of_each(polarity, 200)
lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
(examples / "polarity.jsonl").write_text("".join(lines), "utf-8")

rows = some_of_each(subjectivity, 200)
table = pyarrow.table({
    "id": [row["id"] for row in rows],
    "text": [row["text"] for row in rows],
    "label": [row["label"] for row in rows],
    "length": pyarrow.array([len(row["text"].split()) for row in rows], pyarrow.int64()),
})
pyarrow.parquet.write_table(table, examples / "subjectivity.parquet", compression="zstd")

lines = novels.split("\n")
openings = [("emma", "Emma Woodhouse, handsome", 60), ("moby-dick", "Call me Ishmael", 40)]
for name, opening, paragraphs in openings:
    start = next(i for i, line in enumerate(lines) if line.startswith(opening))
    text = "\n".join(lines[start:start + paragraphs]) + "\n"
    (examples / f"{name}.txt").write_text(text, "utf-8")
