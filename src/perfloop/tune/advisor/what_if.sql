-- name: explain
-- The plan of a statement that is not run, with every column qualified.
EXPLAIN (VERBOSE, FORMAT JSON) {statement};

-- name: has_hypopg
-- Whether the server could load HypoPG.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'hypopg');

-- name: create_hypopg
-- Make its functions known in the lab's database.
CREATE EXTENSION IF NOT EXISTS hypopg;

-- name: create_hypothetical
-- An index that only this session's planner sees.
SELECT indexrelid, indexname FROM hypopg_create_index(%s);

-- name: drop_hypothetical
-- Forget one of them.
SELECT hypopg_drop_index(%s::oid);

-- name: reset_hypothetical
-- Forget all of them.
SELECT hypopg_reset();

-- name: cpu_operator_cost
-- The unit of the correction for descents.
SELECT current_setting('cpu_operator_cost')::float8;

-- name: is_superuser
-- Whether the session may edit the catalogue of its own lab.
SELECT current_setting('is_superuser')::bool;

-- name: built_index
-- A real index's identity and size.
SELECT c.oid, pg_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'i';

-- name: hide_index
-- The planner overlooks an invalid index; the index itself stays.
UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::oid;

-- name: show_indexes
-- For the length of a transaction. With indcheckxmin the planner would overlook a row written just now.
UPDATE pg_index SET indisvalid = true, indcheckxmin = false WHERE indexrelid = ANY(%s::oid[]);

-- name: drop_index
-- Remove a built index.
DROP INDEX IF EXISTS {index};
