-- What perfloop asks a PostgreSQL server, 14 or newer. Each block is one statement that only
-- reads. Probes run with search_path = pg_catalog, so that every name in an answer is qualified.

-- name: read_session_limits
-- The limits the session was opened with, in the unit of pg_settings.
SELECT name, setting
FROM pg_catalog.pg_settings
WHERE name = ANY(%s)

-- name: pin_session
-- Makes names and values come out the same whatever the role's own settings are, for one transaction, and
-- lets the server end it if perfloop is stopped in the middle. With thousands of tables the server would
-- compile what it runs once, for seconds.
SELECT
    pg_catalog.set_config('search_path', 'pg_catalog', true),
    pg_catalog.set_config('DateStyle', 'ISO, YMD', true),
    pg_catalog.set_config('IntervalStyle', 'postgres', true),
    pg_catalog.set_config('bytea_output', 'hex', true),
    pg_catalog.set_config('extra_float_digits', '1', true),
    pg_catalog.set_config('jit', 'off', true),
    pg_catalog.set_config('idle_in_transaction_session_timeout', '60s', true)

-- name: forbid_writes
-- Makes one transaction read-only, and lets the server end it if perfloop is stopped in the middle.
SELECT
    pg_catalog.set_config('transaction_read_only', 'on', true),
    pg_catalog.set_config('idle_in_transaction_session_timeout', '60s', true)

-- name: switch_jit_on
-- pg_jit_available() answers for jit = on only; what counts is what the build can do.
SELECT set_config('jit', 'on', true)

-- name: read_fingerprint
-- What must match for a verdict to be carried to another server.
SELECT
    current_setting('server_version_num')::int AS server_version,
    version() AS server_text,
    current_setting('block_size')::int AS block_bytes,
    current_setting('data_checksums')::bool AS data_checksums,
    pg_jit_available() AS jit_available,
    (SELECT enumvals FROM pg_settings WHERE name = 'wal_compression') AS wal_compressions,
    (SELECT enumvals FROM pg_settings WHERE name = 'io_method') AS io_methods,
    (SELECT array_agg(name::text ORDER BY name) FROM pg_available_extensions) AS extensions

-- name: read_role
-- Who asks, where, and whether the views of pg_monitor are open.
SELECT
    current_database() AS database,
    current_user::text AS "user",
    pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS reads_settings,
    pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_statistics

-- name: read_settings
-- Every setting this role may see, but those that perfloop opened this session with. Asked outside of a
-- pinned transaction, whose settings would be in the answer; therefore everything is qualified.
SELECT
    name,
    setting AS value,
    unit,
    context,
    vartype AS kind,
    min_val::pg_catalog.float8 AS minimum,
    max_val::pg_catalog.float8 AS maximum,
    enumvals AS choices,
    source,
    boot_val AS boot_value,
    pending_restart
FROM pg_catalog.pg_settings
WHERE NOT (source OPERATOR(pg_catalog.=) 'client' AND name OPERATOR(pg_catalog.=) ANY(%s))
ORDER BY name USING OPERATOR(pg_catalog.<)

