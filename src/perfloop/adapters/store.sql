-- name: schema_1
-- What version 1 laid out. Each later version adds its own block, which an older journal goes through.
CREATE TABLE studies (
    study_id TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at_s REAL NOT NULL,
    process_id INTEGER NOT NULL,
    process_started_s REAL NOT NULL,
    document TEXT NOT NULL
) STRICT;
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
CREATE TABLE acts (
    act_id INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id INTEGER NOT NULL REFERENCES batches,
    change TEXT NOT NULL,
    state TEXT NOT NULL,
    before TEXT,
    after TEXT,
    at_s REAL NOT NULL
) STRICT;
CREATE INDEX acts_by_batch ON acts (batch_id);

-- name: schema_2
-- Version 2 keeps baselines.
CREATE TABLE baselines (
    name TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    taken_at_s REAL NOT NULL,
    document TEXT NOT NULL
) STRICT;

-- name: save_baseline
-- A baseline, whole; nothing where one has that name.
INSERT INTO baselines (name, target, taken_at_s, document) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING;

-- name: replace_baseline
-- A baseline in the place of the one that has its name.
INSERT INTO baselines (name, target, taken_at_s, document) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    target = excluded.target, taken_at_s = excluded.taken_at_s, document = excluded.document;

-- name: baseline
-- The baseline of that name.
SELECT document FROM baselines WHERE name = ?;

-- name: baselines
-- All baselines, the newest first.
SELECT document FROM baselines ORDER BY taken_at_s DESC, name;

-- name: remove_baseline
-- Forget a baseline.
DELETE FROM baselines WHERE name = ?;

-- name: save_study
-- Insert or replace a study together with the process that holds it.
INSERT INTO studies (study_id, target, state, started_at_s, process_id, process_started_s, document)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (study_id) DO UPDATE SET
    target = excluded.target, state = excluded.state, started_at_s = excluded.started_at_s,
    process_id = excluded.process_id, process_started_s = excluded.process_started_s,
    document = excluded.document;

-- name: studies
-- All studies, the newest first.
SELECT document FROM studies ORDER BY started_at_s DESC, study_id;

-- name: studies_by_prefix
-- The studies whose name begins so, the newest first.
SELECT document FROM studies WHERE substr(study_id, 1, length(?1)) = ?1 ORDER BY started_at_s DESC, study_id;

-- name: running_studies
-- Studies that say that they run, with the process that should be running them.
SELECT document, process_id, process_started_s FROM studies WHERE state = 'running' ORDER BY started_at_s;

-- name: begin_batch
-- A set of changes that is applied as a whole.
INSERT INTO batches (study_id, target, changes, state, process_id, process_started_s, backend_id, backend_started, at_s)
VALUES (?, ?, ?, 'intended', ?, ?, ?, ?, ?);

-- name: hold_batch
-- Who works on the batch now.
UPDATE batches SET process_id = ?, process_started_s = ?, backend_id = ?, backend_started = ? WHERE batch_id = ?;

-- name: mark_batch
-- How far the batch has come.
UPDATE batches SET state = ? WHERE batch_id = ?;

-- name: intend_act
-- Written before the act.
INSERT INTO acts (batch_id, change, state, before, at_s) VALUES (?, ?, 'intended', ?, ?);

-- name: mark_act
-- Written after the act, and before and after its undo.
UPDATE acts SET state = ?, after = coalesce(?, after), at_s = ? WHERE act_id = ?;

-- name: batches
-- The batches of a study, or all, in the order of applying.
SELECT batch_id, study_id, target, changes, state, process_id, process_started_s, backend_id, backend_started
FROM batches WHERE ?1 IS NULL OR study_id = ?1 ORDER BY batch_id;

-- name: acts
-- The acts of a batch, in the order of applying.
SELECT act_id, change, state, before, after, at_s FROM acts WHERE batch_id = ? ORDER BY act_id;
