-- What perfloop asks of procrastinate's tables, wherever they are. Each block is one statement that only
-- reads, and none looks at more than the jobs that have not ended and the newest events.

-- name: find_procrastinate
-- The schemas that hold procrastinate's tables, whether its workers send heartbeats (from 3.1 on), and
-- whether all of it may be read.
SELECT
    n.nspname::text AS schema,
    bool_or(c.relname = 'procrastinate_workers') AS has_heartbeats,
    has_schema_privilege(n.oid, 'USAGE') AND bool_and(has_table_privilege(c.oid, 'SELECT')) AS may_read
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname IN ('procrastinate_jobs', 'procrastinate_events', 'procrastinate_workers')
  AND c.relkind IN ('r', 'p')
GROUP BY n.oid, n.nspname
HAVING bool_or(c.relname = 'procrastinate_jobs') AND bool_or(c.relname = 'procrastinate_events')
ORDER BY n.nspname

-- name: read_procrastinate_queues
-- Jobs that wait, are not due yet, or run; and since when the oldest of those that wait was due. A job
-- without a time was due when it was deferred, and the lowest number is the oldest.
WITH open AS (
    SELECT queue_name, id, status, scheduled_at,
           status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now()) AS is_due
    FROM {jobs}
    WHERE status IN ('todo', 'doing')
),
queues AS (
    SELECT
        queue_name,
        count(*) FILTER (WHERE is_due) AS depth,
        count(*) FILTER (WHERE status = 'todo' AND NOT is_due) AS scheduled,
        count(*) FILTER (WHERE status = 'doing') AS in_progress,
        min(scheduled_at) FILTER (WHERE is_due) AS oldest_at,
        min(id) FILTER (WHERE is_due AND scheduled_at IS NULL) AS oldest_id
    FROM open
    GROUP BY queue_name
)
SELECT
    q.queue_name::text AS name,
    q.depth,
    q.scheduled,
    q.in_progress,
    CASE WHEN q.depth = 0 THEN 0 ELSE extract(epoch FROM now() - least(
        q.oldest_at,
        (SELECT min(e.at) FROM {events} e WHERE e.job_id = q.oldest_id)
    )) END::float8 AS oldest_age_s
FROM queues q
ORDER BY q.queue_name

-- name: read_procrastinate_stuck
-- Jobs that run by name, but whose worker has gone silent, or has been removed and left them behind.
SELECT j.queue_name::text AS name, count(*) AS stuck
FROM {jobs} j
LEFT JOIN {workers} w ON w.id = j.worker_id
WHERE j.status = 'doing'
  AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => %s))
GROUP BY j.queue_name

-- name: read_procrastinate_events
-- What happened in the window, among the newest events: there is no index on their time. `looks_back_s` is
-- less than was asked for where so many events happened in less time.
WITH newest AS (
    SELECT id, job_id, type, at FROM {events} ORDER BY id DESC LIMIT %(most)s
),
reach AS (
    SELECT CASE WHEN count(*) < %(most)s THEN %(window_s)s
                ELSE least(%(window_s)s, extract(epoch FROM now() - min(at))) END::float8 AS looks_back_s
    FROM newest
),
runs AS (
    SELECT job_id, type, at,
           max(at) FILTER (WHERE type = 'started') OVER (PARTITION BY job_id ORDER BY id) AS started_at
    FROM newest
    WHERE at >= now() - make_interval(secs => %(window_s)s)
)
SELECT
    j.queue_name::text AS name,
    max(r.looks_back_s) AS window_s,
    count(*) FILTER (WHERE e.type = 'deferred') AS arrived,
    count(*) FILTER (WHERE e.type = 'succeeded') AS finished,
    count(*) FILTER (WHERE e.type = 'failed') AS failures,
    avg(extract(epoch FROM e.at - e.started_at))
        FILTER (WHERE e.type IN ('succeeded', 'failed'))::float8 AS run_time_s
FROM runs e
JOIN {jobs} j ON j.id = e.job_id
CROSS JOIN reach r
GROUP BY j.queue_name
