"""What policy would say of somebody asking for something, and why: for `coatcheck policy explain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct

from appliance.ipc.messages import PolicyBundle


class ExplainAsk(Struct, forbid_unknown_fields=True):
    """A principal as a workload names it, and a request that it might make."""

    principal: Annotated[str, Meta(max_length=100)]
    url: Annotated[str, Meta(max_length=8000)]
    groups: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    method: Annotated[str, Meta(max_length=40)] = "GET"
    credentials: Annotated[tuple[str, ...], Meta(max_length=100)] = ()  # secrets whose placeholder is in a slot
    label: Annotated[str, Meta(max_length=100)] = ""  # of the job
    address: Annotated[str, Meta(max_length=50)] = ""  # that was dialled, if it matters


Explain = Callable[[PolicyBundle, ExplainAsk], Any]
