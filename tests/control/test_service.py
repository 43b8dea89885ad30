"""control.sock: what other processes may write, and that they are told only once it is written."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import uvloop

from appliance.ipc.messages import PolicyBundle, WorkerMetrics
from appliance.metrics import names
from appliance.metrics.tally import Tally
from appliance.model.errors import Denied, EnvironmentFailed, PeerError
from appliance.model.ids import FlowId, JobId
from appliance.model.record import FlowClosed, JobEnded
from tests.control.rig import Rig, rigged


def closed(n: int) -> FlowClosed:
    return FlowClosed(1.0, FlowId("f"), n, 0, 0, "eof")


def sent(rig: Rig) -> list[int]:
    records = [json.loads(line)["record"] for line in rig.audit().splitlines()]
    return [record["sent"] for record in records if record["type"] == "flow.closed"]


def test_batches_from_many_calls_keep_their_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            client = rig.client()
            calls = [client.call("append", [closed(n * 3 + i) for i in range(3)], result=int) for n in range(50)]
            lasts = await asyncio.gather(*calls)
            assert lasts == [1 + 3 * (n + 1) for n in range(50)]  # 1: the policy's own record
            assert sent(rig) == list(range(150))
            assert await client.call("append", [], result=int) == lasts[-1]
            await client.close()

    uvloop.run(main())


def test_nothing_of_a_bad_batch_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            client = rig.client()
            forged = JobEnded(1.0, JobId("j-1"), "x")
            for bad in (b"{", forged, [closed(2), closed(3)], FlowClosed(float("nan"), FlowId("f"), 2, 0, 0, "eof")):
                with pytest.raises(PeerError):
                    await client.call("append", [closed(1), bad, closed(4)], result=int)
            assert sent(rig) == []
            assert await client.call("append", [closed(9)], result=int) == 2
            await client.close()

    uvloop.run(main())


def test_a_log_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            rig.committer.log.break_off("No space left on device")
            client = rig.client()
            with pytest.raises(EnvironmentFailed) as caught:
                await client.call("append", [closed(1)], result=int)
            assert caught.value.code == "audit"
            assert rig.flows.closed_flows() == []
            await client.close()

    uvloop.run(main())


def test_another_uid_may_call_nothing(tmp_path: Path) -> None:
    script = (
        "import asyncio,os,sys\n"
        "from appliance.ipc.client import IpcClient\n"
        "from appliance.model.errors import Denied\n"
        "os.setgroups([]); os.setgid(61900); os.setuid(61900)\n"
        "async def main():\n"
        "    client=IpcClient('control',sys.argv[1],int(sys.argv[2]))\n"
        "    for method, params in (('append',[b'{}']),('policy',''),('metrics',None)):\n"
        "        try: await client.call(method, params)\n"
        "        except Denied as error: print(error.rule)\n"
        "asyncio.run(main())\n"
    )

    async def main() -> None:
        async with rigged(tmp_path) as rig:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, rig.control, str(os.geteuid()),
                stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            out, _ = await process.communicate()
            assert out.split() == [b"ipc", b"ipc", b"ipc"]

    uvloop.run(main())


def test_policy_is_for_proxies_and_metrics_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig:
            client = rig.client()
            bundle = await client.call("policy", "", result=PolicyBundle)
            assert bundle.version == rig.policy.version
            tally = Tally("proxy-0")
            tally.counter(names.SWAPS, "demo").inc()
            await client.call("metrics", tally.export())
            with pytest.raises(PeerError):
                await client.call("metrics", {"worker": 3})
            from tests.control.caller import call

            assert b'coatcheck_swaps_total{secret="demo"} 1.0' in (await call(rig.admin, "GET", "/metrics")).body
            assert (await call(rig.admin, "GET", "/status")).json["proxy"]["workers"] == 1
            await client.close()

    uvloop.run(main())


def test_the_vault_is_not_asked_for_policy(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path, proxy_uid=61002) as rig:
            client = rig.client()
            with pytest.raises(Denied):
                await client.call("policy", "", result=PolicyBundle)
            with pytest.raises(Denied):
                await client.call("metrics", WorkerMetrics("x", ()))
            await client.close()

    uvloop.run(main())
