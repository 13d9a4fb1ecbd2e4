"""Compares a source with its shards, row by row, as portage.yaml says they must be.

Shares nothing with pgportage: the servers evaluate the mapping, psql carries the rows, sort and comm
find what differs, satisfies_hash_partition() says where a row belongs. Both sides must be at rest.

    python3 compare.py portage.yaml [--source DSN --shard DSN --shard DSN …]
"""
import argparse
import concurrent.futures
import dataclasses
import fnmatch
import functools
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import psycopg
import yaml

PINNED = {
    "search_path": "", "datestyle": "ISO", "intervalstyle": "postgres", "timezone": "UTC",
    "extra_float_digits": "3", "bytea_output": "hex", "lc_monetary": "C", "xmloption": "content",
    "statement_timeout": "0", "lock_timeout": "0", "row_security": "off", "jit": "off",
    "idle_in_transaction_session_timeout": "0", "client_encoding": "UTF8",
}
OPTIONS = " ".join(f"-c {name}={value}" for name, value in PINNED.items())
LONG_VALUE = 4000  # bytes of text from which on a digest stands for the value
EXAMPLES_MAX = 20  # differences kept, per table
TOLD_MAX = 3  # of them told in a text
LINES_MAX = 200_000  # differing lines looked at, per table

# Types whose length or scale rounds a value on assignment, as an INSERT would. The others refuse a
# value that is too long, while an explicit cast would cut it: for them the length is left out.
ROUNDED = ("numeric", "timestamp", "timestamptz", "time", "timetz", "interval")

COLUMNS_SQL = """
WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid AS type, a.atttypmod AS typmod
      FROM pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = %(table)s
    UNION ALL
    SELECT base.attrelid, base.attnum, base.attname, t.typbasetype,
           CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE base.typmod END
      FROM base JOIN pg_type t ON t.oid = base.type AND t.typtype = 'd')
SELECT base.attname, g.generated,
       format_type(t.oid, CASE WHEN coalesce(e.typname, t.typname) = ANY (%(rounded)s)
                               THEN base.typmod ELSE -1 END)
  FROM base JOIN pg_type t ON t.oid = base.type AND t.typtype <> 'd'
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typlen = -1
  JOIN (SELECT attrelid, attnum, attgenerated <> '' AS generated FROM pg_attribute) AS g
    ON g.attrelid = base.attrelid AND g.attnum = base.attnum
 ORDER BY base.attnum"""

# Of the primary key, or else of the replica identity.
KEY_SQL = """
SELECT a.attname, a.attnum
  FROM (SELECT indrelid, indkey FROM pg_index
         WHERE indrelid = %s AND (indisprimary OR indisreplident)
         ORDER BY indisprimary DESC LIMIT 1) AS i
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
 ORDER BY array_position(i.indkey::int2[], a.attnum)"""

TABLES_SQL = """
SELECT n.nspname, c.relname, c.oid, format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'portage')
   AND n.nspname NOT LIKE 'pg\\_%'
 ORDER BY 1, 2"""


class CompareError(Exception):
    """The comparison could not be made; says nothing about the rows."""


@dataclasses.dataclass
class Difference:
    table: str
    kind: str  # missing, extra, different, doubled, wrong shard
    key: str
    source: str = ""
    target: str = ""

    def __str__(self):
        text = f"{self.kind}: {self.key}"
        if self.source:
            text += f"\n    source  {shortened(self.source)}"
        if self.target:
            text += f"\n    target  {shortened(self.target)}"
        return text


@dataclasses.dataclass
class TableResult:
    table: str
    rows_source: int = 0
    rows_target: int = 0
    counts: dict = dataclasses.field(default_factory=dict)  # kind: how many
    examples: list = dataclasses.field(default_factory=list)
    cut: bool = False  # there were more differing lines than were looked at

    def add(self, kind, key, source="", target="", count=1):
        self.counts[kind] = self.counts.get(kind, 0) + count
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(Difference(self.table, kind, key, source, target))


@dataclasses.dataclass
class Comparison:
    tables: list

    @property
    def differences(self):
        return sum(sum(table.counts.values()) for table in self.tables)

    @property
    def counts(self):
        total = {}
        for table in self.tables:
            for kind, count in table.counts.items():
                total[kind] = total.get(kind, 0) + count
        return total

    @property
    def rows(self):
        return sum(table.rows_source for table in self.tables)

    @property
    def examples(self):
        return [example for table in self.tables for example in table.examples]

    def __str__(self):
        least = "at least " if any(table.cut for table in self.tables) else ""
        text = (f"{len(self.tables)} tables, {self.rows} source rows,"
                f" {least}{self.differences} differences")
        lines = [text]
        for table in self.tables:
            if table.counts:
                counts = ", ".join(f"{count} {kind}" for kind, count in table.counts.items())
                lines.append(f"{table.table}: {table.rows_source} source rows,"
                             f" {table.rows_target} target rows: {counts}")
                lines += [f"  {example}" for example in table.examples[:TOLD_MAX]]
        return "\n".join(lines)