-- name: read_tables
-- Tables, materialised views and partitioned parents of users, with their counters. To ask for the size
-- of a table takes a lock: where an exclusive one is held or waited for, the size of the last VACUUM stands in.
WITH locked AS MATERIALIZED (
    SELECT DISTINCT relation FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    c.reltuples::float8 AS rows,
    CASE
        WHEN c.relkind = 'p' THEN c.reltuples
        WHEN c.relpages = 0 THEN -1
        WHEN locked.relation IS NOT NULL THEN c.reltuples
        ELSE c.reltuples * (pg_relation_size(c.oid, 'main') / current_setting('block_size')::int) / c.relpages
    END::float8 AS planned_rows,
    CASE
        WHEN locked.relation IS NOT NULL THEN c.relpages * current_setting('block_size')::bigint
        ELSE coalesce(pg_relation_size(c.oid, 'main') + pg_relation_size(c.oid, 'fsm'), 0)
    END AS size_bytes,
    coalesce(s.n_live_tup, 0) AS live_rows,
    coalesce(s.n_dead_tup, 0) AS dead_rows,
    coalesce(s.n_mod_since_analyze, 0) AS modified_since_analyze,
    extract(epoch FROM now() - greatest(s.last_analyze, s.last_autoanalyze))::float8 AS analyzed_ago_s,
    coalesce(s.seq_scan, 0) AS sequential_scans,
    coalesce(s.seq_tup_read, 0) AS sequential_rows,
    coalesce(s.idx_scan, 0) AS index_scans,
    coalesce(s.n_tup_ins, 0) AS inserts,
    coalesce(s.n_tup_upd, 0) AS updates,
    coalesce(s.n_tup_hot_upd, 0) AS hot_updates,
    coalesce(s.n_tup_del, 0) AS deletes,
    coalesce(c.reloptions, '{}') AS options,
    c.relkind = 'p' AS is_partitioned,
    CASE WHEN root.oid IS NOT NULL THEN json_build_object('schema', rn.nspname, 'name', root.relname) END
        AS partition_of,
    row_security_active(c.oid) AS hides_rows,
    extract(epoch FROM now() - greatest(s.last_vacuum, s.last_autovacuum))::float8 AS vacuumed_ago_s,
    coalesce(s.n_ins_since_vacuum, 0) AS inserts_since_vacuum,
    CASE WHEN c.relfrozenxid <> '0' THEN greatest(age(c.relfrozenxid), age(t.relfrozenxid)) END AS transaction_age,
    CASE WHEN c.relminmxid <> '0' THEN greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) END AS multixact_age
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_class root ON c.relispartition AND root.oid = pg_partition_root(c.oid)
LEFT JOIN pg_namespace rn ON rn.oid = root.relnamespace
LEFT JOIN locked ON locked.relation = c.oid
WHERE c.relkind IN ('r', 'p', 'm')
    AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname !~ '^pg_(toast|temp)'
    AND NOT EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
ORDER BY n.nspname, c.relname

-- name: read_columns
-- Columns of the given tables; `readable` says whether pg_stats shows this role their values.
SELECT
    a.attrelid AS oid,
    a.attname::text AS name,
    format_type(a.atttypid, a.atttypmod) AS type_name,
    a.attnotnull AS not_null,
    has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable,
    CASE a.attalign WHEN 'd' THEN 8 WHEN 'i' THEN 4 WHEN 's' THEN 2 ELSE 1 END AS alignment_bytes
FROM pg_attribute a
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum

-- name: read_column_statistics
-- pg_stats of the given tables: of the whole tree for a partitioned parent, else of the table alone.
SELECT
    c.oid,
    s.attname::text AS name,
    s.null_frac::float8 AS null_ratio,
    s.n_distinct::float8 AS distinct,
    s.avg_width AS width_bytes,
    coalesce(s.most_common_vals::text::text[], '{}') AS common_values,
    coalesce(s.most_common_freqs::float8[], '{}') AS common_ratios,
    coalesce(s.histogram_bounds::text::text[], '{}') AS histogram,
    s.correlation::float8 AS correlation
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.inherited = (c.relkind = 'p')
WHERE c.oid = ANY(%s)

