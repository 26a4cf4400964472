-- Rows made on the server, each value a pure function of (seed, row number): the same on PostgreSQL 14 to 18.
-- Seed and row counts are filled in by the client; a percent sign is doubled.

-- name: functions
-- pg_temp leaves nothing behind. Each body is one expression, so the planner inlines it.
CREATE FUNCTION pg_temp.u(i bigint, k integer) RETURNS float8 IMMUTABLE LANGUAGE sql AS
    'SELECT (hashint8extended(i, %(seed)s::bigint * 1000 + k) & 4503599627370495)::float8 / 4503599627370496';
CREATE FUNCTION pg_temp.pick(x float8, n bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS
    'SELECT 1 + floor(x * n)::bigint';
CREATE FUNCTION pg_temp.skewed(x float8, n bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS
    'SELECT 1 + floor(x * x * x * n)::bigint';
CREATE FUNCTION pg_temp.moment(seconds float8) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS
    'SELECT ''2026-01-01 00:00:00+00''::timestamptz + seconds * ''1 second''::interval';
CREATE FUNCTION pg_temp.word(x float8) RETURNS text IMMUTABLE LANGUAGE sql AS $$
    SELECT ('{amber,basalt,cedar,delta,ember,fjord,garnet,harbor,indigo,juniper,krill,lagoon,maple,nickel,onyx,'
            'prairie,quartz,raven,saffron,tundra,umber,velvet,willow,xenon,yarrow,zephyr,anchor,beacon,canyon,'
            'dune,estuary,falcon,glacier,heron,islet,jasper,kelp,lichen,meadow,nectar,orchid,pebble,quill,reef,'
            'sable,thicket,urchin,valley,walnut,yonder,zenith,acorn,birch,cobalt,drift,echo,flint,grove,hazel,'
            'ivory,jetty,kiln,lark,moss}'::text[])[1 + floor(x * 64)::integer]
$$;
CREATE FUNCTION pg_temp.phrase(x float8) RETURNS text IMMUTABLE LANGUAGE sql AS $$
    SELECT ('{"the harbour office will publish new tide tables next week",'
            '"readers asked for shorter summaries and got longer ones",'
            '"a quiet release that removes more code than it adds",'
            '"prices moved little while the volume almost doubled",'
            '"the committee postponed its answer until the spring",'
            '"three teams reported the same fault within an hour",'
            '"an old bridge was opened again after long repairs",'
            '"nobody expected the second edition to sell this well",'
            '"weather stations along the coast agree for once",'
            '"the archive now holds every letter in two languages",'
            '"growers hope for rain before the end of the month",'
            '"a small fix with a surprisingly wide effect",'
            '"the museum lends its best map to a village school",'
            '"trains run late because the timetable is too exact",'
            '"their first product was a mistake that people liked",'
            '"we counted again and found eleven more of them"}'::text[])[1 + floor(x * 16)::integer]
$$;

-- name: tenants
INSERT INTO tenants
SELECT i, initcap(pg_temp.word(pg_temp.u(i, 1))) || ' ' || i,
       CASE WHEN pg_temp.u(i, 2) < 0.7 THEN 'free' WHEN pg_temp.u(i, 2) < 0.95 THEN 'team' ELSE 'enterprise' END
FROM generate_series(1, %(tenants)s::bigint) AS i;

-- name: users
-- The session token repeats for users who signed in through the same gateway: it is not unique.
INSERT INTO users (id, tenant_id, email, handle, country, profile, session_token, last_seen_at, created_at,
                   deleted_at)
SELECT i, pg_temp.skewed(pg_temp.u(i, 11), %(tenants)s),
       initcap(pg_temp.word(pg_temp.u(i, 12))) || '.' || i || '@example.org',
       CASE WHEN pg_temp.u(i, 13) < 0.9 THEN pg_temp.word(pg_temp.u(i, 12)) || pg_temp.pick(pg_temp.u(i, 14), 9000) END,
       ('{DE,FR,PL,ES,IT,NL,SE}'::text[])[pg_temp.skewed(pg_temp.u(i, 15), 8)],
       jsonb_build_object('theme', CASE WHEN pg_temp.u(i, 16) < 0.8 THEN 'light' ELSE 'dark' END,
                          'digest', pg_temp.u(i, 17) < 0.3),
       'gw-' || pg_temp.pick(pg_temp.u(i, 18), %(users)s * 4),
       CASE WHEN pg_temp.u(i, 19) < 0.95 THEN pg_temp.moment(pg_temp.u(i, 19) * 20000000) END,
       pg_temp.moment(i * 60 - 100000000),
       CASE WHEN pg_temp.u(i, 20) < 0.05 THEN pg_temp.moment(pg_temp.u(i, 20) * 200000000) END
FROM generate_series(1, %(users)s::bigint) AS i;

-- name: feeds
INSERT INTO feeds (id, tenant_id, owner_id, title, host, language, description, unread_count, last_seen_at,
                   deleted_at)
SELECT i, pg_temp.skewed(pg_temp.u(i, 31), %(tenants)s), pg_temp.pick(pg_temp.u(i, 32), %(users)s),
       initcap(pg_temp.word(pg_temp.u(i, 33))) || ' ' || pg_temp.word(pg_temp.u(i, 34)),
       pg_temp.word(pg_temp.u(i, 35)) || '-' || pg_temp.pick(pg_temp.u(i, 36), 300) || '.example.net',
       CASE WHEN pg_temp.u(i, 37) < 0.94 THEN 'EN' WHEN pg_temp.u(i, 37) < 0.98 THEN 'De' ELSE 'fr' END,
       (SELECT string_agg(pg_temp.word(pg_temp.u(i * 128 + w, 38)) || pg_temp.word(pg_temp.u(i * 128 + w, 39)), ' ')
        FROM generate_series(1, 72) AS w),
       pg_temp.skewed(pg_temp.u(i, 40), 500), pg_temp.moment(20000000 - pg_temp.u(i, 41) * 5000000),
       CASE WHEN pg_temp.u(i, 42) < 0.04 THEN pg_temp.moment(18000000) END
FROM generate_series(1, %(feeds)s::bigint) AS i;

-- name: posts
-- In the order of publication, as an application appends them; one feed gets 4 %% of all posts.
INSERT INTO posts (id, tenant_id, feed_id, author_id, title, body, language, attrs, view_count, published_at,
                   deleted_at)
SELECT s.i, pg_temp.skewed(pg_temp.u(s.feed_id, 31), %(tenants)s), s.feed_id,
       pg_temp.skewed(pg_temp.u(s.i, 52), %(users)s),
       pg_temp.word(pg_temp.u(s.i, 53)) || ' ' || pg_temp.word(pg_temp.u(s.i, 54)) || ' '
           || pg_temp.word(pg_temp.u(s.i, 55)) || ' ' || pg_temp.pick(pg_temp.u(s.i, 56), 3000),
       pg_temp.phrase(pg_temp.u(s.i, 57)) || ', ' || pg_temp.phrase(pg_temp.u(s.i, 58)) || '; '
           || pg_temp.phrase(pg_temp.u(s.i, 59)),
       CASE WHEN pg_temp.u(s.i, 60) < 0.6 THEN 'en' WHEN pg_temp.u(s.i, 60) < 0.9 THEN 'de' ELSE 'fr' END,
       jsonb_build_object('kind', CASE WHEN pg_temp.u(s.i, 61) < 0.7 THEN 'article' ELSE 'link' END,
                          'campaign', pg_temp.pick(pg_temp.u(s.i, 62), 2000)),
       pg_temp.skewed(pg_temp.u(s.i, 63), 5000), pg_temp.moment(s.i * 100 + pg_temp.u(s.i, 64) * 90),
       CASE WHEN pg_temp.u(s.i, 65) < 0.05 THEN pg_temp.moment(s.i * 100 + 400000) END
FROM (SELECT i, pg_temp.skewed(pg_temp.u(i, 51), %(feeds)s) AS feed_id
      FROM generate_series(1, %(posts)s::bigint) AS i OFFSET 0) AS s;

-- name: orders
-- The last eighth fell into a campaign of samples: recent orders are many and cheap.
INSERT INTO orders (id, tenant_id, user_id, status, total_cents, currency, "externalRef", "Order Notes",
                    placed_at, updated_at, deleted_at)
SELECT s.i, pg_temp.skewed(pg_temp.u(s.user_id, 11), %(tenants)s), s.user_id,
       CASE WHEN pg_temp.u(s.i, 72) < 0.012 THEN 'disputed' WHEN pg_temp.u(s.i, 72) < 0.1 THEN 'refunded'
            WHEN pg_temp.u(s.i, 72) < 0.3 THEN 'pending' ELSE 'paid' END,
       CASE WHEN s.i > %(orders)s * 7 / 8 THEN pg_temp.pick(pg_temp.u(s.i, 73), 400)
            ELSE 400 + pg_temp.skewed(pg_temp.u(s.i, 73), 90000) END,
       CASE WHEN pg_temp.u(s.i, 74) < 0.9 THEN 'EUR' ELSE 'SEK' END,
       CASE WHEN pg_temp.u(s.i, 75) < 0.8 THEN 'pay_' || to_hex(hashint8extended(s.i, %(seed)s)) END,
       CASE WHEN pg_temp.u(s.i, 76) < 0.3 THEN pg_temp.phrase(pg_temp.u(s.i, 77)) END,
       pg_temp.moment(s.i * 130), pg_temp.moment(s.i * 130 + pg_temp.u(s.i, 78) * 90000),
       CASE WHEN pg_temp.u(s.i, 79) < 0.02 THEN pg_temp.moment(s.i * 130 + 90000) END
FROM (SELECT i, 1 + floor(pg_temp.u(i, 71) * pg_temp.u(i, 70) * %(users)s)::bigint AS user_id
      FROM generate_series(1, %(orders)s::bigint) AS i OFFSET 0) AS s;

-- name: items
INSERT INTO items (id, tenant_id, order_id, sku, quantity, price_cents)
SELECT o.i, pg_temp.skewed(pg_temp.u(o.user_id, 11), %(tenants)s), o.order_id,
       'SKU-' || lpad(pg_temp.skewed(pg_temp.u(o.i, 92), 5000)::text, 5, '0'),
       pg_temp.skewed(pg_temp.u(o.i, 93), 9), pg_temp.pick(pg_temp.u(o.i, 94), 9000)
FROM (SELECT s.i, s.order_id,
             1 + floor(pg_temp.u(s.order_id, 71) * pg_temp.u(s.order_id, 70) * %(users)s)::bigint AS user_id
      FROM (SELECT i, pg_temp.pick(pg_temp.u(i, 91), %(orders)s) AS order_id
            FROM generate_series(1, %(items)s::bigint) AS i OFFSET 0) AS s OFFSET 0) AS o;

-- name: classifications
-- Rows from %(first)s to %(last)s. Versions 1 and 2 are the first days, 3 the great import, 4 and 5 its canaries.
INSERT INTO classifications (id, tenant_id, post_id, model_version, content_key, label, score, created_at)
SELECT o.i, pg_temp.skewed(pg_temp.u(o.feed_id, 31), %(tenants)s), o.post_id,
       CASE WHEN o.i <= %(early)s THEN 1 + mod(o.i, 2)
            WHEN o.i > %(classifications)s - %(canary)s THEN 5
            WHEN o.i > %(classifications)s - 2 * %(canary)s THEN 4 ELSE 3 END,
       hashint8extended(o.post_id, %(seed)s),
       ('{news,sport,promo,spam,opinion,weather}'::text[])[pg_temp.skewed(pg_temp.u(o.i, 112), 6)],
       pg_temp.u(o.i, 113)::real, pg_temp.moment(o.i * 50)
FROM (SELECT s.i, s.post_id, pg_temp.skewed(pg_temp.u(s.post_id, 51), %(feeds)s) AS feed_id
      FROM (SELECT i, CASE WHEN i > %(classifications)s - 2 * %(canary)s
                           THEN 1 + mod((%(classifications)s - i), %(canary)s) * (%(posts)s / %(canary)s)
                           ELSE 1 + mod(i * 7919, %(posts)s) END AS post_id
            FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i OFFSET 0) AS s OFFSET 0) AS o;

-- name: checksum
-- One number over all rows, independent of their physical order; the seed decides it.
SELECT sum(h) FROM (
    SELECT hashtextextended(t::text, 0)::numeric AS h FROM tenants AS t
    UNION ALL SELECT hashtextextended(t::text, 0)::numeric FROM users AS t
    UNION ALL SELECT hashtextextended(t::text, 0)::numeric FROM feeds AS t
    UNION ALL SELECT hashtextextended(t::text, 0)::numeric FROM posts AS t
    UNION ALL SELECT hashtextextended(t::text, 0)::numeric FROM orders AS t
    UNION ALL SELECT hashtextextended(t::text, 0)::numeric FROM items AS t
    UNION ALL SELECT hashtextextended(t::text, 0)::numeric FROM classifications AS t) AS rows;

-- name: measure
SELECT (SELECT count(*) FROM tenants) + (SELECT count(*) FROM users) + (SELECT count(*) FROM feeds)
       + (SELECT count(*) FROM posts) + (SELECT count(*) FROM orders) + (SELECT count(*) FROM items)
       + (SELECT count(*) FROM classifications),
       pg_database_size(current_database());
