-- The outbox: what it consists of, and how it is read. Every name is qualified, so that no search_path of a
-- role leads elsewhere.

-- name: create_schema
CREATE SCHEMA perfloop_cache

-- name: create_watched
-- What is watched, for readers and for status.
CREATE TABLE perfloop_cache.watched (
    name text PRIMARY KEY,
    columns text[] NOT NULL
)

-- name: create_events
-- One row for each statement that changed something. It is only appended to and cut off at the old end, so
-- pages are filled whole, vacuum comes by the number of rows, and no vacuum takes a lock to shorten the file.
CREATE TABLE perfloop_cache.events (
    xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    name text NOT NULL,
    rows json
) WITH (
    fillfactor = 100,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
)

-- name: create_events_index
CREATE INDEX events_xid ON perfloop_cache.events (xid)

-- name: create_readers
-- How far each named reader has come: all that its snapshot sees is done with.
CREATE TABLE perfloop_cache.readers (
    name text PRIMARY KEY,
    position pg_snapshot NOT NULL,
    server text NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50)

-- name: create_horizon
-- Events of transactions below `cleaned` are gone, whoever has not read them.
CREATE TABLE perfloop_cache.horizon (cleaned xid8 NOT NULL)

-- name: create_horizon_row
INSERT INTO perfloop_cache.horizon VALUES ('0')

-- name: create_function
-- Runs with the rights of its owner, so that writers need none on the outbox. Every name and operator in it is
-- qualified, so that no search_path leads it elsewhere; to set one here would cost more than all the rest.
CREATE FUNCTION perfloop_cache.{function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
AS {body}

-- name: note_changes
-- The body of that function. More rows than the limit are noted as "not known which". Of an UPDATE the rows
-- come twice, before and after: to find out which are the same costs more than to tell them. Columns are
-- qualified, since one may be called as a variable of the language, as found or tg_op. One that was renamed or
-- dropped must not keep anybody from writing, and then it is not known which rows changed; nothing is written
-- in the inner block, so that it takes no number of a transaction.
DECLARE
    perfloop_listed pg_catalog.json[];
BEGIN
    BEGIN
        IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
            perfloop_listed := ARRAY(
                SELECT pg_catalog.json_build_object({pairs}) FROM old_rows AS told
                UNION ALL SELECT pg_catalog.json_build_object({pairs}) FROM new_rows AS told
                LIMIT {above_twice}
            );
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
            perfloop_listed := ARRAY(SELECT pg_catalog.json_build_object({pairs}) FROM new_rows AS told LIMIT {above});
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
            perfloop_listed := ARRAY(SELECT pg_catalog.json_build_object({pairs}) FROM old_rows AS told LIMIT {above});
        END IF;
    EXCEPTION WHEN undefined_column THEN
        perfloop_listed := NULL;
    END;
    IF perfloop_listed IS NULL OR pg_catalog.cardinality(perfloop_listed) OPERATOR(pg_catalog.>)
        (CASE WHEN TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN {twice} ELSE {limit} END)
    THEN
        INSERT INTO perfloop_cache.events (name) VALUES ({name});
    ELSIF pg_catalog.cardinality(perfloop_listed) OPERATOR(pg_catalog.>) 0 THEN
        INSERT INTO perfloop_cache.events (name, rows)
        VALUES ({name}, pg_catalog.array_to_json(perfloop_listed));
    END IF;
    RETURN NULL;
END

-- name: create_insert_trigger
CREATE TRIGGER perfloop_cache_insert AFTER INSERT ON {table}
REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION perfloop_cache.{function}()

-- name: create_update_trigger
CREATE TRIGGER perfloop_cache_update AFTER UPDATE ON {table}
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION perfloop_cache.{function}()

-- name: create_delete_trigger
CREATE TRIGGER perfloop_cache_delete AFTER DELETE ON {table}
REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION perfloop_cache.{function}()

-- name: create_truncate_trigger
CREATE TRIGGER perfloop_cache_truncate AFTER TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION perfloop_cache.{function}()

-- name: enable_always
-- Also where session_replication_role = replica switches ordinary triggers off.
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}

