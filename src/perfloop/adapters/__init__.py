"""The only code that talks to the outside: PostgreSQL, this machine, servers, files."""
