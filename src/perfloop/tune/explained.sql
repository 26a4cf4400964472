-- name: index_of_name
-- The schema of an index by its name, which is ours alone, and what the index takes on disk.
SELECT n.nspname::text AS schema, pg_relation_size(c.oid) AS size_bytes
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind IN ('i', 'I')
