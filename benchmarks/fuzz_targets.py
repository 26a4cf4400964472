"""What is fuzzed: each parser with the real input that its mutations start from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.fuzz_mutations import mutated, mutated_document
from perfloop.adapters.connection import safe_dsn
from perfloop.adapters.statements import parameter_count, statement_kind, without_prepare
from perfloop.analyze.expressions import condition_text, wraps_a_column
from perfloop.analyze.reading import PlanReading
from perfloop.analyze.self_time import weigh
from perfloop.analyze.smells import SMELLS
from perfloop.analyze.syntax import longest_list, parse_condition, parse_statement
from perfloop.database.knobs import refuse, same_value
from perfloop.errors import InvalidInput, PerfloopError
from perfloop.model.advice import SettingScope
from perfloop.model.plan import Plan, read_plan
from perfloop.model.snapshot import Snapshot
from perfloop.model.target import Setting
from perfloop.model.units import size_bytes
from perfloop.model.value import from_json
from perfloop.tune.advisor.accesses import read_accesses
from perfloop.tune.advisor.conditions import canonical, columns_in, read_conditions, read_order
from perfloop.tune.advisor.predicates import read_written
from perfloop.tune.rewrites.texts import called_names, read
from perfloop.validate.expressions import evaluate
from perfloop.validate.literals import as_type, default_value, fresh_value, literal, operand
from perfloop.validate.log_prefix import LinePrefix
from perfloop.validate.normaliser import normalised, shape_key
from perfloop.validate.operations import query_id, touches_nothing
from perfloop.validate.parameters import draw_instances
from perfloop.validate.pgbench_script import is_pgbench, read_script
from perfloop.validate.server_log import LogOptions, read_logs
from perfloop.validate.sql_folder import read_statements, read_text
from perfloop.validate.tokens import parameter_numbers, split_statements, tokens, with_parameters

HERE = Path(__file__).resolve().parents[1]
PLANS = tuple(path.read_bytes() for path in sorted((HERE / "tests/unit/data/plans").glob("*.json")))
LOGS = tuple(path.read_bytes() for path in sorted((HERE / "tests/unit/data/logs").iterdir()))
SQL = (
    *(path.read_bytes()[:20_000] for path in sorted((HERE / "examples").rglob("*.sql"))),
    *(HERE / "tests/integration/odd_statements.sql").read_bytes().splitlines(),
)
SCRIPTS = (
    b"\\set aid random(1, 100000 * :scale)\n\\set d random_gaussian(1, 10, 2.5)\nBEGIN;\n"
    b"UPDATE pgbench_accounts SET abalance = abalance + :d WHERE aid = :aid;\n"
    b"SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\nEND;\n",
    b"\\set a 1 + 2 * abs(-3) % 4 \\\n + greatest(1, sqrt(:scale))\n"
    b"SELECT :a, x[1:2], 'a:b', b::int FROM t;\n\\sleep 1 ms",
)
EXPRESSIONS = (
    b"random(1, 100 * :scale)",
    b"1 + 2 * -3 % 4",
    b"greatest(1, sqrt(2), pi())",
    b"random_zipfian(1, 9, 1.1)",
)
DSNS = (
    b"postgresql://u:p%40@h:5432,h2/db?sslmode=require",
    b"host=/run dbname='a b' password=s\\'x",
    b"postgres:///x",
)
VALUES = (
    b"64MB",
    b"0.5",
    b"on",
    b"-1",
    b"1.5h",
    b"'a', \"b\"",
    b"2147483648",
    b"2026-01-01 00:00:00+00",
    b"{1,2}",
    b"it's",
)
PREFIXES = (
    b"%m [%p] %q%u@%d %Q ",
    b"%t:%r:%u@%d:[%p]:",
    b"%-10p %c %l %n %% user=%u,db=%d,app=%a,client=%h ",
)


class Target(NamedTuple):
    """A parser, the real input for it, and how the input is damaged."""

    run: Callable[[bytes], object]
    corpus: Sequence[bytes]
    mutate: Callable[[Sequence[bytes], Random], bytes] = mutated


@cache
def snapshot() -> Snapshot:
    """The tables that statements and plans are read against."""
    return from_json((HERE / "tests/unit/data/snapshot.json").read_bytes(), Snapshot)


def run_plan(content: bytes) -> None:
    plan = read_plan(document(content))
    known = snapshot()
    reading = PlanReading(snapshot=known, query_id="1", instance="SELECT 1", plan=plan, weighed=weigh(plan))
    _ = plan.shape, plan.relations, plan.counters
    for smell in SMELLS:
        for _site in smell.find(reading):
            pass
    tried(read_accesses, plan, {table.name: table for table in known.tables})


def document(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidInput(f"no JSON: {error}") from error


def run_condition(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    table = snapshot().tables[0]
    for read_one in (read_conditions, read_order, columns_in, canonical, parse_condition, condition_text):
        tried(read_one, text)
    tried(wraps_a_column, text, tuple(column.name for column in table.columns))


def run_sql(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    for read_one in (
        statement_kind, parameter_count, without_prepare, query_id, shape_key, touches_nothing, longest_list,
        parameter_numbers, split_statements, normalised, parse_statement, read, called_names,
    ):  # fmt: skip
        tried(read_one, text)
    tried(read_written, text, (text,))
    assert "".join(token.text for token in tokens(text)) == text
    with_parameters(text, {1: "'x'"})


def run_draws(content: bytes) -> None:
    text = content.decode("utf-8", "replace")[:5_000]
    for part in split_statements(text)[:5]:
        tried(draw, part)


def run_file(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".sql") as file:
        file.write(content)
        file.flush()
        text = read_text(Path(file.name))
    tried(read_statements, text, "name")
    if is_pgbench(text, ".sql"):
        tried(script, text)


def run_expression(content: bytes) -> None:
    evaluate(content.decode("utf-8", "replace"), {"scale": 10}, Random(1))


def run_log(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        reading = read_logs([Path(file.name)], LogOptions(database="postgres"))
    assert all(each.calls > 0 and each.total_s >= 0 for each in reading.statements)


def run_prefix(content: bytes) -> None:
    prefix = LinePrefix(content.decode("utf-8", "replace"))
    for log in LOGS[:1]:
        for line in log.decode().splitlines()[:20]:
            prefix.read(line)


def run_dsn(content: bytes) -> None:
    safe_dsn(content.decode("utf-8", "surrogateescape"))


def run_value(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape")
    tried(size_bytes, text)
    for kind, unit in (("integer", "8kB"), ("real", None), ("bool", None), ("enum", None), ("integer", "ms")):
        setting = Setting(
            name="work_mem",
            value="64",
            unit=unit,
            context="user",
            kind=kind,
            minimum=0,
            maximum=1e9,
            choices=("on", "off"),
        )
        tried(refuse, "work_mem", text, SettingScope.DATABASE, setting)
        tried(same_value, setting, text)
    for name in ("integer", "numeric", "text", "date", "jsonb", "int[]", "uuid", "character(3)", text[:40]):
        for of in ("integer", "timestamp with time zone", "text"):
            as_type(text, name, of=of)
        _ = literal(text, name), operand(text, name), default_value(name, 3)
        tried(fresh_value, name, text, Random(1))


def run_stored(content: bytes) -> None:
    from_json(content, Snapshot)


def draw(text: str) -> None:
    draw_instances(text, snapshot(), rng=Random(1), count=2)


def script(text: str) -> None:
    read_script(text, "name", snapshot(), calls=1.0, instances=2, rng=Random(1))


def tried(parse: Callable[..., object], *arguments: object) -> None:
    """One of several parsers of an input: where it refuses the input, the next one gets it all the same."""
    try:
        parse(*arguments)
    except PerfloopError:
        return


def plan_texts(plan: Plan) -> list[str]:
    """The conditions and keys of a plan."""
    values = (
        value for node in plan.root.walk() for name, value in node.fields.items() if _is_condition(name)
    )
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [each for each in flat if isinstance(each, str)]


def _is_condition(name: str) -> bool:
    return name in ("Filter", "Sort Key", "Group Key", "Output") or name.endswith("Cond")


CONDITIONS = tuple(
    dict.fromkeys(text.encode() for plan in PLANS for text in plan_texts(read_plan(json.loads(plan))))
)
TARGETS = {
    "plan": Target(run_plan, PLANS, mutated_document),
    "conditions": Target(run_condition, CONDITIONS),
    "sql": Target(run_sql, SQL),
    "draws": Target(run_draws, SQL),
    "files": Target(run_file, (*SQL, *SCRIPTS)),
    "scripts": Target(run_file, SCRIPTS),
    "expressions": Target(run_expression, EXPRESSIONS),
    "logs": Target(run_log, LOGS),
    "prefixes": Target(run_prefix, PREFIXES),
    "dsns": Target(run_dsn, DSNS),
    "values": Target(run_value, VALUES),
    "stored": Target(run_stored, ((HERE / "tests/unit/data/snapshot.json").read_bytes(),), mutated_document),
}
