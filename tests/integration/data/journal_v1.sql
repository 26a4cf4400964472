-- A journal as perfloop 0.1 wrote it: schema version 1.
BEGIN TRANSACTION;
CREATE TABLE acts (
    act_id INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id INTEGER NOT NULL REFERENCES batches,
    change TEXT NOT NULL,
    state TEXT NOT NULL,
    before TEXT,
    after TEXT,
    at_s REAL NOT NULL
) STRICT;
INSERT INTO "acts" VALUES(1,1,'{"type":"create-index","table":{"schema":"public","name":"orders"},"name":"by_day","keys":[{"text":"day","is_expression":false,"descending":false,"nulls_first":null,"operator_class":null,"collation":null}],"included":[],"predicate":null,"method":"btree"}','applied',NULL,'CREATE INDEX by_day ON public.orders USING btree (day)',1795247800.0);
INSERT INTO "acts" VALUES(2,1,'{"type":"alter-setting","name":"work_mem","value":"64MB","scope":"database","scope_name":"shop"}','undoing','4MB','64MB',1795247800.0);
CREATE TABLE batches (
    batch_id INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id TEXT NOT NULL,
    target TEXT NOT NULL,
    changes TEXT NOT NULL,
    state TEXT NOT NULL,
    process_id INTEGER NOT NULL,
    process_started_s REAL NOT NULL,
    backend_id INTEGER NOT NULL,
    backend_started TEXT NOT NULL,
    at_s REAL NOT NULL
) STRICT;
INSERT INTO "batches" VALUES(1,'20261121-4f2c','postgresql://shop@db:5432/shop','[{"type":"create-index","table":{"schema":"public","name":"orders"},"name":"by_day","keys":[{"text":"day","is_expression":false,"descending":false,"nulls_first":null,"operator_class":null,"collation":null}],"included":[],"predicate":null,"method":"btree"},{"type":"alter-setting","name":"work_mem","value":"64MB","scope":"database","scope_name":"shop"}]','intended',4711,1795247700.5,77,'2026-11-21 07:00:00.000001',1795247800.0);
CREATE TABLE studies (
    study_id TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at_s REAL NOT NULL,
    process_id INTEGER NOT NULL,
    process_started_s REAL NOT NULL,
    document TEXT NOT NULL
) STRICT;
INSERT INTO "studies" VALUES('20261121-4f2c','postgresql://shop@db:5432/shop','finished',1795247774.0,4711,1795247700.5,'{"study_id":"20261121-4f2c","target":"postgresql://shop@db:5432/shop","started_at_s":1795247774.0,"finished_at_s":null,"state":"finished","seed":7,"fingerprint":{"server_version":150018,"server_text":"PostgreSQL 15.18","block_bytes":8192,"data_checksums":false,"jit_available":true,"wal_compressions":["pglz"],"io_methods":[],"extensions":["plpgsql"]},"lab_fingerprint":null,"workload_origin":"","statements":[],"skipped":[],"findings":[],"limitations":[],"unexplained":[],"trials":[],"rechecks":[],"confirmation":null,"notes":[]}');
CREATE INDEX acts_by_batch ON acts (batch_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('batches',1);
INSERT INTO "sqlite_sequence" VALUES('acts',2);
COMMIT;
PRAGMA application_id = 1885760624;
PRAGMA user_version = 1;
