"""Reads through a connection that the caller lends: psycopg's, or SQLAlchemy's with psycopg below."""