-- name: add_watched
INSERT INTO perfloop_cache.watched VALUES ({name}, {columns})

-- name: drop_trigger
DROP TRIGGER {trigger} ON {table}

-- name: drop_function
DROP FUNCTION perfloop_cache.{function}()

-- name: remove_watched
DELETE FROM perfloop_cache.watched WHERE name = {name}

-- name: drop_table
DROP TABLE perfloop_cache.{table}

-- name: drop_schema
DROP SCHEMA perfloop_cache

-- name: read_installed
-- Whether there is an outbox, and whether a schema of that name is something else.
SELECT
    pg_catalog.to_regnamespace('perfloop_cache') IS NOT NULL AS has_schema,
    pg_catalog.to_regclass('perfloop_cache.events') IS NOT NULL AS has_events

-- name: read_watched
SELECT name, columns FROM perfloop_cache.watched ORDER BY name

-- name: read_triggers
-- Our triggers as they stand, with the function that says which watch each belongs to.
SELECT
    called.proname::text AS name,
    spaces.nspname::text AS schema,
    tables.relname::text AS relation,
    triggers.tgname::text AS trigger
FROM pg_catalog.pg_trigger AS triggers
JOIN pg_catalog.pg_proc AS called ON called.oid = triggers.tgfoid
JOIN pg_catalog.pg_class AS tables ON tables.oid = triggers.tgrelid
JOIN pg_catalog.pg_namespace AS spaces ON spaces.oid = tables.relnamespace
WHERE called.pronamespace = pg_catalog.to_regnamespace('perfloop_cache') AND triggers.tgparentid = 0
ORDER BY 1, 2, 3, 4

-- name: read_relation
-- A table, its columns by type, and its primary key in order. Enumerations are written alike everywhere.
SELECT
    tables.relkind::text AS kind,
    (
        SELECT json_object_agg(
            attname,
            CASE types.typtype
                WHEN 'e' THEN 'enum'
                WHEN 'd' THEN types.typbasetype::pg_catalog.regtype::text
                ELSE atttypid::pg_catalog.regtype::text
            END
        )
        FROM pg_catalog.pg_attribute
        JOIN pg_catalog.pg_type AS types ON types.oid = atttypid
        WHERE attrelid = tables.oid AND attnum > 0 AND NOT attisdropped
    ) AS columns,
    (
        SELECT array_agg(attname::text ORDER BY position)
        FROM pg_catalog.pg_index AS indexes,
            unnest(indexes.indkey::int2[]) WITH ORDINALITY AS keys (number, position),
            pg_catalog.pg_attribute
        WHERE indexes.indrelid = tables.oid AND indexes.indisprimary
            AND attrelid = tables.oid AND attnum = keys.number
    ) AS primary_key
FROM pg_catalog.pg_class AS tables
JOIN pg_catalog.pg_namespace AS spaces ON spaces.oid = tables.relnamespace
WHERE spaces.nspname = %s AND tables.relname = %s

-- name: read_parts
-- A table with all that inherits from it or is a part of it: a statement fires the triggers of the table that
-- it names, and of no other.
WITH RECURSIVE tree (part) AS (
    SELECT tables.oid
    FROM pg_catalog.pg_class AS tables
    JOIN pg_catalog.pg_namespace AS spaces ON spaces.oid = tables.relnamespace
    WHERE spaces.nspname = %s AND tables.relname = %s
    UNION
    SELECT inhrelid FROM pg_catalog.pg_inherits JOIN tree ON inhparent = part
)
SELECT spaces.nspname::text AS schema, tables.relname::text AS relation, tables.relkind::text AS kind
FROM tree
JOIN pg_catalog.pg_class AS tables ON tables.oid = part
JOIN pg_catalog.pg_namespace AS spaces ON spaces.oid = tables.relnamespace
ORDER BY 1, 2

-- name: read_size
SELECT
    (SELECT count(*) FROM (SELECT FROM perfloop_cache.events LIMIT 1000000) AS counted) AS events,
    pg_catalog.pg_total_relation_size('perfloop_cache.events') AS size_bytes