-- name: read_indexes
-- Indexes of the given tables. Counters and size of a partitioned index are those of its leaves, and
-- its definition builds them too (pg_get_indexdef says ONLY). Exclusive locks are passed by as above.
WITH locked AS MATERIALIZED (
    SELECT DISTINCT relation FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
SELECT
    x.indexrelid AS oid,
    x.indrelid AS table_oid,
    c.relname::text AS name,
    am.amname::text AS method,
    x.indisunique AS is_unique,
    x.indisprimary AS is_primary,
    x.indisvalid AND x.indisready AS is_valid,
    x.indisready AS is_ready,
    x.indisreplident AS is_replica_identity,
    EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid) AS backs_constraint,
    c.relispartition AS is_attached,
    pg_get_expr(x.indpred, x.indrelid) AS predicate,
    CASE c.relkind
        WHEN 'I' THEN regexp_replace(pg_get_indexdef(x.indexrelid), ' ON ONLY ', ' ON ')
        ELSE pg_get_indexdef(x.indexrelid)
    END AS definition,
    leaves.size_bytes,
    leaves.scans,
    nullif(c.reltuples, -1)::float8 AS rows,
    coalesce(c.reloptions, '{}') AS options
FROM pg_index x
JOIN pg_class c ON c.oid = x.indexrelid
JOIN pg_am am ON am.oid = c.relam
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(
            CASE
                WHEN leaf.oid IN (SELECT relation FROM locked)
                    THEN (SELECT relpages FROM pg_class WHERE oid = leaf.oid) * current_setting('block_size')::bigint
                ELSE pg_relation_size(leaf.oid)
            END
        ), 0)::bigint AS size_bytes,
        coalesce(sum(pg_stat_get_numscans(leaf.oid)), 0)::bigint AS scans
    FROM (
        SELECT x.indexrelid::oid AS oid
        UNION
        SELECT tree.relid FROM pg_partition_tree(x.indexrelid) tree WHERE c.relkind = 'I'
    ) leaf
) leaves
WHERE x.indrelid = ANY(%s)
ORDER BY x.indrelid, c.relname

-- name: read_index_keys
-- Keys and included columns of those indexes, in order; bits 1 and 2 of an option are DESC and NULLS FIRST.
SELECT
    x.indexrelid AS oid,
    coalesce(a.attname::text, pg_get_indexdef(x.indexrelid, k.position, false)) AS text,
    a.attname IS NULL AS is_expression,
    k.position > x.indnkeyatts AS is_included,
    coalesce(x.indoption[k.position - 1]::int & 1, 0) = 1 AS descending,
    coalesce(x.indoption[k.position - 1]::int & 2, 0) = 2 AS nulls_first,
    CASE WHEN NOT o.opcdefault THEN o.opcname::text END AS operator_class,
    CASE WHEN l.oid IS DISTINCT FROM coalesce(a.attcollation, 'pg_catalog.default'::regcollation) THEN l.collname::text END AS collation
FROM pg_index x
CROSS JOIN LATERAL generate_series(1, x.indnatts) AS k (position)
LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[k.position - 1] AND a.attnum <> 0
LEFT JOIN pg_opclass o ON o.oid = x.indclass[k.position - 1] AND k.position <= x.indnkeyatts
LEFT JOIN pg_collation l ON l.oid = x.indcollation[k.position - 1] AND k.position <= x.indnkeyatts
WHERE x.indrelid = ANY(%s)
ORDER BY x.indexrelid, k.position

-- name: read_foreign_keys
-- Foreign keys as they were declared; the copies that partitions carry are left out.
SELECT
    k.conname::text AS name,
    k.conrelid AS table_oid,
    k.confrelid AS referenced_oid,
    names.columns,
    names.referenced_columns
FROM pg_constraint k
CROSS JOIN LATERAL (
    SELECT
        array_agg(a.attname::text ORDER BY u.position) AS columns,
        array_agg(r.attname::text ORDER BY u.position) AS referenced_columns
    FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (attnum, referenced_attnum, position)
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
    JOIN pg_attribute r ON r.attrelid = k.confrelid AND r.attnum = u.referenced_attnum
) names
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid = ANY(%s)
ORDER BY k.conrelid, k.conname

