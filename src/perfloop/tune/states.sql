-- name: index
-- The definition of an index, whether it can be used, and what its undo would lose.
SELECT
    pg_get_indexdef(i.indexrelid) AS definition,
    i.indisvalid AND i.indisready AND i.indislive AS is_whole,
    EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) AS backs_constraint,
    i.indisreplident OR i.indisclustered AS is_marked,
    c.reltablespace <> 0 AS has_tablespace,
    obj_description(i.indexrelid, 'pg_class') IS NOT NULL AS has_comment,
    EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid) AS is_partition
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s;

-- name: installed_extension
-- An extension of this database, and where its objects are.
SELECT e.extname::text AS state, n.nspname::text AS schema
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = %s;

-- name: extension_rights
-- Whether the server has its files, and who may create it.
SELECT
    v.trusted AS is_trusted,
    r.rolsuper AS is_superuser,
    has_database_privilege(current_database(), 'CREATE') AS creates_in_database,
    current_database()::text AS database,
    r.rolname::text AS role
FROM pg_available_extensions a
JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version
JOIN pg_roles r ON r.rolname = current_user
WHERE a.name = %s;

-- name: statistics
-- The definition of an extended statistics object.
SELECT pg_get_statisticsobjdef(s.oid) AS state
FROM pg_statistic_ext s
JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE n.nspname = %s AND s.stxname = %s;

-- name: table_options
-- Those of the named storage parameters that a table has, sorted.
SELECT string_agg(entry, ', ' ORDER BY entry) AS state
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(c.reloptions) AS entry
WHERE split_part(entry, '=', 1) = ANY(%s) AND n.nspname = %s AND c.relname = %s;

-- name: is_analyzed
-- Whether a table was ever analysed.
SELECT c.reltuples >= 0 AS is_analyzed
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s;

-- name: database_setting
-- What ALTER DATABASE stored for a setting.
SELECT substr(entry, strpos(entry, '=') + 1) AS state
FROM pg_db_role_setting s
JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) AS entry
WHERE s.setrole = 0 AND d.datname = %s AND lower(split_part(entry, '=', 1)) = lower(%s);

-- name: role_setting
-- What ALTER ROLE stored for a setting, for all databases.
SELECT substr(entry, strpos(entry, '=') + 1) AS state
FROM pg_db_role_setting s
JOIN pg_roles r ON r.oid = s.setrole
CROSS JOIN LATERAL unnest(s.setconfig) AS entry
WHERE s.setdatabase = 0 AND r.rolname = %s AND lower(split_part(entry, '=', 1)) = lower(%s);

-- name: system_setting
-- The line of postgresql.auto.conf that counts, which is the last of that name, and its error.
SELECT setting AS state, error
FROM pg_file_settings
WHERE sourcefile ~ '(^|[/\\])postgresql\.auto\.conf$' AND lower(name) = lower(%s)
ORDER BY seqno DESC
LIMIT 1;

-- name: loaded_at
-- When this session read the configuration files last.
SELECT pg_conf_load_time() AS loaded_at;
