-- What perfloop asks a PostgreSQL server, 14 or newer, about its health. Each block is one statement
-- that only reads, for a role without any rights; what such a role may not see comes out as NULL.

-- name: read_recovery
-- Whether this is a standby, and how far it is behind.
SELECT
    pg_is_in_recovery() AS is_standby,
    pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint AS lag_bytes,
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS lag_s

-- name: read_transaction_ages
-- How long ago, in transactions, the oldest row of each database was frozen; templates age too.
SELECT datname::text AS database, age(datfrozenxid) AS transactions, mxid_age(datminmxid) AS multixacts
FROM pg_database
ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC, datname
LIMIT 20

-- name: read_sequences
-- Sequences with the narrowest integer column that each fills, by ownership or by a default.
SELECT
    n.nspname::text AS schema,
    c.relname::text AS name,
    CASE WHEN may.read_it THEN pg_sequence_last_value(c.oid) END AS last_value,
    may.read_it AS readable,
    s.seqstart AS start,
    s.seqmin AS minimum,
    s.seqmax AS maximum,
    s.seqincrement AS increment,
    s.seqcycle AS cycles,
    filled.column,
    filled.column_bytes
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT has_sequence_privilege(c.oid, 'SELECT, USAGE') AS read_it) may
LEFT JOIN LATERAL (
    SELECT
        CASE WHEN tn.nspname = 'public' THEN '' ELSE tn.nspname || '.' END || t.relname || '.' || a.attname AS column,
        CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN a.attlen::int END AS column_bytes
    FROM (
        SELECT d.refobjid AS relid, d.refobjsubid AS attnum
        FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
            AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
        UNION
        SELECT e.adrelid, e.adnum
        FROM pg_depend d
        JOIN pg_attrdef e ON e.oid = d.objid
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
    ) f
    JOIN pg_attribute a ON a.attrelid = f.relid AND a.attnum = f.attnum AND NOT a.attisdropped
    JOIN pg_class t ON t.oid = f.relid
    JOIN pg_namespace tn ON tn.oid = t.relnamespace
    ORDER BY column_bytes NULLS LAST, 1
    LIMIT 1
) filled ON true
WHERE c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY n.nspname, c.relname

-- name: read_sessions_in_the_way
-- Client sessions that wait for a lock, those they wait for, and those whose transaction or statement is old.
WITH waiting AS (
    SELECT
        l.pid,
        min(l.waitstart) AS since,
        min(coalesce(l.relation::regclass::text, l.locktype)) AS waits_for,
        pg_blocking_pids(l.pid) AS blocked_by
    FROM pg_locks l
    WHERE NOT l.granted
    GROUP BY l.pid
)
SELECT
    a.pid,
    a.usename::text AS user,
    nullif(a.application_name, '') AS application,
    a.datname::text AS database,
    a.state,
    left(nullif(a.query, '<insufficient privilege>'), 200) AS query,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_s,
    extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_s,
    CASE WHEN a.state = 'active' THEN extract(epoch FROM clock_timestamp() - a.query_start) END::float8 AS query_s,
    CASE WHEN w.pid IS NOT NULL
        THEN coalesce(extract(epoch FROM clock_timestamp() - w.since), 0) END::float8 AS waits_s,
    coalesce(w.blocked_by, '{}') AS blocked_by,
    w.waits_for,
    greatest(age(a.backend_xmin), age(a.backend_xid)) AS horizon
FROM pg_stat_activity a
LEFT JOIN waiting w ON w.pid = a.pid
WHERE a.pid <> pg_backend_pid()
    AND (
        w.pid IS NOT NULL
        OR a.pid IN (SELECT unnest(blocked_by) FROM waiting)
        OR (
            a.backend_type = 'client backend'
            AND (
                a.xact_start < clock_timestamp() - %s * interval '1 second'
                OR greatest(age(a.backend_xmin), age(a.backend_xid)) > %s
            )
        )
    )
ORDER BY w.pid IS NULL, greatest(clock_timestamp() - a.xact_start, clock_timestamp() - w.since) DESC NULLS LAST, a.pid
LIMIT 100

