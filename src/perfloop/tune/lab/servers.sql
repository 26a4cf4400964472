-- name: hold_lab
-- Show that a lab is alive, for as long as this session lives.
SELECT pg_advisory_lock(1885696620, %s)

-- name: leftover_labs
-- The numbers of labs whose databases are here and whose session is gone.
SELECT DISTINCT found.lab_id
FROM pg_database, LATERAL (SELECT substring(datname FROM %s)::integer AS lab_id) AS found
WHERE found.lab_id IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM pg_locks
      WHERE locktype = 'advisory' AND classid = 1885696620 AND objid = found.lab_id::oid
  )

-- name: databases
-- Databases by the beginning of their names.
SELECT datname FROM pg_database WHERE starts_with(datname, %s)

-- name: may_create_databases
-- Whether this role may make the lab's databases.
SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user

-- name: identity
-- What two connections to one server have in common and two servers do not.
SELECT pg_postmaster_start_time(), current_setting('server_version_num'), current_setting('port')
