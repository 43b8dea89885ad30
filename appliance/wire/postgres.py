"""PostgreSQL's wire protocol."""