-- name: read_prepared
-- Transactions that wait for COMMIT PREPARED or ROLLBACK PREPARED, in all databases.
SELECT
    gid AS name,
    owner::text AS owner,
    database::text AS database,
    extract(epoch FROM clock_timestamp() - prepared)::float8 AS age_s,
    age(transaction) AS transactions
FROM pg_prepared_xacts
ORDER BY prepared
LIMIT 100

-- name: read_slots
-- Replication slots, and what each keeps from being removed.
SELECT
    s.slot_name::text AS name,
    s.slot_type AS kind,
    s.active AS is_active,
    s.wal_status,
    pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        s.restart_lsn
    )::bigint AS held_wal_bytes,
    s.safe_wal_size AS safe_wal_bytes,
    greatest(age(s.xmin), age(s.catalog_xmin)) AS horizon
FROM pg_replication_slots s
WHERE NOT s.temporary
ORDER BY s.slot_name

-- name: read_standbys
-- Who receives WAL, and how far each is behind.
SELECT
    coalesce(nullif(application_name, ''), host(client_addr), pid::text) AS name,
    state,
    sync_state,
    CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint END AS lag_bytes,
    extract(epoch FROM replay_lag)::float8 AS lag_s,
    age(backend_xmin) AS horizon
FROM pg_stat_replication
ORDER BY 1

-- name: read_vacuums
-- VACUUMs at work in this database.
SELECT
    p.relid::regclass::text AS table,
    p.phase,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS ran_s,
    (p.heap_blks_scanned / greatest(p.heap_blks_total, 1)::float8) AS done_ratio,
    p.index_vacuum_count::int AS index_passes,
    coalesce(a.query LIKE '%(to prevent wraparound)%', false) AS is_for_wraparound
FROM pg_stat_progress_vacuum p
LEFT JOIN pg_stat_activity a ON a.pid = p.pid
WHERE p.datname = current_database() AND p.relid IS NOT NULL
ORDER BY a.xact_start, p.relid

-- name: read_checkpoints_until_16
-- Checkpoints and written buffers since the last reset.
SELECT
    checkpoints_timed AS timed,
    checkpoints_req AS requested,
    checkpoint_write_time / 1000 AS write_s,
    checkpoint_sync_time / 1000 AS sync_s,
    buffers_checkpoint AS buffers_written,
    buffers_clean AS cleaned_buffers,
    extract(epoch FROM now() - stats_reset)::float8 AS counted_for_s
FROM pg_stat_bgwriter

-- name: read_checkpoints_from_17
-- The same, from the two views that pg_stat_bgwriter was split into.
SELECT
    c.num_timed AS timed,
    c.num_requested AS requested,
    c.write_time / 1000 AS write_s,
    c.sync_time / 1000 AS sync_s,
    c.buffers_written,
    b.buffers_clean AS cleaned_buffers,
    extract(epoch FROM now() - c.stats_reset)::float8 AS counted_for_s
FROM pg_stat_checkpointer c, pg_stat_bgwriter b

-- name: read_backend_writes_from_16
-- Buffers that client sessions wrote out themselves to make room; bulk writes, which are meant to, left out.
SELECT coalesce(sum(writes), 0)::bigint AS backend_buffers
FROM pg_stat_io
WHERE backend_type = 'client backend' AND context = 'normal' AND object = 'relation'

-- name: read_wal_counters
-- WAL written since the last reset.
SELECT
    wal_bytes::bigint AS size_bytes,
    wal_fpi AS full_page_images,
    wal_buffers_full AS buffers_full,
    extract(epoch FROM now() - stats_reset)::float8 AS counted_for_s
FROM pg_stat_wal

-- name: read_unvalidated_constraints
-- Constraints declared NOT VALID and never validated; those that are not enforced are meant to be so.
SELECT
    k.conname::text AS name,
    k.conrelid AS table_oid,
    CASE k.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' ELSE 'not-null' END AS kind,
    pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k
WHERE NOT k.convalidated AND k.conparentid = 0 AND k.conrelid = ANY(%s)
    AND coalesce((to_jsonb(k) ->> 'conenforced')::bool, true)
ORDER BY k.conrelid, k.conname
