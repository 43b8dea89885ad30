"""All checks, in order, for people and programs."""

from __future__ import annotations

from appliance.cli.doctor.findings import Finding
from appliance.cli.doctor.installation import compiled, installation, read
from appliance.cli.doctor.kernel import kernel
from appliance.cli.doctor.network import network
from appliance.cli.doctor.running import Running
from appliance.cli.output import NO, say, show_json, show_table


def doctor(config_file: str, as_json: bool) -> None:
    """Ends with status 1 if something that is needed is missing."""
    found = examine(config_file)
    missing = [finding for finding in found if finding.state == "missing"]
    if as_json:
        show_json({"ok": not missing, "checks": [finding._asdict() for finding in found]})
    else:
        rows = [(_state(finding), finding.name, finding.detail) for finding in found]
        show_table(("STATE", "CHECK", "WHAT"), rows, "")
        _show_mending(found)
        say(f"\n{len(missing)} needed things are missing" if missing else "\nnothing that is needed is missing")
    if missing:
        raise SystemExit(NO)


def examine(config_file: str) -> list[Finding]:
    """Every finding. Changes nothing on the host."""
    found = [*kernel(), compiled()]
    config, said = read(config_file)
    running = Running(config)
    found += network(config, running)
    found.append(said)
    if config is not None:
        found += installation(config)
    found += running.findings()
    return found


def _show_mending(found: list[Finding]) -> None:
    mending = [finding for finding in found if finding.mend]
    if mending:
        say("\nTo mend:")
    for finding in mending:
        say(f"  {finding.name}: {finding.mend}")


def _state(finding: Finding) -> str:
    return finding.state.upper() if finding.state == "missing" else finding.state
