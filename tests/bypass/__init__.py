"""What a hostile job tries against the whole product, one real attempt for each row of docs/bypass.md.

    rows        what a row is; all rows; the table of the docs, made from them (`python -m tests.bypass.rows`)
    ways_out, identities, taking, local_api   the rows of each class; most carry the attempt as a script
    hostile     a running appliance with two jobs, and eyes outside
    driver      what runs in a job and takes attempts
    tools       the names that attempts may use
    test_rows   every row has its test and every test its row; the docs say what the rows say

An attempt passes if its outcome is the expected one AND nothing was seen outside. Rows that are not stopped are
tested too: they show what the limit is, so that it cannot change unnoticed.
"""
