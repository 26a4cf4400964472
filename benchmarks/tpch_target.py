"""TPC-H as a target: a server, tables with primary keys only, and the 22 queries as a folder of files.

Rows come from `tpchgen-cli`, queries from the extension of the matching duckdb (`pip install --group tpch`).
Settings are those under which the figures of other tools were measured, see PEERS in tpch.py.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "shared_buffers": "1GB",
    "work_mem": "32MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # Nothing that starts by itself may fall into one of the two arms.
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "16GB",
    "fsync": "off",
}
DATABASE = "tpch"

TABLES = {
    "region": """r_regionkey integer PRIMARY KEY, r_name char(25) NOT NULL, r_comment varchar(152)""",
    "nation": """n_nationkey integer PRIMARY KEY, n_name char(25) NOT NULL, n_regionkey integer NOT NULL,
        n_comment varchar(152)""",
    "part": """p_partkey integer PRIMARY KEY, p_name varchar(55) NOT NULL, p_mfgr char(25) NOT NULL,
        p_brand char(10) NOT NULL, p_type varchar(25) NOT NULL, p_size integer NOT NULL,
        p_container char(10) NOT NULL, p_retailprice numeric(15, 2) NOT NULL,
        p_comment varchar(23) NOT NULL""",
    "supplier": """s_suppkey integer PRIMARY KEY, s_name char(25) NOT NULL, s_address varchar(40) NOT NULL,
        s_nationkey integer NOT NULL, s_phone char(15) NOT NULL, s_acctbal numeric(15, 2) NOT NULL,
        s_comment varchar(101) NOT NULL""",
    "partsupp": """ps_partkey integer, ps_suppkey integer, ps_availqty integer NOT NULL,
        ps_supplycost numeric(15, 2) NOT NULL, ps_comment varchar(199) NOT NULL,
        PRIMARY KEY (ps_partkey, ps_suppkey)""",
    "customer": """c_custkey integer PRIMARY KEY, c_name varchar(25) NOT NULL, c_address varchar(40) NOT NULL,
        c_nationkey integer NOT NULL, c_phone char(15) NOT NULL, c_acctbal numeric(15, 2) NOT NULL,
        c_mktsegment char(10) NOT NULL, c_comment varchar(117) NOT NULL""",
    "orders": """o_orderkey integer PRIMARY KEY, o_custkey integer NOT NULL, o_orderstatus char(1) NOT NULL,
        o_totalprice numeric(15, 2) NOT NULL, o_orderdate date NOT NULL, o_orderpriority char(15) NOT NULL,
        o_clerk char(15) NOT NULL, o_shippriority integer NOT NULL, o_comment varchar(79) NOT NULL""",
    "lineitem": """l_orderkey integer, l_partkey integer NOT NULL, l_suppkey integer NOT NULL,
        l_linenumber integer, l_quantity numeric(15, 2) NOT NULL, l_extendedprice numeric(15, 2) NOT NULL,
        l_discount numeric(15, 2) NOT NULL, l_tax numeric(15, 2) NOT NULL, l_returnflag char(1) NOT NULL,
        l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL,
        l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL,
        l_comment varchar(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber)""",
}


def fill(dsn: str, *, scale: float) -> None:
    """Make the tables in the empty database of `dsn`, fill them by COPY, VACUUM ANALYZE."""
    with tempfile.TemporaryDirectory() as folder:
        command = [_generator(), "csv", "-s", f"{scale:g}", f"--output-dir={folder}"]
        subprocess.run(command, check=True, capture_output=True)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            for table, columns in TABLES.items():
                connection.execute(f"CREATE TABLE {table} ({columns})".encode())
                _copy(connection, table, Path(folder) / f"{table}.csv")
            connection.execute("VACUUM ANALYZE")


def write_queries(folder: Path) -> dict[str, str]:
    """Write q01.sql to q22.sql as the extension has them; returns the texts by name."""
    import duckdb  # of the group tpch, which a smoke test may do without

    queries: dict[str, str] = {}
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{_extension()}'")
        for number, text in connection.execute("SELECT query_nr, query FROM tpch_queries()").fetchall():
            name = f"q{number:02}"
            queries[name] = text
            (folder / f"{name}.sql").write_text(text, encoding="utf-8")
    return queries


def _copy(connection: psycopg.Connection, table: str, path: Path) -> None:
    copy = sql.SQL("COPY {} FROM STDIN (FORMAT csv, HEADER)").format(sql.Identifier(table))
    with path.open("rb") as rows, connection.cursor().copy(copy) as target:
        while block := rows.read(1 << 20):
            target.write(block)


def _generator() -> str:
    found = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent)) or shutil.which("tpchgen-cli")
    if found is None:
        raise SystemExit("tpchgen-cli is not installed; it comes with `pip install --group tpch`")
    return found


def _extension() -> Path:
    """The file that LOAD takes; its folder is named after the duckdb that it was built for."""
    spec = importlib.util.find_spec("duckdb_extension_tpch")
    if spec is None or spec.origin is None:
        raise SystemExit("duckdb-extension-tpch is not installed; it comes with `pip install --group tpch`")
    return next(Path(spec.origin).parent.rglob("tpch.duckdb_extension"))
