"""Queues of background jobs, filled by the libraries themselves: read without them, judged, and shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from perfloop.adapters.connection import connect
from perfloop.adapters.jobs.reading import JobReading
from perfloop.adapters.jobs.redis_jobs import read_redis_jobs
from perfloop.adapters.jobs.watch import JobWatch
from perfloop.adapters.servers import RedisServer, find_redis
from perfloop.analyze.checks import analyze
from perfloop.analyze.jobs import judge_queues
from perfloop.errors import InvalidInput, ServerNotFound
from perfloop.metrics import Registry
from perfloop.model.advice import Severity
from perfloop.model.jobs import JobQueue
from perfloop.model.snapshot import Snapshot
from perfloop.model.value import from_json
from perfloop.tune.analysis import analyze_target
from perfloop.tune.observer import Silence

procrastinate = pytest.importorskip("procrastinate")
celery = pytest.importorskip("celery")
dramatiq = pytest.importorskip("dramatiq")
rq = pytest.importorskip("rq")
redis = pytest.importorskip("redis")
from dramatiq.brokers.redis import RedisBroker  # noqa: E402  # what it stands in may not be installed

SNAPSHOT = from_json((Path(__file__).parents[1] / "unit/data/snapshot.json").read_text(), Snapshot)
JOB_CHECKS = ("job-failures", "job-queue-grows", "job-queue-late", "job-stuck")
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    try:
        binary = find_redis()
    except ServerNotFound:
        pytest.skip("no Redis or Valkey is installed")
    with RedisServer(binary) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def look(server: RedisServer) -> Callable[..., JobQueue]:
    """Reads the only queue that there is, at a moment of so many seconds from now."""

    def read(later_s: float = 0.0) -> JobQueue:
        reading = read_redis_jobs(server.url, now_s=time.time() + later_s)
        assert () == reading.limitations
        (queue,) = reading.queues
        return queue

    return read


@pytest.fixture
def procrastinate_dsn(postgres_dsn: str) -> str:
    """A database with procrastinate's own tables."""
    with app_of(postgres_dsn).open() as app:
        app.schema_manager.apply_schema()
    return postgres_dsn


def app_of(dsn: str) -> procrastinate.App:
    return procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=dsn))


def defer(dsn: str, count: int, *, queue: str = "mail", **options: object) -> None:
    with app_of(dsn).open() as app:
        task = app.configure_task("send", queue=queue, allow_unknown=True, **options)
        task.batch_defer(*({"number": number} for number in range(count)))


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def work(dsn: str, count: int, *, status: str = "succeeded") -> None:
    """Do as a worker of procrastinate does, by its own functions; without a status the jobs stay begun."""
    worker = "(SELECT worker_id FROM procrastinate_register_worker_v1())"
    finish = f"PERFORM procrastinate_finish_job_v1(job, '{status}', false);" if status else ""
    execute(
        dsn,
        f"""DO $$ DECLARE me bigint := {worker}; job bigint; BEGIN
            FOR number IN 1..{count} LOOP
                job := (procrastinate_fetch_job_v2(NULL, me)).id;
                {finish}
            END LOOP; END $$""",
    )


def queues_in(dsn: str) -> tuple[JobQueue, ...]:
    with JobWatch(dsn) as watch:
        reading = watch.read(now_s=time.time())
    assert () == reading.limitations
    return reading.queues


def send_mail(number: int) -> None: ...


def found(*queues: JobQueue) -> dict[str, Severity]:
    """The job checks that speak up, with those of `analyze` and of the queues alone agreeing."""
    checks = {each.check: each.severity for each in judge_queues(queues)}
    snapshot = replace(SNAPSHOT, jobs=queues)

    assert {each.check for each in analyze(snapshot)} & set(JOB_CHECKS) == set(checks)
    return checks


