"""Names of things, as types, so that one kind of name is never taken for another."""

from __future__ import annotations

from typing import NewType

JobId = NewType("JobId", str)  # "j-" + 16 hex digits; unique for the life of the state folder
FlowId = NewType("FlowId", str)  # "f-" + 16 hex digits
SecretName = NewType("SecretName", str)  # as written in the configuration
DestinationName = NewType("DestinationName", str)  # as written in the policy's data
PrincipalName = NewType("PrincipalName", str)  # the workload's name in the configuration
