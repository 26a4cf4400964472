-- Logical decoding: what is published, and the slot that keeps what was not read yet.

-- name: read_server
-- What logical decoding needs of the server and of the role.
SELECT
    current_setting('wal_level') AS wal_level,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    current_setting('max_slot_wal_keep_size') AS kept_limit,
    (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS replicates,
    current_user::text AS role

-- name: read_publication
-- Its tables as they are, and the comment in which perfloop wrote what to tell and what was there before.
SELECT
    pg_catalog.obj_description(publications.oid, 'pg_publication') AS noted,
    ARRAY(
        SELECT ARRAY[schemaname::text, tablename::text]
        FROM pg_catalog.pg_publication_tables WHERE pubname = publications.pubname
    ) AS tables
FROM pg_catalog.pg_publication AS publications
WHERE publications.pubname = %s

-- name: read_identity
-- What an UPDATE or DELETE tells of the old row: i names an index, d the primary key, f all, n nothing.
SELECT
    tables.relreplident::text AS identity,
    (
        SELECT indexrelid::pg_catalog.regclass::text FROM pg_catalog.pg_index
        WHERE indrelid = tables.oid AND indisreplident
    ) AS index_name,
    ARRAY(
        SELECT attname::text
        FROM pg_catalog.pg_index AS indexes, pg_catalog.pg_attribute
        WHERE indexes.indrelid = tables.oid AND attrelid = tables.oid AND attnum = ANY (indexes.indkey::int2[])
            AND CASE tables.relreplident WHEN 'i' THEN indisreplident WHEN 'd' THEN indisprimary ELSE false END
    ) AS columns
FROM pg_catalog.pg_class AS tables
JOIN pg_catalog.pg_namespace AS spaces ON spaces.oid = tables.relnamespace
WHERE spaces.nspname = %s AND tables.relname = %s

-- name: create_publication
CREATE PUBLICATION {publication} FOR TABLE {tables} WITH (publish_via_partition_root = true)

-- name: set_tables
ALTER PUBLICATION {publication} SET TABLE {tables}

-- name: note_publication
COMMENT ON PUBLICATION {publication} IS {noted}

-- name: drop_publication
DROP PUBLICATION {publication}

-- name: tell_all_columns
-- Else the old values of columns outside the key would not be told.
ALTER TABLE {table} REPLICA IDENTITY FULL

-- name: tell_key
ALTER TABLE {table} REPLICA IDENTITY DEFAULT

-- name: tell_nothing
ALTER TABLE {table} REPLICA IDENTITY NOTHING

-- name: tell_index
ALTER TABLE {table} REPLICA IDENTITY USING INDEX {index}

-- name: read_slot
-- Where the slot stands, and what it keeps. A lost one has had its log removed.
SELECT
    active_pid,
    plugin::text,
    wal_status = 'lost' AS is_lost,
    coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0)::bigint AS kept_bytes,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), '0/0')::bigint AS flushed
FROM pg_catalog.pg_replication_slots
WHERE slot_name = %s AND database = current_database()

-- name: read_slots
-- Those that stay, of all readers.
SELECT
    slot_name::text,
    active_pid,
    wal_status = 'lost' AS is_lost,
    coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0)::bigint AS kept_bytes
FROM pg_catalog.pg_replication_slots
WHERE starts_with(slot_name, 'perfloop_cache_') AND NOT temporary AND plugin = 'pgoutput'
    AND database = current_database()
ORDER BY slot_name

-- name: create_temporary
SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput', true)

-- name: copy_slot
-- The copy begins where the original does, and stays when the original's session ends.
SELECT pg_catalog.pg_copy_logical_replication_slot(%s, %s, false)

-- name: drop_slot
SELECT pg_catalog.pg_drop_replication_slot(%s)

-- name: drop_slot_named
SELECT pg_catalog.pg_drop_replication_slot({slot})

-- name: end_reader
SELECT pg_catalog.pg_terminate_backend(%s, 5000)

-- name: read_now
SELECT pg_catalog.pg_current_snapshot()::text
