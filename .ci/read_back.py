"""Reads every table of a run folder with pandas, polars and DuckDB: the same columns and values.

    read_back.py RUN_FOLDER...

Oracle: pyarrow, the reference reader of Parquet. Values are compared exactly; pandas shows missing
numbers as NaN, so there a missing value equals NaN.
"""

import math
import pathlib
import sys

import duckdb
import pandas
import polars
import pyarrow.parquet

RANKINGS = ["method", "label", "concept", "site", "layer", "neuron", "rank", "score", "sign", "n",
            "n_concept", "p_value", "q_value"]


def plain(value):
    """A value as plain Python: arrays of readers become lists, NaN and NA become one thing."""
    if value is None or value is pandas.NA:
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return value


def compare(path, reader, got, want, nan_is_missing):
    assert list(got) == list(want), f"{path}: {reader} has columns {list(got)}, not {list(want)}"
    for name in want:
        ours, theirs = list(map(plain, want[name])), list(map(plain, got[name]))
        if nan_is_missing:
            ours, theirs = ([None if v == "NaN" else v for v in c] for c in (ours, theirs))
        assert len(ours) == len(theirs), f"{path}: {reader} has {len(theirs)} rows in {name}"
        for row, (a, b) in enumerate(zip(ours, theirs)):
            assert a == b, f"{path}: {reader} reads {name}[{row}] as {b!r}, pyarrow as {a!r}"


def check(path):
    table = pyarrow.parquet.read_table(path)
    want = table.to_pydict()
    frame = pandas.read_parquet(path)
    compare(path, "pandas", {name: frame[name] for name in frame}, want, True)
    frame = polars.read_parquet(path)
    compare(path, "polars", frame.to_dict(as_series=False), want, False)
    relation = duckdb.read_parquet(str(path))
    rows = relation.fetchall()
    columns = {name: [row[i] for row in rows] for i, name in enumerate(relation.columns)}
    compare(path, "DuckDB", columns, want, False)
    if path.name == "rankings.parquet":
        assert list(want) == RANKINGS, f"{path}: columns {list(want)}"
        assert min(want["rank"]) == 1, f"{path}: ranks start at {min(want['rank'])}"
        assert set(want["sign"]) <= {-1, 0, 1}, f"{path}: signs {set(want['sign'])}"
    print(f"{path}: {table.num_rows} rows, {table.num_columns} columns, the same by all readers")


for folder in map(pathlib.Path, sys.argv[1:]):
    paths = sorted(folder.glob("*.parquet"))
    assert paths, f"{folder} has no tables"
    for path in paths:
        check(path)
