"""A small multi-tenant service with the problems that such services have in production."""