@dataclasses.dataclass
class Part:
    """One select over one source table."""
    origin: str  # the source table, in SQL
    select: str
    where: str


@dataclasses.dataclass
class Target:
    """A target table and all that feeds it."""
    name: str
    oid: int
    parts: list
    shard_by: str  # a column, "everywhere", or None with a single shard


def shortened(text, limit=300):
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def connect(dsn):
    return psycopg.connect(dsn, autocommit=True, options=OPTIONS)


def pattern_parts(pattern):
    schema, name = re.fullmatch(r'("[^"]*"|[^.]*)\.(.*)', pattern).groups()
    return schema.strip('"'), name.strip('"')


class Mapping:
    """What portage.yaml says, bound to the tables that are there."""

    def __init__(self, config, source, shard, shards_count):
        self.config, self.source, self.shard = config, source, shard
        self.shards_count = shards_count
        default = config.get("shard_by") or []
        self.shard_by_default = [default] if isinstance(default, str) else default

    def targets(self):
        tables = self.shard.execute(TABLES_SQL).fetchall()
        by_oid = {oid: name for _, _, oid, name in tables}
        entries = {}
        for written, entry in self.config["tables"].items():
            if "*" not in written:
                entries[self.resolve(self.shard, written)] = entry
        for written, entry in self.config["tables"].items():
            if "*" in written:
                schema_pattern, name_pattern = pattern_parts(written)
                for schema, name, oid, _ in tables:
                    if (oid not in entries and fnmatch.fnmatchcase(schema, schema_pattern)
                            and fnmatch.fnmatchcase(name, name_pattern)):
                        entries[oid] = entry
        return [self.target(by_oid[oid], oid, entry) for oid, entry in entries.items()]

    def resolve(self, conn, table):
        oid = conn.execute("SELECT to_regclass(%s)::oid", [table]).fetchone()[0]
        if oid is None:
            raise CompareError(f"there is no table {table} in {conn.info.dbname}")
        return oid

    def target(self, name, oid, entry):
        entries = entry if isinstance(entry, list) else [entry]
        entries = [{} if one == "identical" or one is None else one for one in entries]
        parts = [self.part(name, oid, one) for one in entries]
        return Target(name, oid, parts, self.shard_by(name, oid, entries))

    def part(self, name, oid, entry):
        origin = entry.get("from") or name
        select = entry.get("select")
        if select is None or select == "identical":
            select = self.identical(origin, oid)
        return Part(origin, select, entry.get("where"))

    def identical(self, origin, oid):
        """A column that the target generates may be new."""
        there = {column.name for column in columns_of(self.source, self.resolve(self.source, origin))}
        return ", ".join(quoted(column.name) for column in columns_of(self.shard, oid)
                         if column.name in there or not column.generated)

    def shard_by(self, name, oid, entries):
        for entry in entries:
            if entry.get("shard_by"):
                return unquoted(entry["shard_by"])
        columns = [column.name for column in columns_of(self.shard, oid)]
        for column in self.shard_by_default:
            if unquoted(column) in columns:
                return unquoted(column)
        if self.shards_count > 1:
            raise CompareError(f"{name} has no shard_by")
        return None


def unquoted(name):
    if name.startswith('"') and name.endswith('"'):
        return name[1:-1].replace('""', '"')
    return name


@dataclasses.dataclass
class Column:
    name: str
    generated: bool
    type: str


def columns_of(conn, oid):
    rows = conn.execute(COLUMNS_SQL, {"table": oid, "rounded": list(ROUNDED)}).fetchall()
    return [Column(*row) for row in rows]


def select_of(part):
    where = f" WHERE {part.where}" if part.where else ""
    return f"SELECT {part.select} FROM {part.origin}{where}"


def as_text(expression):
    text = f"({expression})::text"
    return (f"CASE WHEN octet_length({text}) > {LONG_VALUE} THEN 'md5 ' || md5({text})"
            f" || ' of ' || octet_length({text}) ELSE {text} END")


def described(source, part):
    """Names of the select list, and those of them that are the source's key; None: not mapped as is."""
    result = source.execute(select_of(dataclasses.replace(part, where="false"))).pgresult
    names = [result.fname(i).decode() for i in range(result.nfields)]
    # The server says which results are plain columns of a table.
    plain = {(result.ftable(i), result.ftablecol(i)): name for i, name in enumerate(names)}
    oid = source.execute("SELECT to_regclass(%s)::oid", [part.origin]).fetchone()[0]
    key = [plain.get((oid, attnum)) for _, attnum in source.execute(KEY_SQL, [oid])]
    return names, key


