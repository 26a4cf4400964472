-- name: session
-- Who this session is to the server, and whether it may write.
SELECT
    pg_backend_pid() AS process_id,
    to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') AS started,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only')::bool AS is_read_only,
    coalesce(current_setting('allow_alter_system', true), 'on')::bool AS allows_alter_system
FROM pg_stat_activity a
WHERE a.pid = pg_backend_pid();

-- name: lock
-- One perfloop at a time acts on a database; the key is our own.
SELECT pg_try_advisory_lock(8097879367) AS is_ours;

-- name: lock_holder
-- Who holds that lock.
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = %s)
  AND (classid::bigint << 32) + objid::bigint = 8097879367;

-- name: end_backend
-- End a session's process if it is still the same one; a row for as long as it is there.
SELECT pg_terminate_backend(a.pid) AS is_signalled
FROM pg_stat_activity a
WHERE a.pid = %s AND to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') = %s;

-- name: file_faults
-- Lines of the configuration files that keep a reload from loading anything.
SELECT f.sourcefile, f.sourceline, f.error
FROM pg_file_settings f
LEFT JOIN pg_settings s ON s.name = lower(f.name)
WHERE f.error IS NOT NULL AND s.context IS DISTINCT FROM 'postmaster'
ORDER BY f.seqno;

-- name: table_rights
-- What this role may do with a table.
SELECT
    pg_has_role(c.relowner, 'USAGE') AS owns_table,
    pg_has_role(d.datdba, 'USAGE') AS owns_database,
    has_schema_privilege(n.oid, 'CREATE') AS creates_in_schema,
    c.relkind = 'p' AS is_partitioned
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_database d ON d.datname = current_database()
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'm', 'p');

-- name: stored_setting_rights
-- Whether this role may store settings of a database, or of a role.
SELECT
    EXISTS (SELECT FROM pg_database d WHERE d.datname = %s AND pg_has_role(d.datdba, 'USAGE'))
        AS owns_database,
    %s = current_user OR r.rolsuper OR r.rolcreaterole AS alters_role,
    r.rolsuper AS is_superuser
FROM pg_roles r
WHERE r.rolname = current_user;

-- name: system_setting_rights
-- Whether this role may write a setting of the whole server and load it; before 15 only a superuser may.
SELECT
    r.rolsuper AS writes,
    has_function_privilege('pg_reload_conf()', 'EXECUTE') AS reloads
FROM pg_roles r
WHERE r.rolname = current_user;

-- name: parameter_rights
-- The rights that were granted on one setting; PostgreSQL 15 and later.
SELECT
    has_parameter_privilege(%s, 'SET') AS sets,
    has_parameter_privilege(%s, 'ALTER SYSTEM') AS writes;