-- name: read_readers
SELECT
    name,
    extract(epoch FROM pg_catalog.clock_timestamp() - seen_at)::float8 AS silent_s,
    (
        SELECT coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - min(events.at))::float8, 0)
        FROM perfloop_cache.events
        WHERE NOT pg_catalog.pg_visible_in_snapshot(events.xid, readers.position)
    ) AS behind_s
FROM perfloop_cache.readers
ORDER BY name

-- name: prepare_session
-- A reader that hangs is cut off by the server, so that another takes over. It must not become part of the
-- writers' serializable transactions, and reads by the index however small the table looked at the last ANALYZE.
SELECT
    pg_catalog.set_config('idle_session_timeout', %(silent_ms)s, false),
    pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
    pg_catalog.set_config('synchronous_commit', 'off', false),
    pg_catalog.set_config('enable_seqscan', 'off', false),
    pg_catalog.set_config('jit', 'off', false)

-- name: try_election
-- One reader of a name at a time; the lock ends with the session, however that ends.
SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('perfloop_cache ' || %s, 0))

-- name: read_server
-- Another cluster, or another history of this one, numbers its transactions anew.
SELECT
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    (SELECT system_identifier FROM pg_catalog.pg_control_system())::text
        || '/' || (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())::text AS server

-- name: read_position
SELECT position::text, server FROM perfloop_cache.readers WHERE name = %s

-- name: drop_alien_events
-- Rows of a restored dump: their transactions have not happened here yet.
DELETE FROM perfloop_cache.events
WHERE xid >= pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())

-- name: read_now
SELECT pg_catalog.pg_current_snapshot()::text

-- name: read_events
-- What was committed since the snapshot of the last read: transactions that began after it, and those that
-- were open in it. A transaction that is still open is in this snapshot, too, and is read once it has ended.
SELECT standing.seen::text, standing.cleaned::text,
    extract(epoch FROM pg_catalog.clock_timestamp() - events.at)::float8 AS age_s,
    events.name, events.rows
FROM (SELECT pg_catalog.pg_current_snapshot() AS seen, cleaned FROM perfloop_cache.horizon) AS standing
LEFT JOIN (
    SELECT at, name, rows FROM perfloop_cache.events WHERE xid >= %(xmax)s::xid8
    UNION ALL
    SELECT at, name, rows FROM perfloop_cache.events WHERE xid = ANY (%(open)s::xid8[])
) AS events ON true
LIMIT %(limit)s

-- name: store_position
INSERT INTO perfloop_cache.readers VALUES (%(name)s, %(position)s, %(server)s, pg_catalog.clock_timestamp())
ON CONFLICT (name) DO UPDATE
SET position = excluded.position, server = excluded.server, seen_at = excluded.seen_at

-- name: forget_readers
-- Readers that nobody has run for long hold nothing back; they will find that something is gone.
DELETE FROM perfloop_cache.readers
WHERE seen_at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)

-- name: clean
-- Cut off what all named readers are done with and what was finished a while ago, for those without a name.
-- The horizon moves in the same transaction, so a reader sees both or neither.
WITH bound AS (
    SELECT xmin FROM (
        SELECT %(finished)s::xid8
        UNION ALL
        SELECT pg_catalog.pg_snapshot_xmin(position) FROM perfloop_cache.readers
    ) AS bounds (xmin)
    ORDER BY xmin LIMIT 1
),
horizon AS (
    SELECT cleaned FROM perfloop_cache.horizon
    WHERE pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('perfloop_cache clean', 0))
    LIMIT 1
),
gone AS (
    DELETE FROM perfloop_cache.events USING bound, horizon
    WHERE events.xid >= horizon.cleaned AND events.xid < bound.xmin
)
UPDATE perfloop_cache.horizon AS standing SET cleaned = greatest(standing.cleaned, bound.xmin)
FROM bound, horizon AS before
WHERE before.cleaned < bound.xmin

-- name: read_kept
SELECT pg_catalog.pg_total_relation_size('perfloop_cache.events')
