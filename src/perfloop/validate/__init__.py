"""Workloads with real parameters: from pg_stat_statements, .sql files and pgbench scripts."""
