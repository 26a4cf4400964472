-- name: schema
CREATE SCHEMA IF NOT EXISTS reader;
CREATE TABLE IF NOT EXISTS reader.feeds (
    feed_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS reader.entries (
    digest bytea PRIMARY KEY,
    title text NOT NULL,
    link text NOT NULL,
    summary text NOT NULL,
    published timestamptz,
    label text NOT NULL,
    score int NOT NULL,
    because text NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_newest ON reader.entries (label, published DESC NULLS LAST);
CREATE TABLE IF NOT EXISTS reader.sightings (
    digest bytea NOT NULL REFERENCES reader.entries,
    feed_id bigint NOT NULL REFERENCES reader.feeds,
    PRIMARY KEY (digest, feed_id)
);

-- name: empty
TRUNCATE reader.sightings, reader.entries, reader.feeds;

-- name: add_feeds
INSERT INTO reader.feeds (name) SELECT unnest(%s::text[]) ON CONFLICT (name) DO NOTHING;

-- name: feed_ids
SELECT name, feed_id FROM reader.feeds WHERE name = ANY(%s);

-- name: add_entries
INSERT INTO reader.entries (digest, title, link, summary, published, label, score, because)
SELECT * FROM unnest(
    %s::bytea[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::int[], %s::text[]
)
ON CONFLICT (digest) DO UPDATE SET published = excluded.published
    WHERE excluded.published < coalesce(entries.published, 'infinity')
RETURNING label;

-- name: add_sightings
INSERT INTO reader.sightings (digest, feed_id) SELECT * FROM unnest(%s::bytea[], %s::bigint[])
ON CONFLICT DO NOTHING;

-- name: newest
SELECT title, link FROM reader.entries WHERE label = %s ORDER BY published DESC NULLS LAST, digest LIMIT 20;

-- name: counts
SELECT
    (SELECT count(*) FROM reader.feeds),
    (SELECT count(*) FROM reader.entries),
    (SELECT count(*) FROM reader.sightings);

-- name: checksum
SELECT md5(
    coalesce((SELECT string_agg(
        concat_ws('|', encode(digest, 'hex'), title, link, summary, extract(epoch FROM published), label, score,
                  because), E'\n' ORDER BY digest) FROM reader.entries), '')
    || coalesce((SELECT string_agg(encode(s.digest, 'hex') || f.name, E'\n' ORDER BY s.digest, f.name)
                 FROM reader.sightings s JOIN reader.feeds f USING (feed_id)), '')
);