-- name: read_extended_statistics
-- CREATE STATISTICS objects on plain columns.
SELECT
    e.stxname::text AS name,
    e.stxrelid AS table_oid,
    (
        SELECT array_agg(a.attname::text ORDER BY u.position)
        FROM unnest(e.stxkeys::smallint[]) WITH ORDINALITY AS u (attnum, position)
        JOIN pg_attribute a ON a.attrelid = e.stxrelid AND a.attnum = u.attnum
    ) AS columns,
    e.stxkind::text[] AS kinds
FROM pg_statistic_ext e
WHERE e.stxexprs IS NULL AND e.stxrelid = ANY(%s)
ORDER BY e.stxrelid, e.stxname

-- name: read_sessions
-- Client sessions of all databases but this one; `hidden` are those whose state this role may not see.
SELECT
    count(*)::int AS connections,
    (count(*) FILTER (WHERE state = 'active'))::int AS active,
    (count(*) FILTER (WHERE state LIKE 'idle in transaction%'))::int AS idle_in_transaction,
    (count(*) FILTER (WHERE state IS NULL))::int AS hidden
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()

-- name: read_database_counters
-- Counters of this database since their last reset.
SELECT
    blks_hit AS hit_blocks,
    blks_read AS read_blocks,
    temp_bytes,
    temp_files,
    extract(epoch FROM now() - stats_reset)::float8 AS counted_for_s,
    xact_commit AS commits,
    xact_rollback AS rollbacks,
    deadlocks,
    checksum_failures,
    sessions,
    session_time / 1000 AS session_s,
    sessions_abandoned AS abandoned_sessions
FROM pg_stat_database
WHERE datname = current_database()

-- name: read_database_size
-- Bytes of this database on disk; walks its files, so it is a probe of its own.
SELECT pg_database_size(current_database()) AS database_bytes

-- name: read_statements_extension
-- Where pg_stat_statements is, if it is there, and what keeps it from counting.
SELECT
    (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements') AS schema,
    (SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements') AS version,
    (SELECT default_version FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS newest,
    EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max') AS is_loaded,
    (SELECT setting FROM pg_settings WHERE name = 'pg_stat_statements.track') AS track,
    (SELECT setting FROM pg_settings WHERE name = 'pg_stat_statements.max')::int AS maximum,
    (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries') AS preloaded,
    (SELECT setting FROM pg_settings WHERE name = 'compute_query_id') AS compute_query_id

-- name: read_statements_info
-- When the counters were reset and how often rare statements had to make room.
SELECT extract(epoch FROM stats_reset)::float8 AS reset_at_s, dealloc::bigint AS evictions
FROM {schema}.pg_stat_statements_info

-- name: read_statements
-- Counters of this database, one row a queryid, summed over roles. Hidden rows have no queryid.
SELECT
    queryid,
    min(query) AS text,
    sum(calls)::bigint AS calls,
    sum({execution_ms})::float8 AS execution_ms,
    sum(calls * ({deviation_ms} ^ 2 + ({execution_ms} / greatest(calls, 1)) ^ 2))::float8 AS execution_squared_ms2,
    sum({planning_ms})::float8 AS planning_ms,
    sum({jit_ms})::float8 AS jit_ms,
    sum(rows)::bigint AS rows,
    sum(shared_blks_hit)::bigint AS hit_blocks,
    sum(shared_blks_read)::bigint AS read_blocks,
    sum(temp_blks_read + temp_blks_written)::bigint AS temp_blocks,
    sum({wal_bytes})::bigint AS wal_bytes,
    sum({wal_records})::bigint AS wal_records
FROM {schema}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND {is_top_level}
GROUP BY queryid
ORDER BY queryid

-- name: read_data_directory
-- Where the data are, for roles that may know; no row for others.
SELECT setting AS data_directory
FROM pg_settings
WHERE name = 'data_directory'

-- name: read_session_start
-- When this session began, to find its process.
SELECT extract(epoch FROM backend_start)::float8 AS began_at_s
FROM pg_stat_activity
WHERE pid = pg_backend_pid()
