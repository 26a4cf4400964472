-- What has to be known of a connection and of a statement before its result may be kept.

-- name: read_standing
-- As whom and under which settings the statement would run, and whether its transaction sees what others do.
SELECT
    current_database(),
    current_user,
    session_user,
    ARRAY(
        SELECT pg_catalog.current_setting(asked.name, true)
        FROM pg_catalog.unnest(CAST(%(settings)s AS text[])) WITH ORDINALITY AS asked (name, place)
        ORDER BY asked.place
    ),
    pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL,
    pg_catalog.current_setting('transaction_isolation') IN ('repeatable read', 'serializable'),
    pg_catalog.pg_my_temp_schema() <> 0

-- name: read_relations
-- The relations of these names, what their views read, and what is above and below them by inheritance.
WITH RECURSIVE asked AS (
    SELECT CAST(pg_catalog.to_regclass(name) AS oid) AS oid
    FROM pg_catalog.unnest(CAST(%(names)s AS text[])) AS listed (name)
),
reached (oid) AS (
    SELECT asked.oid FROM asked WHERE asked.oid IS NOT NULL
    UNION
    SELECT further.oid
    FROM reached CROSS JOIN LATERAL (
        SELECT depend.refobjid AS oid
        FROM pg_catalog.pg_rewrite AS rewrite
        JOIN pg_catalog.pg_class AS view ON view.oid = rewrite.ev_class AND view.relkind = 'v'
        JOIN pg_catalog.pg_depend AS depend
            ON depend.classid = CAST('pg_catalog.pg_rewrite' AS regclass) AND depend.objid = rewrite.oid
            AND depend.refclassid = CAST('pg_catalog.pg_class' AS regclass)
        WHERE rewrite.ev_class = reached.oid
        UNION ALL
        SELECT inherits.inhrelid FROM pg_catalog.pg_inherits AS inherits WHERE inherits.inhparent = reached.oid
    ) AS further
),
known (oid) AS (
    SELECT reached.oid FROM reached
    UNION
    SELECT inherits.inhparent
    FROM known JOIN pg_catalog.pg_inherits AS inherits ON inherits.inhrelid = known.oid
)
SELECT
    schema.nspname,
    relation.relname,
    CAST(relation.relkind AS text),
    relation.relpersistence = 't',
    relation.relrowsecurity,
    CASE relation.relkind WHEN 'v' THEN pg_catalog.pg_get_viewdef(relation.oid) END
FROM known
JOIN pg_catalog.pg_class AS relation ON relation.oid = known.oid
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
ORDER BY 1, 2

-- name: read_functions
-- What the functions of these names promise; where no schema is given, those that the search_path shows.
SELECT
    asked.name,
    schema.nspname,
    CAST(function.provolatile AS text),
    EXISTS (
        SELECT FROM pg_catalog.pg_depend AS depend
        WHERE depend.classid = CAST('pg_catalog.pg_proc' AS regclass) AND depend.objid = function.oid
            AND depend.deptype = 'e'
    )
FROM ROWS FROM (
    pg_catalog.unnest(CAST(%(schemas)s AS text[])), pg_catalog.unnest(CAST(%(names)s AS text[]))
) AS asked (schema, name)
JOIN pg_catalog.pg_proc AS function ON function.proname = asked.name
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = function.pronamespace
WHERE CASE asked.schema WHEN '' THEN pg_catalog.pg_function_is_visible(function.oid)
    ELSE schema.nspname = asked.schema END
ORDER BY 1, 2
