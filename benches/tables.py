"""The tables that are carried: the bank's transactions, out of the demo's own files, and values of
megabytes."""
import os
import random
import re

import yaml

from harness import bank as bank_files
from harness.bank import FILES, Bank

TRANSACTIONS = "public.transactions"
BANK = "bank"
MEGABYTE = 2**20
DOCUMENTS_SQL = """
CREATE TABLE public.documents (
    id bigint PRIMARY KEY,
    title text NOT NULL,
    content bytea NOT NULL
);
-- Random bytes do not get smaller; so neither side spends its time on trying.
ALTER TABLE public.documents ALTER COLUMN content SET STORAGE EXTERNAL;
"""
DOCUMENTS_YAML = "tables:\n  public.documents: {shard_by: id}\n"


def table_sql(path, name=TRANSACTIONS):
    """One table of a schema, alone: without the keys to other tables, and in one piece, because the
    peer's is one table too."""
    text = path.read_text(encoding="utf-8")
    body = re.search(rf"^CREATE TABLE {re.escape(name)} \(\n.*?\n\)", text, re.MULTILINE | re.DOTALL)
    return re.sub(r" REFERENCES [\w.]+ \(\w+\)", "", body[0]) + ";\n"


def source_sql():
    return table_sql(FILES / "source.sql")


def target_sql():
    return table_sql(FILES / "target.sql")


def mapping_yaml():
    """The bank's own mapping of its transactions; partitions are left out on both sides."""
    bank = yaml.safe_load((FILES / "portage.yaml.in").read_text(encoding="utf-8"))
    mapping = {**bank["tables"][TRANSACTIONS], "shard_by": "user_id"}
    del mapping["partition_by"]
    return yaml.safe_dump({"tables": {TRANSACTIONS: mapping}})


def identity_yaml():
    mapping = {"shard_by": "customer_id", "shard_key": "immutable"}
    return yaml.safe_dump({"tables": {TRANSACTIONS: mapping}})


def mapped_select(plan):
    """The mapping as one SELECT: each expression cast to its target column's type, as ours is.
    `plan` is what `pgportage --json plan` says."""
    table = next(table for table in plan["tables"] if table["name"] == TRANSACTIONS)
    columns = ", ".join(f'({column["expression"]})::{column["target_type"]} AS {column["target"]}'
                        for column in table["columns"])
    return f"SELECT {columns} FROM {table['from']}"


def load_bank(server, folder, rows):
    bank_files.create_source(server, BANK)
    Bank(folder).load(server.dsn(BANK), rows)


def load_documents(server, database, count, seed=1):
    """Values of 1 to 10 megabytes; gives the bytes of all and of the largest."""
    dice = random.Random(seed)
    sizes = [dice.randint(MEGABYTE, 10 * MEGABYTE) for _ in range(count)]
    with server.connect(database) as conn, conn.cursor() as cursor:
        with cursor.copy("COPY public.documents FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "text", "bytea"])
            for number, size in enumerate(sizes, 1):
                copy.write_row([number, f"document {number}", os.urandom(size)])
        cursor.execute("VACUUM ANALYZE public.documents")
    return sum(sizes), max(sizes)
