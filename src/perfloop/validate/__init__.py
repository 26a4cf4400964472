"""Workloads with real parameters: from pg_stat_statements, server logs, .sql files and pgbench scripts."""