class Table:
    """The comparison of one target table."""

    def __init__(self, target, source_dsn, shard_dsns, folder):
        self.target, self.source_dsn, self.shard_dsns = target, source_dsn, shard_dsns
        self.folder = folder
        self.result = TableResult(target.name)

    def compare(self):
        with connect(self.source_dsn) as source, connect(self.shard_dsns[0]) as shard:
            self.bind(source, shard)
        wanted = self.sorted_rows("source", [(self.source_dsn, sql) for sql in self.source_sql])
        self.result.rows_source = count_lines(wanted)
        if self.target.shard_by == "everywhere":
            for number, dsn in enumerate(self.shard_dsns):
                self.compare_rows(wanted, [dsn], f"shard {number}: ")
        else:
            self.compare_rows(wanted, self.shard_dsns, "")
            if len(self.shard_dsns) > 1:
                self.compare_placement()
        return self.result

    def bind(self, source, shard):
        """Chooses columns and key, and writes the statements for both sides."""
        types = {column.name: column.type for column in columns_of(shard, self.target.oid)}
        described_parts = [described(source, part) for part in self.target.parts]
        for names, _ in described_parts:
            unknown = [name for name in names if name not in types]
            if unknown:
                raise CompareError(f"{self.target.name} has no column {', '.join(unknown)}")
        self.columns = [name for name in types
                        if all(name in names for names, _ in described_parts)]
        self.key = self.choose_key(shard, described_parts)
        self.key_indexes = [self.columns.index(name) for name in self.key]
        self.source_sql = [self.source_select(source, part, types) for part in self.target.parts]
        values = ", ".join(as_text(quoted(name)) for name in self.columns)
        self.target_sql = f"SELECT {values} FROM {self.target.name}"
        self.shard_type = types.get(self.target.shard_by)

    def choose_key(self, shard, described_parts):
        # The source's key tells more than the target's, which may be wider (R15).
        _, key = described_parts[0]
        if len(described_parts) == 1 and key and None not in key:
            return key
        key = [name for name, _ in shard.execute(KEY_SQL, [self.target.oid])]
        return key if key and all(name in self.columns for name in key) else self.columns

    def source_select(self, source, part, types):
        values = []
        for name in self.columns:
            known = source.execute("SELECT to_regtype(%s) IS NOT NULL",
                                   [re.sub(r"\(.*?\)", "", types[name])]).fetchone()[0]
            cast = f"::{types[name]}" if known else ""
            values.append(as_text(f"mapped.{quoted(name)}{cast}"))
        return f"SELECT {', '.join(values)} FROM ({select_of(part)}) AS mapped"

    def sorted_rows(self, name, selects):
        """Runs the selects, one after another, and sorts all their rows bytewise into a file."""
        path = self.folder / f"{self.target.oid}.{name}"
        with open(path, "wb") as out:
            sort = subprocess.Popen(["sort", "-S", "256M", "-T", self.folder],
                                    stdin=subprocess.PIPE, stdout=out,
                                    env={**os.environ, "LC_ALL": "C"})
            try:
                for dsn, sql in selects:
                    copy_rows(dsn, sql, sort.stdin)
            finally:
                sort.stdin.close()
                status = sort.wait()
        if status != 0:
            raise CompareError(f"sort failed on {self.target.name}")
        return path

    def compare_rows(self, wanted, dsns, prefix):
        found = self.sorted_rows("target", [(dsn, self.target_sql) for dsn in dsns])
        self.result.rows_target += count_lines(found)
        missing, extra = differing_lines(wanted, found)
        self.result.cut |= LINES_MAX in (len(missing), len(extra))
        if missing or extra:
            self.classify(wanted, found, missing, extra, prefix)
        found.unlink()

    def classify(self, wanted, found, missing, extra, prefix):
        missing_by_key, extra_by_key = self.by_key(missing), self.by_key(extra)
        keys = set(missing_by_key) | set(extra_by_key)
        wanted_counts, found_counts = self.counts_of(wanted, keys), self.counts_of(found, keys)
        for key in sorted(keys):
            sources, targets = missing_by_key.get(key, []), extra_by_key.get(key, [])
            expected, present = wanted_counts.get(key, 0), found_counts.get(key, 0)
            label = prefix + self.key_text(key)
            paired = min(len(sources), len(targets))
            for source, target in zip(sources[:paired], targets[:paired]):
                self.result.add("different", label, *self.only_differing(source, target))
            for source in sources[paired:]:
                self.result.add("missing", label, source=source.decode(errors="replace"))
            kind = "doubled" if expected > 0 and present > expected else "extra"
            for target in targets[paired:]:
                self.result.add(kind, label, target=target.decode(errors="replace"))

    def only_differing(self, source, target):
        sides = source.split(b"\t"), target.split(b"\t")
        differ = [i for i in range(len(self.columns)) if sides[0][i] != sides[1][i]]
        return [", ".join(f"{self.columns[i]} = {side[i].decode(errors='replace')}" for i in differ)
                for side in sides]

    def key_of(self, line):
        fields = line.split(b"\t")
        return tuple(fields[i] for i in self.key_indexes)

    def key_text(self, key):
        return ", ".join(f"{name} = {value.decode(errors='replace')}"
                         for name, value in zip(self.key, key))

    def by_key(self, lines):
        grouped = {}
        for line in lines:
            grouped.setdefault(self.key_of(line), []).append(line)
        return grouped

    def counts_of(self, path, keys):
        counts = {}
        with open(path, "rb") as lines:
            for line in lines:
                key = self.key_of(line.rstrip(b"\n"))
                if key in keys:
                    counts[key] = counts.get(key, 0) + 1
        return counts

    def compare_placement(self):
        """Every row is on the shard that PostgreSQL's hash partitioning names."""
        column, modulus = quoted(self.target.shard_by), len(self.shard_dsns)
        key = " || ', ' || ".join(
            f"{literal(name + ' = ')} || coalesce({quoted(name)}::text, 'NULL')" for name in self.key)
        for number, dsn in enumerate(self.shard_dsns):
            with connect(dsn) as shard:
                shard.execute(f"CREATE TEMP TABLE placement (k {self.shard_type})"
                              " PARTITION BY HASH (k)")
                misplaced = (
                    f"FROM {self.target.name} AS t WHERE NOT satisfies_hash_partition("
                    f"'pg_temp.placement'::regclass, {modulus}, {number},"
                    f" t.{column}::{self.shard_type})")
                count = shard.execute(f"SELECT count(*) {misplaced}").fetchone()[0]
                if count > 0:
                    example = shard.execute(f"SELECT {key} {misplaced} LIMIT 1").fetchone()[0]
                    self.result.add("wrong shard", f"shard {number}: {example}", count=count)


