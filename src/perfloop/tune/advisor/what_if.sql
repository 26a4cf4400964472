-- name: explain
-- The plan of a statement that is not run, with every column qualified.
EXPLAIN (VERBOSE, FORMAT JSON) {statement};

-- name: has_hypopg
-- Whether the server could load HypoPG.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'hypopg');

-- name: means
-- Whether the server could load HypoPG, and whether the session may edit the catalogue for real builds.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'hypopg'),
    current_setting('is_superuser')::bool;

-- name: create_hypopg
-- Make its functions known in the lab's database.
CREATE EXTENSION IF NOT EXISTS hypopg;

-- name: create_hypothetical
-- An index that only this session's planner sees.
SELECT indexrelid, indexname FROM hypopg_create_index(%s);

-- name: drop_hypothetical
-- Forget some of them.
SELECT hypopg_drop_index(each) FROM unnest(%s::oid[]) AS each;

-- name: reset_hypothetical
-- Forget all of them.
SELECT hypopg_reset();

-- name: sample_rows
-- The columns of some rows, the same ones each time, kept for the length of the session.
CREATE TEMP TABLE {sample} AS
SELECT {columns} FROM {table} TABLESAMPLE BERNOULLI ({percent}) REPEATABLE (1);

-- name: count_keys
-- How many keys the sample has, how many of them once, and how many rows.
SELECT count(*), count(*) FILTER (WHERE n = 1), coalesce(sum(n), 0)
FROM (SELECT count(*) AS n FROM {sample} GROUP BY {columns}) AS keys;

-- name: drop_sample
-- Remove a sample.
DROP TABLE {sample};

-- name: cpu_operator_cost
-- The unit of the correction for descents.
SELECT current_setting('cpu_operator_cost')::float8;

-- name: is_superuser
-- Whether the session may edit the catalogue of its own lab.
SELECT current_setting('is_superuser')::bool;

-- name: built_index
-- A real index's identity, size and name; of a partitioned one also those of its partitions.
SELECT leaf.oid::oid, pg_relation_size(leaf.oid), c.relname::text
FROM (
    SELECT c.oid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('i', 'I')
) built
CROSS JOIN LATERAL (SELECT built.oid UNION SELECT tree.relid FROM pg_partition_tree(built.oid) tree) leaf
JOIN pg_class c ON c.oid = leaf.oid
ORDER BY leaf.oid;

-- name: hide_indexes
-- The planner overlooks an invalid index; the index itself stays.
UPDATE pg_index SET indisvalid = false WHERE indexrelid = ANY(%s::oid[]);

-- name: show_indexes
-- For the length of a transaction. With indcheckxmin the planner would overlook a row written just now.
UPDATE pg_index SET indisvalid = true, indcheckxmin = false WHERE indexrelid = ANY(%s::oid[]);

-- name: drop_index
-- Remove a built index.
DROP INDEX IF EXISTS {index};

-- name: end_after
-- Let the server end what takes longer in this transaction, in milliseconds.
SELECT set_config('statement_timeout', %s, true);
