"""The commands. `coatcheck COMMAND --help` is the manual."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from appliance import __version__
from appliance.config.load import DEFAULT_PATH

app = typer.Typer(
    name="coatcheck",
    help="Jobs and agents hold placeholders; only the destination sees the credential.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
policy = typer.Typer(help="What may be done, by whom.", no_args_is_help=True)
audit = typer.Typer(help="The record that cannot be changed unnoticed.", no_args_is_help=True)
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")

ConfigFile = Annotated[str, typer.Option("--config", metavar="FILE", help="The configuration file.")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"coatcheck {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it, end.")] = False,
) -> None:
    pass


# ---- the daemon ----


@app.command()
def up(config: ConfigFile = DEFAULT_PATH) -> None:
    """Run everything in the foreground.

    Starts the four processes (kernel, vault, control, proxy), prints `ready` once traffic is governed, and runs until
    SIGTERM or ^C. Needs root, which each process gives up. What is governed stays governed when it ends: jobs are then
    refused, until it runs again or `coatcheck release` lets go.
    """
    from appliance.cli.up import up as run_up

    run_up(config)


@app.command()
def release(config: ConfigFile = DEFAULT_PATH) -> None:
    """Let go of everything that is governed: detach the hooks, remove their pins. For uninstalling.

    Jobs that still run can then reach anything. Stop `coatcheck up` first.
    """
    from appliance.cli.up import release as run_release

    run_release(config)


@app.command()
def doctor(config: ConfigFile = DEFAULT_PATH, as_json: Json = False) -> None:
    """Say what this host lacks for Coatcheck, and how to mend it. Exit status 1 if something needed is missing."""
    from appliance.cli.doctor import doctor as run_doctor

    run_doctor(config, as_json)


# ---- jobs ----


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def run(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD…", help="The program and its arguments.")],
    workload: Annotated[str, typer.Option(metavar="NAME", help="The job's label, for workload rules.")] = "default",
    allow_setuid: Annotated[
        bool, typer.Option("--allow-setuid", help="Let it gain privileges (sudo): no filter of socket families then.")
    ] = False,
) -> None:
    """Start CMD in a new job, governed, with placeholders in its environment.

    For root and members of the configured group (coatcheck). Signals reach CMD, its exit status is the exit status;
    when it ends, whatever it left running is ended too. Example:

        coatcheck run --workload deploy -- ./deploy.sh
    """
    from appliance.cli.run import run as run_command

    run_command(command, workload, allow_setuid)


@app.command()
def whoami(
    token: Annotated[bool, typer.Option("--token", help="The signed token (a JWT) instead of its claims.")] = False,
) -> None:
    """Inside a job: print the claims of this process's identity token, as JSON."""
    from appliance.cli import asking

    asking.whoami(token)


@app.command()
def mint(
    secret: Annotated[str, typer.Argument(help="The secret's name.")],
    ttl: Annotated[Optional[str], typer.Option(metavar="TIME", help="Its life, for example 90s or 10m.")] = None,  # noqa: UP045
    uses: Annotated[Optional[int], typer.Option(min=1, help="How often it may be used.")] = None,  # noqa: UP045
    host: Annotated[str, typer.Option(help="Only for this host.")] = "",
    method: Annotated[str, typer.Option(help="Only for this method.")] = "",
    path: Annotated[str, typer.Option(metavar="GLOB", help="Only for these paths: * in a segment, ** across.")] = "",
    job: Annotated[str, typer.Option(help="For this job; inside a job it is that one.")] = "",
    as_json: Json = False,
) -> None:
    """Print a narrower placeholder of a secret that this job holds one for: to hand on to a tool, or a sub-agent."""
    from appliance.cli import asking

    asking.mint(secret, ttl, uses, host, method, path, job, as_json)


@app.command()
def jobs(as_json: Json = False) -> None:
    """List the jobs that are governed now."""
    from appliance.cli import asking

    asking.jobs(as_json)


@app.command()
def flows(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on: print what happens, as it happens.")] = False,
    as_json: Json = False,
) -> None:
    """List connections: those open and the last that were closed."""
    from appliance.cli import asking

    asking.flows(follow, as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Show how the appliance is: processes, hooks, secrets, policy, audit."""
    from appliance.cli import asking

    asking.status(as_json)


# ---- policy ----


@policy.command("check")
def policy_check(config: ConfigFile = DEFAULT_PATH) -> None:
    """Read the policy folder and say what is wrong with it, without putting it in force."""
    from appliance.cli import policies

    policies.check(config)


@policy.command("test")
def policy_test(config: ConfigFile = DEFAULT_PATH, as_json: Json = False) -> None:
    """Run the `test_*` rules of the policy folder."""
    from appliance.cli import policies

    policies.test(config, as_json)


@policy.command("reload")
def policy_reload() -> None:
    """Put the policy folder in force. A broken one changes nothing, and says why."""
    from appliance.cli import asking

    asking.policy_reload()


@policy.command("explain")
def policy_explain(
    principal: Annotated[str, typer.Argument(help="The workload's name.")],
    url: Annotated[str, typer.Argument(help="What it would ask for.")],
    method: Annotated[str, typer.Option("--method", "-X")] = "GET",
    group: Annotated[Optional[list[str]], typer.Option(help="A group of the principal; repeatable.")] = None,  # noqa: UP045
    credential: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A secret whose placeholder is sent; repeatable."),
    ] = None,
    label: Annotated[str, typer.Option(help="The job's label.")] = "",
    as_json: Json = False,
) -> None:
    """Show what the policy in force says of a request, and why."""
    from appliance.cli import asking

    asking.policy_explain(principal, url, method, group or [], credential or [], label, as_json)


# ---- audit ----


@audit.command("show")
def audit_show(
    after: Annotated[Optional[int], typer.Option(help="Records after this sequence number.")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option(min=1, max=10000)] = 100,
    as_json: Json = False,
) -> None:
    """Print records of the audit log: the last ones, or those after a sequence number."""
    from appliance.cli import asking

    asking.audit_show(after, limit, as_json)


@audit.command("verify")
def audit_verify(
    file: Annotated[Optional[str], typer.Option(help="A copy of the log instead of the daemon's own.")] = None,  # noqa: UP045
    jwks: Annotated[Optional[str], typer.Option(help="With --file: the keys, as GET /jwks gave them.")] = None,  # noqa: UP045
    as_json: Json = False,
) -> None:
    """Check the whole chain: edits, deletions, reordering, truncation, roll-back. Exit status 1 if it is broken."""
    from appliance.cli import asking

    asking.audit_verify(file, jwks, as_json)


def main(*arguments: Any) -> None:
    app(*arguments, prog_name="coatcheck")