def copy_rows(dsn, sql, out):
    psql = subprocess.run(
        ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", f"COPY ({sql}) TO STDOUT"],
        stdout=out, stderr=subprocess.PIPE, env={**os.environ, "PGOPTIONS": OPTIONS}, check=False)
    if psql.returncode != 0:
        raise CompareError(f"{psql.stderr.decode(errors='replace').strip()}\nin {shortened(sql)}")


def count_lines(path):
    return int(subprocess.run(["wc", "-l", path], capture_output=True, check=True).stdout.split()[0])


def differing_lines(wanted, found):
    """Lines only on the left and only on the right; a repeated line counts each time."""
    return lines_of_comm("-23", wanted, found), lines_of_comm("-13", wanted, found)


def lines_of_comm(columns, wanted, found):
    with subprocess.Popen(["comm", columns, wanted, found], stdout=subprocess.PIPE,
                          env={**os.environ, "LC_ALL": "C"}) as comm:
        lines = [line.rstrip(b"\n") for line in itertools.islice(comm.stdout, LINES_MAX)]
        comm.kill()  # it may have more to say than we look at
    return lines


def compare(config_path, source=None, shards=None, folder=None, workers=2):
    """Compares everything that portage.yaml names. DSNs override those in the file."""
    config = yaml.safe_load(pathlib.Path(config_path).read_text(encoding="utf-8"))
    source = source or config["source"]
    shards = shards or config["target"]["shards"]
    with connect(source) as source_conn, connect(shards[0]) as shard_conn:
        targets = Mapping(config, source_conn, shard_conn, len(shards)).targets()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="compare-", dir=folder))
    try:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            run = functools.partial(compare_table, source, shards, scratch)
            return Comparison(list(pool.map(run, targets)))
    finally:
        shutil.rmtree(scratch)


def compare_table(source, shards, folder, target):
    return Table(target, source, shards, folder).compare()


def main():
    parser = argparse.ArgumentParser(description="Compare a source with its shards, row by row.")
    parser.add_argument("config")
    parser.add_argument("--source")
    parser.add_argument("--shard", action="append")
    options = parser.parse_args()
    comparison = compare(options.config, options.source, options.shard)
    print(comparison)
    return 1 if comparison.differences else 0


if __name__ == "__main__":
    sys.exit(main())
