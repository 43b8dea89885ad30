"""A policy is tried in a child process before anything of ours depends on it.

regorus has no limits: Rego can end the process that loads it (its stack, its memory) or never return. A child that ends
or does not answer is a refusal with a sentence, and the process that asked lives on. The child is forked and not
executed: it needs no right to the interpreter's files. It costs some 50 ms. It is safe beside other threads because
regorus keeps the interpreter's lock while it works, so nobody else is within it at the fork; the child does nothing but
evaluate, and writes one message.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import threading
import time
import warnings
from typing import Final, NoReturn

import msgspec
from msgspec import Struct

from appliance.ipc.messages import PolicyBundle
from appliance.model.errors import EnvironmentFailed
from appliance.policy.engine import Policy
from appliance.policy.rehearsal import rehearse
from appliance.policy.testing import TestResult, run_tests

WITHIN: Final = 10.0  # seconds
_MOST_MEMORY: Final = 1 << 30  # bytes more than the parent has mapped
_STACK: Final = 4 << 20  # bytes: half of what a worker's thread has
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


class _Outcome(Struct):
    """What the child says. `detail` is not empty if the policy is refused."""

    code: str = ""
    detail: str = ""
    tests: list[TestResult] = []


def try_policy(bundle: PolicyBundle, within: float = WITHIN) -> list[TestResult]:
    """Loads the bundle, asks each of its questions and runs its `test_*` rules, in a child. Blocks for at most
    `within` seconds.

    Returns the outcome of the tests. Raises EnvironmentFailed("policy") if the bundle does not load, ends the process
    or does not come to an end in time.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; see above
        child = os.fork()
    if child == 0:
        _in_child(bundle, writing, within)
    os.close(writing)
    try:
        said, in_time = _read_until(reading, time.monotonic() + within)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # it may have ended: until it is waited for, the number is its own
        _, status = os.waitpid(child, 0)
    if not in_time or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise EnvironmentFailed("policy", f"the policy does not come to an end: tried for {within:g} s")
    try:
        outcome = msgspec.msgpack.decode(said, type=_Outcome)
    except msgspec.DecodeError:
        raise EnvironmentFailed(
            "policy", "the policy ends the process that loads it: it is nested too deeply or needs too much memory"
        ) from None
    if outcome.detail:
        raise EnvironmentFailed(outcome.code, outcome.detail)
    return outcome.tests


def _read_until(reading: int, end: float) -> tuple[bytes, bool]:
    said = bytearray()
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while poll.poll(max(0.0, end - time.monotonic()) * 1000):
        part = os.read(reading, 65536)
        if not part:
            return bytes(said), True
        said += part
    return b"", False


def _in_child(bundle: PolicyBundle, writing: int, within: float) -> NoReturn:
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
        signal.set_wakeup_fd(-1)  # the parent's loop hears of signals by it
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _keep_only(writing)
        _limit(within)
        threading.stack_size(_STACK)
        thread = threading.Thread(target=_try, args=(bundle, writing))
        thread.start()
        thread.join()
    finally:
        os._exit(0)


def _keep_only(writing: int) -> None:
    """No other descriptor of the parent is held open or written to."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, writing)
    os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))


def _limit(within: float) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(within) + 1),
        (resource.RLIMIT_AS, mapped + _MOST_MEMORY),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, hard))


def _try(bundle: PolicyBundle, writing: int) -> None:
    try:
        rehearse(Policy(bundle), bundle)
        outcome = _Outcome(tests=run_tests(bundle))
    except EnvironmentFailed as error:
        outcome = _Outcome(error.code, str(error))
    except BaseException as error:  # regorus' panics are of no Exception
        outcome = _Outcome("policy", f"the policy cannot be tried: {type(error).__name__}")
    left = memoryview(msgspec.msgpack.encode(outcome))
    while left:
        left = left[os.write(writing, left) :]