@pytest.mark.spares(*JOB_CHECKS)
def test_queues_that_workers_keep_up_with_have_no_finding(procrastinate_dsn: str) -> None:
    defer(procrastinate_dsn, 150)
    work(procrastinate_dsn, 140)
    work(procrastinate_dsn, 5, status="failed")
    work(procrastinate_dsn, 2, status="")
    defer(procrastinate_dsn, 4, schedule_in={"hours": 2})
    (queue,) = queues_in(procrastinate_dsn)

    assert (3, 2, 4) == (queue.depth, queue.in_progress, queue.scheduled)
    assert (154, 140, 5, 0) == (queue.arrived, queue.finished, queue.failures, queue.stuck)
    assert queue.run_time_s is not None
    assert queue.oldest_age_s is not None
    assert 0 < queue.oldest_age_s < 60
    assert {} == found(queue)


@pytest.mark.finds("job-queue-grows")
def test_a_queue_that_grows_is_found_by_what_arrived_and_ended(procrastinate_dsn: str) -> None:
    defer(procrastinate_dsn, 300)
    work(procrastinate_dsn, 20)
    (queue,) = queues_in(procrastinate_dsn)

    assert {"job-queue-grows": Severity.HIGH} == found(queue)
    assert "procrastinate queue mail: grew by 280 jobs" in judge_queues([queue])[0].title


def test_a_queue_whose_ended_jobs_are_deleted_is_not_said_to_grow(procrastinate_dsn: str) -> None:
    defer(procrastinate_dsn, 300)
    work(procrastinate_dsn, 200)
    execute(procrastinate_dsn, "DELETE FROM procrastinate_jobs WHERE status = 'succeeded'")
    (queue,) = queues_in(procrastinate_dsn)

    assert (100, 0) == (queue.depth, queue.finished)
    assert {} == found(queue)


@pytest.mark.finds("job-queue-late")
def test_a_job_that_was_due_an_hour_ago_is_found(procrastinate_dsn: str) -> None:
    defer(procrastinate_dsn, 3)
    execute(procrastinate_dsn, "UPDATE procrastinate_events SET at = at - interval '2 hours'")
    (queue,) = queues_in(procrastinate_dsn)

    assert queue.oldest_age_s == pytest.approx(2 * HOUR_S, abs=60)
    assert {"job-queue-late": Severity.HIGH} == found(queue)
    assert "has been due for 2 hours; nobody works on it" in judge_queues([queue])[0].title


@pytest.mark.finds("job-failures")
def test_jobs_that_fail_are_found(procrastinate_dsn: str) -> None:
    defer(procrastinate_dsn, 100)
    work(procrastinate_dsn, 90)
    work(procrastinate_dsn, 10, status="failed")
    (queue,) = queues_in(procrastinate_dsn)

    assert {"job-failures": Severity.MEDIUM} == found(queue)
    assert "10 jobs failed in 60 minutes, 10 % of those that ended" in judge_queues([queue])[0].title


@pytest.mark.finds("job-stuck")
@pytest.mark.parametrize(
    "death",
    [
        "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'",
        "SELECT procrastinate_prune_stalled_workers_v1(-1)",
    ],
    ids=["silent", "pruned"],
)
def test_jobs_of_a_dead_worker_are_found_also_when_its_row_is_gone(
    procrastinate_dsn: str, death: str
) -> None:
    defer(procrastinate_dsn, 5)
    work(procrastinate_dsn, 2, status="")
    alive = queues_in(procrastinate_dsn)
    execute(procrastinate_dsn, death)
    (queue,) = queues_in(procrastinate_dsn)

    assert {} == found(*alive)
    assert (2, 2) == (queue.in_progress, queue.stuck)
    assert {"job-stuck": Severity.HIGH} == found(queue)


def test_tables_in_a_schema_of_their_own_and_before_heartbeats_are_read(procrastinate_dsn: str) -> None:
    defer(procrastinate_dsn, 2)
    execute(
        procrastinate_dsn,
        "ALTER TABLE procrastinate_jobs DROP COLUMN worker_id CASCADE",
        "DROP TABLE procrastinate_workers CASCADE",
        "CREATE SCHEMA work",
        "ALTER TABLE procrastinate_jobs SET SCHEMA work",
        "ALTER TABLE procrastinate_events SET SCHEMA work",
    )
    (queue,) = queues_in(procrastinate_dsn)

    assert ("work.mail", 2, None) == (queue.name, queue.depth, queue.stuck)
    assert "procrastinate before 3.1 keeps no heartbeats of its workers" == dict(queue.unknown)["stuck"]


