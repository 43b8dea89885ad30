"""Keeps the worker's policy that of control: asked once at the start, then told by long polls."""

from __future__ import annotations

import asyncio

import structlog

from appliance.ipc.client import IpcClient
from appliance.ipc.messages import PolicyBundle
from appliance.model.errors import CoatcheckError
from appliance.policy.engine import Policy
from appliance.proxy.services import PolicyInForce

log = structlog.get_logger()

_AGAIN = 1.0  # seconds until control is asked again after it failed


async def first_policy(control: IpcClient) -> PolicyInForce:
    """The policy to start with. Raises EnvironmentFailed if there is none: a worker without policy serves nobody."""
    bundle: PolicyBundle = await control.call("policy", "", result=PolicyBundle)
    return PolicyInForce(Policy(bundle))


async def watch_policy(control: IpcClient, in_force: PolicyInForce) -> None:
    """Runs until cancelled. Replaces the policy when control has a new one; keeps it while control is gone (then no
    record can be written, so nothing is let through anyway)."""
    while True:
        try:
            version = in_force.current.version
            bundle: PolicyBundle = await control.call("policy", version, result=PolicyBundle, timeout=30.0)
            if bundle.version != version:
                in_force.current = Policy(bundle)
                log.info("policy.replaced", version=bundle.version)
        except CoatcheckError as error:
            log.warning("policy.watch", error=str(error))
            await asyncio.sleep(_AGAIN)
