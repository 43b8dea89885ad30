"""Every fuzz loop there is."""

from __future__ import annotations

from tests.fuzz import dns, hello, http1, masking, names, postgres, scram, sql, target
from tests.fuzz.runner import Harness

ALL: list[Harness] = [
    http1.REQUEST,
    http1.RESPONSE,
    hello.HARNESS,
    names.HARNESS,
    target.HARNESS,
    dns.HARNESS,
    scram.HARNESS,
    masking.ROW_MASKS,
    masking.COPY_MASKS,
    masking.VALUE_MASKS,
    postgres.START,
    postgres.CLIENT,
    postgres.SERVER,
    sql.HARNESS,
]