def test_a_role_without_rights_is_told_the_grants_that_help(procrastinate_dsn: str) -> None:
    with connect(procrastinate_dsn, read_only=False) as connection:
        connection.execute("DROP ROLE IF EXISTS job_watcher")
        connection.execute("CREATE ROLE job_watcher LOGIN")
    defer(procrastinate_dsn, 1)
    try:
        with JobWatch(f"{procrastinate_dsn} user=job_watcher") as watch:
            refused = watch.read(now_s=time.time())
            (limitation,) = refused.limitations
            execute(procrastinate_dsn, *limitation.remedy.splitlines())
            allowed = watch.read(now_s=time.time())
    finally:
        execute(procrastinate_dsn, "DROP OWNED BY job_watcher", "DROP ROLE job_watcher")

    assert () == refused.queues
    assert "its tables in the schema public may not be read" in limitation.reason
    assert (["mail"], ()) == ([each.name for each in allowed.queues], allowed.limitations)


def test_a_database_and_a_redis_without_jobs_have_no_queues(
    postgres_dsn: str, client: redis.Redis, server: RedisServer
) -> None:
    client.set("something", "else")
    with JobWatch(postgres_dsn, redis_url=server.url) as watch:
        assert JobReading() == watch.read(now_s=time.time())


def test_queues_of_rq_are_read(client: redis.Redis, look: Callable[..., JobQueue]) -> None:
    queue = rq.Queue("mail", connection=client)
    for number in [*range(30), *[-1] * 10]:
        queue.enqueue(math.sqrt, number)
    rq.SimpleWorker([queue], connection=client, log_job_description=False).work(
        burst=True, logging_level="ERROR"
    )
    for number in range(7):
        queue.enqueue(math.sqrt, number)
    queue.enqueue_in(timedelta(hours=1), math.sqrt, 4)
    told, later = look(), look(400)

    assert (7, 0, 1, 0) == (told.depth, told.in_progress, told.scheduled, told.stuck)
    assert (30, 10, 500) == (told.finished, told.failures, pytest.approx(told.window_s, abs=2))
    assert told.run_time_s is not None
    assert 400 == pytest.approx(later.oldest_age_s, abs=5)
    assert {"job-failures": Severity.HIGH} == found(told)
    assert {"job-failures": Severity.HIGH, "job-queue-late": Severity.MEDIUM} == found(later)
    assert {"arrived"} == dict(told.unknown).keys()


def test_a_job_that_a_killed_worker_of_rq_had_is_stuck(
    client: redis.Redis, look: Callable[..., JobQueue]
) -> None:
    queue = rq.Queue("mail", connection=client)
    job = queue.enqueue(math.sqrt, 4)
    worker = rq.SimpleWorker([queue], connection=client)
    worker.prepare_execution(queue.connection.lpop(queue.key) and job)
    alive, dead = look(), look(HOUR_S)

    assert (1, 0) == (alive.in_progress, alive.stuck)
    assert {} == found(alive)
    assert (1, 1) == (dead.in_progress, dead.stuck)
    assert {"job-stuck": Severity.HIGH} == found(dead)


