"""Per protocol: what the agent asked -> what is forwarded, refused or answered. Pure.

In: parsed messages (`wire`), a compiled lease (`placeholders`), a plan's decider (`policy`). Out: an operation with
its verdict, the bytes of the head that goes on, or an answer in the agent's own protocol.
Always: what is forwarded is written anew from what was parsed, never relayed; a placeholder is swapped only in a head
whose verdict allows it.

`http` judges requests and writes heads; `websocket` scrubs messages; `problem` says no in HTTP (RFC 9457).
`postgres` has the rules of PostgreSQL's protocol, `postgres_steps` what is asked and not answered yet, `postgres_names`
what names mean; `postgres_judge` judges a text (`sql_operation`: in policy's words), `postgres_masks` picks what hides
a column, `postgres_startup` holds the startup packet against the plan, `postgres_problem` says no.
"""
