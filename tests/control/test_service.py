"""control.sock: who may call what; and that the records of a worker's pipe, and only those, are written."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec import msgpack

from appliance.ipc.messages import PolicyBundle, WorkerMetrics
from appliance.ipc.record_pipe import frame_of
from appliance.metrics import names
from appliance.metrics.tally import Tally
from appliance.model.errors import Denied, EnvironmentFailed, PeerError
from appliance.model.ids import FlowId, JobId
from appliance.model.record import FlowClosed, JobEnded
from tests.control.caller import call
from tests.control.rig import Rig, rigged
from tests.proxy.loops import until


def closed(n: int) -> FlowClosed:
    return FlowClosed(1.0, FlowId("f"), n, 0, 0, "eof")


def sent(rig: Rig) -> list[int]:
    records = [json.loads(line).get("record", {}) for line in rig.audit().splitlines()]
    return [record["sent"] for record in records if record.get("type") == "flow.closed"]


@asynccontextmanager
async def pipe_of(rig: Rig) -> AsyncIterator[int]:
    """A pipe as a worker has it."""
    client = rig.client()
    pipe = os.open(await client.call("records", result=str), os.O_WRONLY | os.O_NONBLOCK)
    try:
        yield pipe
    finally:
        os.close(pipe)
        await client.close()


def hand_over(pipe: int, batch: Any) -> None:
    frame = frame_of(msgpack.encode(batch))
    assert os.write(pipe, frame) == len(frame)


def test_records_from_many_batches_keep_their_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig, pipe_of(rig) as pipe:
            for n in range(50):
                hand_over(pipe, [closed(n * 3 + i) for i in range(3)])
                if n % 7 == 0:
                    await asyncio.sleep(0)
            hand_over(pipe, [])
            await until(lambda: len(sent(rig)) == 150)
            assert sent(rig) == list(range(150))
            assert rig.committer.log.tip.sequence == 151  # 1: the policy's own record
            assert rig.record_troubles == []

    uvloop.run(main())


def test_nothing_of_a_bad_batch_is_written_and_all_of_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig, pipe_of(rig) as pipe:
            forged = JobEnded(1.0, JobId("j-1"), "x")
            bad_ones = (b"{", forged, [closed(2), closed(3)], FlowClosed(float("nan"), FlowId("f"), 2, 0, 0, "eof"))
            for n, bad in enumerate(bad_ones):
                hand_over(pipe, [closed(101), bad, closed(104)])
                hand_over(pipe, [closed(n)])
            await until(lambda: len(sent(rig)) == 4)
            assert sent(rig) == [0, 1, 2, 3]
            assert len(rig.record_troubles) == 4
            assert b"coatcheck_audit_refused_total 4.0" in (await call(rig.admin, "GET", "/metrics")).body

    uvloop.run(main())


def test_what_was_handed_over_is_written_when_control_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig, pipe_of(rig) as pipe:
            hand_over(pipe, [closed(n) for n in range(10)])
        assert sent(rig) == list(range(10))

    uvloop.run(main())


def test_a_log_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path) as rig, pipe_of(rig) as pipe:
            rig.committer.log.break_off("No space left on device")
            hand_over(pipe, [closed(1)])
            await until(lambda: rig.record_troubles)
            with pytest.raises(BrokenPipeError):
                hand_over(pipe, [closed(2)])
            client = rig.client()
            with pytest.raises(EnvironmentFailed) as caught:
                await client.call("records", result=str)
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
        "    for method, params in (('records',None),('policy',''),('metrics',None)):\n"
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
            assert b'coatcheck_swaps_total{secret="demo"} 1.0' in (await call(rig.admin, "GET", "/metrics")).body
            assert (await call(rig.admin, "GET", "/status")).json["proxy"]["workers"] == 1
            await client.close()

    uvloop.run(main())


def test_only_a_proxy_gets_policy_and_pipes(tmp_path: Path) -> None:
    async def main() -> None:
        async with rigged(tmp_path, proxy_uid=61002) as rig:
            client = rig.client()
            with pytest.raises(Denied):
                await client.call("policy", "", result=PolicyBundle)
            with pytest.raises(Denied):
                await client.call("records", result=str)
            with pytest.raises(Denied):
                await client.call("metrics", WorkerMetrics("x", ()))
            await client.close()

    uvloop.run(main())
