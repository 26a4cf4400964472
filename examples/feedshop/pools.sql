-- What the traffic draws its parameters from: one block a pool, small and cheap to read.
-- $1 is an array of numbers in [0, 1), made by the client from its seed; repeats are kept, since they are the skew.

-- name: user
SELECT u.id, u.tenant_id, u.email
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN users AS u ON u.id = 1 + floor(d.x * d.x * (SELECT max(id) FROM users))::bigint
ORDER BY d.n;

-- name: tenant
SELECT 1 + floor(d.x * d.x * d.x * (SELECT max(id) FROM tenants))::integer AS id
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
ORDER BY d.n;

-- name: feed
SELECT f.id, f.tenant_id
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN feeds AS f ON f.id = 1 + floor(power(d.x, 6) * (SELECT max(id) FROM feeds))::bigint
ORDER BY d.n;

-- name: post
-- Of the newer half, and the newest are read most.
SELECT p.id, p.tenant_id, p.title
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN posts AS p ON p.id = ceil((1 - d.x * d.x / 2) * (SELECT max(id) FROM posts))::bigint
ORDER BY d.n;

-- name: doomed
-- Of the older half, so that no operation works on what another has just removed.
SELECT p.id
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN posts AS p ON p.id = ceil((1 - d.x) / 2 * (SELECT max(id) FROM posts))::bigint
ORDER BY d.n;

-- name: order
SELECT o.id, o.tenant_id, o.total_cents, coalesce(o."externalRef", 'pay_unknown') AS reference
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN orders AS o ON o.id = ceil((1 - d.x * d.x) * (SELECT max(id) FROM orders))::bigint
ORDER BY d.n;

-- name: item
SELECT i.sku, i.price_cents
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN items AS i ON i.id = 1 + floor(d.x * (SELECT max(id) FROM items))::bigint
ORDER BY d.n;

-- name: search
-- Two words of a real title.
SELECT split_part(p.title, ' ', 1) || ' ' || split_part(p.title, ' ', 2) AS words
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN posts AS p ON p.id = 1 + floor(d.x * (SELECT max(id) FROM posts))::bigint
ORDER BY d.n;

-- name: campaign
-- `started_at` lies within the campaign of samples; see orders in generate.sql.
SELECT jsonb_build_object('campaign', 1 + floor(d.x * 2000)::integer)::text AS attrs,
       (SELECT o.placed_at FROM orders AS o
        WHERE o.id = ceil((SELECT max(id) FROM orders) * (0.875 + d.x * 0.002))::bigint) AS started_at
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
ORDER BY d.n;

-- name: language
SELECT CASE WHEN d.x < 0.6 THEN 'en' WHEN d.x < 0.9 THEN 'de' ELSE 'fr' END AS code
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
ORDER BY d.n;

-- name: session
SELECT 'gw-' || floor(d.x * 200000)::integer AS token
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
ORDER BY d.n;

-- name: feed_search
-- One word of a real description.
SELECT split_part(f.description, ' ', 3) AS words
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN feeds AS f ON f.id = 1 + floor(d.x * (SELECT max(id) FROM feeds))::bigint
ORDER BY d.n;

-- name: day
SELECT date(o.placed_at) AS placed_on
FROM unnest($1::float8[]) WITH ORDINALITY AS d (x, n)
JOIN orders AS o ON o.id = ceil((1 - d.x * d.x) * (SELECT max(id) FROM orders))::bigint
ORDER BY d.n;
