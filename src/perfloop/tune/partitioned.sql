-- name: is_partitioned
-- A row where the table is partitioned.
SELECT c.oid
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'p';

-- name: partitions_without
-- The direct partitions of a table that have no index attached to the one of this name.
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'p' AS is_partitioned
FROM pg_class parent
JOIN pg_namespace pn ON pn.oid = parent.relnamespace
JOIN pg_inherits h ON h.inhparent = parent.oid
JOIN pg_class c ON c.oid = h.inhrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pn.nspname = %s AND parent.relname = %s AND NOT EXISTS (
    SELECT
    FROM pg_inherits attached
    JOIN pg_index x ON x.indexrelid = attached.inhrelid AND x.indrelid = c.oid
    JOIN pg_class i ON i.oid = attached.inhparent
    WHERE i.relname = %s AND i.relnamespace = parent.relnamespace
)
ORDER BY n.nspname, c.relname;

-- name: partitions_below
-- All partitions of a table, the deepest first.
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_class root
JOIN pg_namespace rn ON rn.oid = root.relnamespace
CROSS JOIN LATERAL pg_partition_tree(root.oid) tree
JOIN pg_class c ON c.oid = tree.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE rn.nspname = %s AND root.relname = %s AND tree.level > 0
ORDER BY tree.level DESC, n.nspname, c.relname;

-- name: loose_index
-- An index of that name which is attached to no other.
SELECT c.relkind = 'I' AS is_partitioned
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('i', 'I') AND NOT c.relispartition;