def test_queues_of_dramatiq_are_read(client: redis.Redis, look: Callable[..., JobQueue]) -> None:
    broker = RedisBroker(client=client, middleware=[])
    send = dramatiq.actor(send_mail, actor_name="send", queue_name="mail", broker=broker)
    for number in range(20):
        send.send(number)
    send.send_with_options(args=(20,), delay=600_000)
    consumer = broker.consume("mail", prefetch=15, timeout=100)
    taken = [next(consumer) for _ in range(15)]
    for message in taken[:12]:
        consumer.nack(message)
    told, later = look(), look(400)

    assert (5, 3, 1) == (told.depth, told.in_progress, told.scheduled)
    assert (12, None, 0) == (told.failures, told.finished, told.stuck)
    assert {"job-failures": Severity.MEDIUM} == found(told)
    assert 3 == later.stuck
    assert {"job-failures", "job-stuck", "job-queue-late"} == found(later).keys()


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")  # by Celery, of redis-py
def test_queues_of_celery_are_read_and_what_redis_does_not_tell_is_said(
    client: redis.Redis, server: RedisServer, look: Callable[..., JobQueue]
) -> None:
    url = server.url.replace("unix://", "redis+socket://")
    with celery.Celery("shop", broker=url, backend=url) as app:
        task = app.task(send_mail, name="send")
        for number in range(6):
            task.apply_async((number,), priority=9 if number > 3 else 0)
        for number in range(12):
            app.backend.store_result(f"good{number}", None, "SUCCESS")
            app.backend.store_result(f"bad{number}", ValueError("no"), "FAILURE")
        with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
            message = queue.get()
            told = look()
            message.reject()
    unknown = dict(told.unknown)

    assert (5, 1) == (told.depth, told.in_progress)
    assert (12, 12, None) == (told.finished, told.failures, told.oldest_age_s)
    assert {"oldest_age_s", "scheduled", "arrived", "run_time_s", "stuck"} == unknown.keys()
    assert "a Celery message has no time; the events of its workers have" == unknown["oldest_age_s"]
    assert {"job-failures": Severity.HIGH} == found(told)


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")  # by Celery, of redis-py
def test_results_of_celery_count_for_their_queue_where_they_name_it(
    client: redis.Redis, server: RedisServer
) -> None:
    url = server.url.replace("unix://", "redis+socket://")
    with celery.Celery("shop", broker=url, backend=url) as app:
        task = app.task(send_mail, name="send")
        for queue in ("mail", "feeds"):
            task.apply_async((1,), queue=queue)
        app.backend.store_result("plain", "x" * 20_000, "SUCCESS")
        plain = read_redis_jobs(server.url, now_s=time.time()).queues
        client.delete("celery-task-meta-plain")
        app.conf.result_extended = True
        for number, queue in enumerate(["mail", "mail", "feeds"]):
            request = celery.app.task.Context(delivery_info={"routing_key": queue}, kwargs={"queue": "no"})
            app.backend.store_result(f"bad{number}", ValueError("no"), "FAILURE", request=request)
        extended = read_redis_jobs(server.url, now_s=time.time()).queues

    assert [None, None] == [each.failures for each in plain]
    assert "results do not name their queue; set result_extended" == dict(plain[0].unknown)["failures"]
    assert [("feeds", 1), ("mail", 2)] == [(each.name, each.failures) for each in extended]


def test_growth_is_seen_between_two_looks_and_shown_to_scrapers(
    client: redis.Redis, server: RedisServer
) -> None:
    registry = Registry()
    queue = rq.Queue("mail", connection=client)
    with JobWatch(redis_url=server.url, registry=registry) as watch:
        watch.read(now_s=time.time())
        queue.enqueue_many([rq.Queue.prepare_data(math.sqrt, (number,)) for number in range(200)])
        (told,) = watch.read(now_s=time.time() + 10).queues
        text = registry.prometheus_text()

        assert (told,) == watch.statistics()
    assert (200, 10) == (told.grown_by, pytest.approx(told.grown_over_s, abs=5))
    assert {"job-queue-grows": Severity.HIGH} == found(told)
    assert 'perfloop_jobs_waiting{system="rq",queue="mail"} 200' in text
    assert 'perfloop_jobs_finished{system="rq"' not in text
    assert "perfloop_jobs" not in registry.prometheus_text()


def test_jobs_are_analysed_beside_the_database(
    procrastinate_dsn: str, client: redis.Redis, server: RedisServer
) -> None:
    defer(procrastinate_dsn, 3)
    rq.Queue("feeds", connection=client).enqueue(math.sqrt, 1)
    analysis = analyze_target(procrastinate_dsn, Silence(), redis_url=server.url)

    assert ["procrastinate: mail", "rq: feeds"] == [each.identity for each in analysis.snapshot.jobs]


def test_nowhere_to_look_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give a DSN, the URL of a Redis, or both"):
        JobWatch()
