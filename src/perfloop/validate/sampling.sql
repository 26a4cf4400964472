-- What the workload reader asks a target, in read-only transactions of its own.

-- name: limit_time
-- A sample is a convenience; it may not hold the target up.
SELECT pg_catalog.set_config('statement_timeout', '2s', true)

-- name: sample_column
-- Some values of one column from about 50 pages all over the table; long ones make no parameters.
SELECT {column}::text AS value
FROM {table} TABLESAMPLE SYSTEM (
    (SELECT least(100.0, 100.0 * 50 * 8192 / greatest(1, pg_relation_size(%s::regclass))))
) REPEATABLE (1)
WHERE {column} IS NOT NULL AND length({column}::text) <= 1000
LIMIT 5000

-- name: first_of_column
-- The first values of one column, for tables so small that a sample of pages may be empty.
SELECT {column}::text AS value
FROM {table}
WHERE {column} IS NOT NULL AND length({column}::text) <= 1000
LIMIT 50

-- name: type_names
-- Types by number, in order, as casts write them.
SELECT format_type(asked.oid, NULL) AS name
FROM unnest(%s::oid[]) WITH ORDINALITY AS asked (oid, position)
ORDER BY asked.position
