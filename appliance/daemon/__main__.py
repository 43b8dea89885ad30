"""`python -m appliance.daemon kernel|vault|control|proxy --config FILE [--worker N]`."""

from __future__ import annotations

import argparse
import logging
import os
import sys

import structlog

from appliance.config.load import DEFAULT_PATH, load
from appliance.daemon import notify
from appliance.model.errors import CoatcheckError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m appliance.daemon", description=__doc__)
    parser.add_argument("process", choices=("kernel", "vault", "control", "proxy"))
    parser.add_argument("--config", default=DEFAULT_PATH)
    parser.add_argument("--worker", type=int, default=0)
    arguments = parser.parse_args()
    notify.die_with_parent()
    log_to_stderr()
    try:
        run(arguments.process, arguments.config, arguments.worker)
    except (CoatcheckError, ValueError) as error:
        print(f"coatcheck {arguments.process}: {error}", file=sys.stderr)
        return 1
    return 0


def log_to_stderr() -> None:
    """JSON lines, no values of local variables: those may be secrets."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def run(process: str, config_file: str, worker: int) -> None:
    """Until SIGTERM. Only the process's own modules are imported."""
    if os.geteuid() != 0:
        raise ValueError("this needs root, to give it up in the right way")
    config = load(config_file)
    if process == "kernel":
        from appliance.daemon.kernel import run as run_kernel

        run_kernel(config, notify.ready)
    elif process == "vault":
        from appliance.daemon.vault import run as run_vault

        run_vault(config, notify.ready)
    elif process == "control":
        from appliance.daemon.control import run as run_control

        run_control(config, notify.ready)
    else:
        from appliance.daemon.proxy import run as run_proxy

        run_proxy(config, notify.ready, worker)


if __name__ == "__main__":
    sys.exit(main())
