-- name: hold_lab
-- Show that a lab is alive, for as long as this session lives.
SELECT pg_advisory_lock(1885696620, %s)

-- name: leftover_databases
-- This role's databases of labs whose session is gone, by a pattern whose first group is the lab's number.
SELECT datname
FROM pg_database
WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user)
  AND datname ~ %s
  AND NOT EXISTS (
      SELECT FROM pg_locks
      WHERE locktype = 'advisory' AND classid = 1885696620
        AND objid::text = split_part(datname, '_', 3)
  )

-- name: may_create_databases
-- Whether this role may make the lab's databases.
SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user

-- name: identity
-- What two connections to one server have in common and two servers do not.
SELECT pg_postmaster_start_time(), current_setting('server_version_num'), current_setting('port')
