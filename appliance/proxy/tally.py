"""What a worker counts: the counters that the way of a connection touches, looked up once and kept."""

from __future__ import annotations

from collections.abc import Callable

from appliance.ipc.messages import WorkerMetrics
from appliance.metrics import names
from appliance.metrics.tally import Counter, Histogram, Tally
from appliance.model.errors import CoatcheckError, Denied, PeerError


class ProxyTally:
    """One for each worker. Durations are seconds."""

    def __init__(self, worker: int) -> None:
        tally = self._tally = Tally(f"proxy-{worker}")
        self._open = tally.gauge(names.FLOWS_OPEN)
        self._agents = tally.gauge(names.CONNECTIONS_OPEN, "agent")
        self._allowed = tally.counter(names.VERDICTS, "allow", "any")
        self._first_byte = tally.histogram(names.STEP_SECONDS, "first_byte")
        self._record = tally.histogram(names.STEP_SECONDS, "record")
        self._sent = tally.counter(names.BYTES, "sent")
        self._received = tally.counter(names.BYTES, "received")
        self._swaps: dict[str, Counter] = {}
        self._steps: dict[str, Histogram] = {}

    def read(self, metric: names.Metric, value: Callable[[], float]) -> None:
        """A metric whose value is asked for at each report."""
        self._tally.read(metric, value)

    def export(self) -> WorkerMetrics:
        return self._tally.export()

    # ---- connections ----

    def accepted(self) -> None:
        self._agents.value += 1

    def closed(self) -> None:
        self._agents.value -= 1

    def step(self, name: str, seconds: float) -> None:
        """One of the steps named in `metrics.names.STEP_SECONDS`."""
        histogram = self._steps.get(name)
        if histogram is None:
            histogram = self._steps[name] = self._tally.histogram(names.STEP_SECONDS, name)
        histogram.observe(seconds)

    def opened(self, allowed: bool) -> None:
        self._tally.counter(names.FLOWS_OPENED, "allow" if allowed else "deny").value += 1
        self._open.value += 1

    def flow_closed(self, end: str, sent: int, received: int) -> None:
        self._tally.counter(names.FLOWS_CLOSED, end).value += 1
        self._open.value -= 1
        self._sent.value += sent
        self._received.value += received

    def not_opened(self, reason: str) -> None:
        """A connection that never became a flow."""
        self._tally.counter(names.FLOWS_REFUSED, reason).value += 1

    def handshake(self, side: str, result: str) -> None:
        self._tally.counter(names.HANDSHAKES, side, result).value += 1

    def dialled(self, result: str, seconds: float) -> None:
        """An upstream connection, with its handshake: "new", "reused" or "failed"."""
        self._tally.counter(names.DIALS, result).value += 1
        if result == "new":
            self.step("dial", seconds)

    # ---- operations ----

    def forwarded(self, secrets: tuple[str, ...], recorded_in: float) -> None:
        self._allowed.value += 1
        self._record.observe(recorded_in)
        for name in secrets:
            counter = self._swaps.get(name)
            if counter is None:
                counter = self._swaps[name] = self._tally.counter(names.SWAPS, name)
            counter.value += 1

    def swapped(self, secrets: tuple[str, ...]) -> None:
        """Credentials that a session was opened with."""
        for name in secrets:
            self._tally.counter(names.SWAPS, name).value += 1

    def statements(self, count: int, recorded_in: float) -> None:
        """Statements that go on, once they are on record."""
        self._allowed.value += count
        self._record.observe(recorded_in)

    def rows_masked(self, count: int) -> None:
        self._tally.counter(names.ROWS_MASKED).value += count

    def held(self) -> None:
        self._tally.counter(names.STATEMENTS_HELD).value += 1

    def waited(self) -> None:
        self._tally.counter(names.STATEMENTS_WAITED).value += 1

    def first_byte(self, seconds: float) -> None:
        self._first_byte.observe(seconds)

    def scrubbed(self, count: int) -> None:
        self._tally.counter(names.SCRUBS, "any").value += count

    def strays(self, places: tuple[str, ...]) -> None:
        for place in places:
            self._tally.counter(names.STRAYS, place.rpartition("@")[2]).value += 1

    def failed(self, error: CoatcheckError, side: str = "agent") -> None:
        """A refusal or a failure, by its family."""
        if isinstance(error, Denied):
            self._tally.counter(names.DENIALS, error.rule).value += 1
            self._tally.counter(names.VERDICTS, "deny", error.rule).value += 1
        elif isinstance(error, PeerError):
            self._tally.counter(names.PEER_ERRORS, side, error.code).value += 1
        else:
            self._tally.counter(names.ENVIRONMENT_ERRORS, getattr(error, "code", "internal")).value += 1

    def name_asked(self, decision: str) -> None:
        self._tally.counter(names.DNS_QUESTIONS, decision).value += 1
