-- name: shape
-- What columns a statement yields, without running it to its end.
SELECT * FROM ({statement}
) AS perfloop_rows LIMIT 0

-- name: digest
-- The rows of a statement as sums of hashes: in any order, in their order, and of their sort keys in order.
SELECT count(*),
       coalesce(sum(hashtextextended(whole, 0)::numeric), 0),
       coalesce(sum(hashtextextended(whole, 8191)::numeric), 0),
       coalesce(sum(hashtextextended(place || ' ' || whole, 0)::numeric), 0),
       coalesce(sum(hashtextextended(place || ' ' || keys, 0)::numeric), 0)
FROM (SELECT row_number() OVER () AS place, perfloop_rows::text COLLATE "C" AS whole,
             ROW({keys})::text COLLATE "C" AS keys
      FROM ({statement}
      ) AS perfloop_rows ({columns})) AS perfloop_hashed

-- name: volatile_functions
-- Those of these names that a volatile function has: what it gives may differ from call to call.
SELECT DISTINCT proname FROM pg_proc WHERE proname = ANY(%s::text[]) AND provolatile = 'v' ORDER BY proname

-- name: varied_table
-- An empty copy of a table under its own name, found before it: NOT NULL and unique keys hold, checks do not.
CREATE TEMPORARY TABLE {name} (LIKE {table} INCLUDING INDEXES) ON COMMIT DROP

-- name: varied_insert
-- One made-up row; it stays out where a unique key has its values already.
INSERT INTO pg_temp.{name} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values}) ON CONFLICT DO NOTHING

-- name: real_values
-- Some values of a column as text: the made-up rows take from them what no literal of the statement shows.
SELECT DISTINCT {column}::text FROM (SELECT {column} FROM {table} WHERE {column} IS NOT NULL LIMIT 100) AS seen
LIMIT 3

-- name: empty_table
-- Take the rows of one copy away.
DELETE FROM pg_temp.{name}
