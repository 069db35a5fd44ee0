"""Reads every table of a run folder with pandas, polars and DuckDB: the same columns and values. Of a
sweep's folder, which has data/TABLE/AXIS=VALUE/..., each table as one data set.

    read_back.py FOLDER...

Oracle: pyarrow, the reference reader of Parquet, file by file. Values are compared exactly; pandas
shows missing numbers as NaN, so there a missing value equals NaN.
"""

import math
import pathlib
import sys

import duckdb
import pandas
import polars
import pyarrow.parquet

# Rows of a data set whose values are compared; of more, rows and axes are.
MOST_ROWS = 200_000
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


def axes(root, path):
    """What the folders between a data set and its file say: AXIS=VALUE."""
    return dict(part.split("=", 1) for part in path.parent.relative_to(root).parts)


def as_typed(values):
    """Numbers where every folder of an axis is called by one, else texts."""
    return [int(v) for v in values] if all(v.isdecimal() for v in values) else list(values)


def in_order(columns, names):
    """Rows as tuples, in an order that does not depend on that of the files."""
    rows = zip(*(map(plain, columns[name]) for name in names))
    return sorted((tuple(row) for row in rows), key=repr)


def check_data_set(root):
    paths = sorted(root.rglob("*.parquet"))
    assert paths, f"{root} has no tables"
    keys = list(axes(root, paths[0]))
    typed = {key: as_typed([axes(root, path)[key] for path in paths]) for key in keys}
    want = {}
    for at, path in enumerate(paths):
        table = pyarrow.parquet.ParquetFile(path).read()
        columns = table.to_pydict() | {key: [typed[key][at]] * table.num_rows for key in keys}
        for name, values in columns.items():
            want.setdefault(name, []).extend(values)
    names = list(want)
    rows = len(want[names[0]])
    compared = names if rows <= MOST_ROWS else keys
    frame = polars.read_parquet(root / "**/*.parquet", hive_partitioning=True)
    relation = duckdb.read_parquet(str(root / "**/*.parquet"), hive_partitioning=True)
    assert sorted(relation.columns) == sorted(names), f"{root}: DuckDB has {relation.columns}"
    columns = list(zip(*relation.select(*(f'"{name}"' for name in compared)).fetchall()))
    panda = pandas.read_parquet(root)
    readers = {
        "polars": (frame.columns, frame.select(compared).to_dict(as_series=False)),
        "DuckDB": (relation.columns, dict(zip(compared, columns))),
        # Axes are categories there, of numbers or of texts.
        "pandas": (list(panda), {name: panda[name].tolist() for name in compared}),
    }
    ordered = in_order(want, compared)
    for reader, (found, got) in readers.items():
        assert sorted(found) == sorted(names), f"{root}: {reader} has columns {sorted(found)}"
        for key in keys:
            kinds = {type(value) for value in got[key]}
            assert kinds == {type(typed[key][0])}, f"{root}: {reader} reads {key} as {kinds}"
        ours, theirs = ordered, in_order(got, compared)
        if reader == "pandas":
            missing = lambda row: tuple(None if value == "NaN" else value for value in row)
            ours, theirs = (sorted(map(missing, rows), key=repr) for rows in (ours, theirs))
        assert len(ours) == len(theirs), f"{root}: {reader} has {len(theirs)} rows of {len(ours)}"
        for a, b in zip(ours, theirs):
            assert a == b, f"{root}: {reader} reads {b!r}, pyarrow {a!r}"
    what = "the same" if compared == names else "as many, with the same axes,"
    by = ", ".join(keys)
    print(f"{root}: {rows} rows of {len(paths)} files by {by}, {what} by all readers")


for folder in map(pathlib.Path, sys.argv[1:]):
    if (folder / "data").is_dir():
        for root in sorted(path for path in (folder / "data").iterdir() if path.is_dir()):
            check_data_set(root)
        continue
    paths = sorted(folder.glob("*.parquet"))
    assert paths, f"{folder} has no tables"
    for path in paths:
        check(path)
