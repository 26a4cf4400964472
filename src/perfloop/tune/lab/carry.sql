-- name: mark_invalid
-- Make an index what a failed CREATE INDEX CONCURRENTLY leaves: unused by plans, maintained only if ready.
UPDATE pg_index SET indisvalid = false, indisready = %(is_ready)s
WHERE indexrelid = format('%%I.%%I', %(schema)s::text, %(name)s::text)::regclass

-- name: set_row_count
-- Put the target's estimate of the number of rows in place of the fresh one.
UPDATE pg_class SET reltuples = %(rows)s
WHERE oid = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass

-- name: forget_column
-- Remove a column's statistics, as on a table that was never analysed.
DELETE FROM pg_statistic USING pg_attribute
WHERE starelid = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass
  AND attrelid = starelid AND attnum = staattnum AND attname = %(column)s

-- name: set_column
-- Put the target's null ratio, width and distinct count of a column in place of the fresh ones.
UPDATE pg_statistic
SET stanullfrac = %(null_ratio)s, stawidth = %(width_bytes)s, stadistinct = %(distinct)s
FROM pg_attribute
WHERE starelid = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass
  AND attrelid = starelid AND attnum = staattnum AND attname = %(column)s

-- name: set_slot
-- Put the target's common values or histogram into the slot where the fresh statistics hold theirs.
UPDATE pg_statistic
SET {values} = array_in(%(values)s::text[]::text::cstring, atttypid, atttypmod), {numbers} = %(numbers)s::real[]
FROM pg_attribute
WHERE starelid = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass
  AND attrelid = starelid AND attnum = staattnum AND attname = %(column)s AND {kind} = %(kind)s

-- name: clear_slot
-- Empty a slot that only the fresh statistics have.
UPDATE pg_statistic SET {kind} = 0, {values} = NULL, {numbers} = NULL
FROM pg_attribute
WHERE starelid = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass
  AND attrelid = starelid AND attnum = staattnum AND attname = %(column)s AND {kind} = %(kind)s

-- name: row_counts
-- The planner's estimates of the numbers of rows, of all tables that are not the server's own.
SELECT c.oid, c.reltuples::float8 AS rows
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')

-- name: restore_row_counts
-- Put those estimates back.
UPDATE pg_class SET reltuples = kept.rows
FROM unnest(%s::oid[], %s::real[]) AS kept (id, rows)
WHERE oid = kept.id AND reltuples <> kept.rows
