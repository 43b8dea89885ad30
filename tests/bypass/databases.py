"""Class "PostgreSQL": a database, and a job that holds a placeholder of its password."""

from __future__ import annotations

from tests.bypass.rows import Row

_LOGIN = "tests/postgres/test_login.py"
_STATEMENTS = "tests/postgres/test_statements.py"

ROWS = (
    Row(
        "the real password, in a job that got hold of it",
        "only a live placeholder of this very job opens a session",
        elsewhere=f"{_LOGIN}::test_another_password_is_refused",
    ),
    Row(
        "the placeholder of another job's database password",
        "placeholders are bound to their job",
        elsewhere=f"{_LOGIN}::test_a_placeholder_of_another_job_is_refused",
    ),
    Row(
        "another user, database or port than the policy names",
        "the startup packet is held against the plan before anything is dialled",
        elsewhere=f"{_LOGIN}::test_another_user_database_or_port_is_refused",
    ),
    Row("the server's address under another name", "the name decides; policy names no such destination"),
    Row("another address under the server's name", "the address must be one of the name's"),
    Row(
        "what comes right behind SSLRequest, in clear, to be taken for what came within TLS",
        "exactly the request's 8 bytes are taken; what follows must be a ClientHello",
    ),
    Row("SSLRequest and GSSENCRequest over and over", "each may come once"),
    Row(
        "a server between that has no certificate for the name, and a client that asks for no TLS",
        "TLS to the server is ours, verified whatever the client asks for",
        elsewhere=f"{_LOGIN}::test_a_server_that_cannot_prove_its_name",
    ),
    Row(
        "a CancelRequest from another job, with the very key",
        "keys are made here, and work for sessions of the job that sends them",
    ),
    Row("the server's own key for a cancel", "it is not handed on; ours is of no use at the server"),
    Row(
        "a tunnel rule for the server's port, to log in unread", "a tunnel does not take PostgreSQL, and swaps nothing"
    ),
    Row(
        "replication, which sends tables whole",
        "denied unless policy names it, and always beside masks",
        elsewhere=f"{_LOGIN}::test_replication_is_refused",
    ),
    Row(
        "the password where the database has it: in rows, COPY, notices, errors, encoded",
        "scrubbed from all that comes back; the length stays",
    ),
    Row(
        "denied statements among others: multi-statements, comments, CTEs, subqueries, COPY, EXPLAIN, DO, PREPARE, "
        "cursors, rules",
        "every statement is parsed by PostgreSQL's own grammar and walked whole",
        elsewhere=f"{_STATEMENTS}::test_ways_around_are_denied",
    ),
    Row(
        "a denied statement, prepared under a name",
        "judged at Parse, and again at each Execute",
        elsewhere=f"{_STATEMENTS}::test_prepared_under_a_name_and_executed",
    ),
    Row(
        "a name that means something harmless here, and another thing to the server: what fails, waits or is skipped "
        "in a pipeline, portals and statements replaced under way",
        "names follow the server's answers; conversations by chance are compared with the server's own",
        elsewhere="tests/postgres/test_conversations.py::test_what_is_denied_is_not_done",
    ),
    Row(
        "a column that is read as none: another name of it (t(a, b)), a row in a function's place (t.to_json, t.max)",
        "columns that are named otherwise, and functions of any row, count as all columns",
        elsewhere="tests/sql/test_privileges.py::test_each_function_of_any_row_is_known",
    ),
    Row(
        "another search_path, so that a harmless name means another table",
        "set at the start; changing it is a mark that a rule must name",
        elsewhere=f"{_STATEMENTS}::test_the_search_path_is_locked",
    ),
    Row(
        "getting out of the policy's role (RESET, SET, set_config, DISCARD)",
        "the role is the session's default; changing it is a mark that a rule must name",
        elsewhere=f"{_STATEMENTS}::test_the_role_is_locked",
    ),
    Row(
        "a masked column by another name, computed from, probed, copied",
        "masked by its origin; expressions and probing are followed through the parse tree, and denied",
        elsewhere=f"{_STATEMENTS}::test_masks",
    ),
    Row(
        "sessions that together keep more memory than there is: unfinished statements, prepared ones",
        "what a job's sessions keep has a limit; the one that passes it ends",
        elsewhere="tests/postgres/test_names.py::test_what_the_sessions_of_a_job_keep_has_a_limit",
    ),
    Row(
        "a password of one's own choice for the role (ALTER ROLE … PASSWORD), where every statement is allowed",
        "refused whatever the rules say: an agent would know a password that is no placeholder",
    ),
)
