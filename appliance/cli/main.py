"""The commands. `coatcheck COMMAND --help` is the manual. What a command does is in the module that it imports."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Optional

import typer
from typer.exceptions import TyperException

from appliance import __version__
from appliance.cli.output import USAGE, fail
from appliance.config import DEFAULT_PATH

_HELP = """Jobs and agents hold placeholders; only the destination sees the credential.

`coatcheck up` runs the appliance, `coatcheck run -- CMD` starts a job in it, `coatcheck doctor` says what a host lacks.

\b
Exit statuses
  0    good
  1    the answer is no: refused, a failed check, a broken chain
  64   the command line is wrong
  69   the daemon cannot be reached
  77   not allowed
  78   the configuration has a mistake
  130  ended by ^C        141  nobody reads the output any more
  `run` ends with the status of the program that it runs; 126 and 127 if that cannot be run, as a shell has it

\b
Environment
  COATCHECK_SOCKET  the daemon's admin socket (/run/coatcheck/coatcheck.sock); set inside jobs

\b
Completion by the Tab key, for bash, zsh and fish
  coatcheck --install-completion              adds it to the start-up files of your shell
  source <(coatcheck --show-completion)       for this shell only
  coatcheck --show-completion >/usr/share/bash-completion/completions/coatcheck   (bash) for everybody
  coatcheck --show-completion >/usr/share/zsh/vendor-completions/_coatcheck       (zsh) for everybody
"""

app = typer.Typer(
    name="coatcheck",
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
policy = typer.Typer(
    help="What may be done, by whom: check, test, explain it, put it in force.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
audit = typer.Typer(
    help="The record that cannot be changed unnoticed: read it, verify it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")

ConfigFile = Annotated[str, typer.Option("--config", metavar="FILE", help="The configuration file.")]
MaybeConfig = Annotated[
    Optional[str],  # noqa: UP045  # typer reads it
    typer.Option("--config", metavar="FILE", help=f"The configuration file.  [default: {DEFAULT_PATH}]"),
]
Folder = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(metavar="[FOLDER]", help="The policy folder, if not the configuration's policy_dir."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"coatcheck {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# ---- the daemon ----


@app.command()
def up(config: ConfigFile = DEFAULT_PATH) -> None:
    """Run the appliance in the foreground.

    Starts the four processes (kernel, vault, control, proxy), prints `ready` once traffic is governed, and runs until
    SIGTERM or ^C. Needs root, which each process gives up. A process that dies is started again.

    What is governed stays governed when it ends: jobs are then refused, until it runs again or `coatcheck release`
    lets go.

    \b
    Exit statuses
      0   ended by a signal
      1   it could not start, or another one runs on the same run_dir
      77  not root
      78  the configuration has a mistake; file, line, key and what is allowed are said
    """
    from appliance.cli.up import up as run_up

    run_up(config)


@app.command()
def release(config: ConfigFile = DEFAULT_PATH) -> None:
    """Let go of everything that is governed, for uninstalling.

    Detaches the hooks and removes their pins. Jobs that still run can then reach anything. Stop `coatcheck up` first:
    it is refused while that runs (exit status 1).
    """
    from appliance.cli.up import release as run_release

    run_release(config)


@app.command()
def doctor(config: ConfigFile = DEFAULT_PATH, as_json: Json = False) -> None:
    """Say what this host lacks for Coatcheck, and how to mend it.

    Changes nothing. Without root some things are not checked, and it says which. Each check is `ok`, `missing`
    (needed), `optional` (it goes without, and says what it then cannot do) or `not checked`.

    \b
    Exit statuses
      0  nothing that is needed is missing
      1  something is
    """
    from appliance.cli.doctor import doctor as run_doctor

    run_doctor(config, as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Show how the appliance is: processes, hooks, secrets, policy, audit.

    Exit status 1 if a part is not as it should be.
    """
    from appliance.cli import asking

    asking.status(as_json)


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

    For root and members of the configured group (coatcheck). This process becomes CMD: signals reach it, its exit
    status is the exit status, the three standard streams are its own. When it ends, whatever it left running is ended
    too. Programs trust the host's CA by their environment variables (curl, OpenSSL, Python, Node, Git, Go, Java, Ruby,
    AWS, Deno, Cargo).

    \b
    Examples
      coatcheck run -- curl https://api.example.com/
      coatcheck run --workload deploy -- ./deploy.sh --all

    \b
    Exit statuses
      CMD's own; 126 or 127 if it cannot be run
      64  a standard stream is a network socket, or the command line is wrong
      69  the daemon cannot be reached
      77  not allowed
    """
    from appliance.cli.run import run as run_command

    run_command(command, workload, allow_setuid)


@app.command()
def whoami(
    token: Annotated[bool, typer.Option("--token", help="The signed token (a JWT) instead of its claims.")] = False,
) -> None:
    """Inside a job: print who this process is, the claims of its identity token, as JSON.

    \b
    Examples
      coatcheck run -- coatcheck whoami
      coatcheck whoami --token      inside a job; keys to verify it: GET /jwks of the admin socket

    Exit status 77 outside a job.
    """
    from appliance.cli import asking

    asking.whoami(token)


@app.command()
def mint(
    secret: Annotated[str, typer.Argument(help="The secret's name.")],
    ttl: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TIME", help="Its life: 250ms, 90s, 10m, 1.5h, 2d, or seconds."),
    ] = None,
    uses: Annotated[Optional[int], typer.Option(min=1, help="How often it may be used.")] = None,  # noqa: UP045
    host: Annotated[str, typer.Option(help="Only for this host.")] = "",
    method: Annotated[str, typer.Option(help="Only for this method.")] = "",
    path: Annotated[str, typer.Option(metavar="GLOB", help="Only for these paths: * in a segment, ** across.")] = "",
    job: Annotated[str, typer.Option(help="For this job; inside a job it is that one.")] = "",
    as_json: Json = False,
) -> None:
    """Print a narrower placeholder of a secret that this job holds one for: to hand on to a tool, or a sub-agent.

    It never allows more than the secret's own placeholder does.

    \b
    Examples
      coatcheck mint github-token --ttl 90s --uses 1
      coatcheck mint github-token --method GET --path '/repos/acme/**'
      coatcheck mint github-token --job j-0123456789abcdef      outside a job, for operators

    Exit status 77 if policy, or the job, does not allow it.
    """
    from appliance.cli import asking

    asking.mint(secret, ttl, uses, host, method, path, job, as_json)


@app.command()
def jobs(as_json: Json = False) -> None:
    """List the jobs that are governed now. With --json, a list of objects."""
    from appliance.cli import asking

    asking.jobs(as_json)


@app.command()
def flows(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on: print what happens, as it happens.")] = False,
    as_json: Json = False,
) -> None:
    """List connections: the last that were closed, and those open.

    With --follow one line an event, until ^C (exit status 130); with --follow --json one object a line, of the form
    {event, flow, record, lost}. It is a view: what proves anything is the audit log.

    \b
    Examples
      coatcheck flows --follow
      coatcheck flows --json | jq '.open[] | select(.decision != "allow")'
    """
    from appliance.cli import watching

    watching.flows(follow, as_json)


# ---- policy ----


@policy.command("check")
def policy_check(folder: Folder = None, config: MaybeConfig = None) -> None:
    """Say what is wrong with a policy folder, without putting it in force.

    Reads, compiles and tests it as a reload would, and holds it against the configuration: names that only one of the
    two has are warnings, since they grant nothing.

    \b
    Exit statuses
      0   a reload would take it
      1   it would not; file, line and key are said
      78  the configuration has a mistake
    """
    from appliance.cli import policies

    policies.check(folder, config)


@policy.command("test")
def policy_test(folder: Folder = None, config: MaybeConfig = None, as_json: Json = False) -> None:
    """Run the `test_*` rules of a policy folder, and say of each whether it holds.

    With a FOLDER no configuration is read. Exit status 1 if one fails.

    \b
    Example
      coatcheck policy test ./policies
    """
    from appliance.cli import policies

    policies.test(folder, config, as_json)


@policy.command("reload")
def policy_reload() -> None:
    """Put the policy folder in force. A broken one changes nothing, and says why (exit status 1)."""
    from appliance.cli import asking

    asking.policy_reload()


@policy.command("explain")
def policy_explain(
    principal: Annotated[str, typer.Argument(help="The workload's name.")],
    url: Annotated[str, typer.Argument(help="What it would ask for.")],
    method: Annotated[str, typer.Option("--method", "-X", help="The request's method.")] = "GET",
    group: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A group of the principal, instead of the configured ones; repeatable."),
    ] = None,
    credential: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A secret whose placeholder is sent; repeatable."),
    ] = None,
    label: Annotated[str, typer.Option(help="The job's label.")] = "",
    sql: Annotated[str, typer.Option(metavar="STATEMENT", help="A statement, for postgres://user@host/database.")] = "",
    as_json: Json = False,
) -> None:
    """Show what the policy in force says of a request or a statement, and why. Exit status 0 whatever it says.

    \b
    Examples
      coatcheck policy explain deployer https://api.github.com/repos/acme/x -X POST --credential github-token
      coatcheck policy explain reporter postgres://app@db.internal/shop --sql 'SELECT count(*) FROM orders'
    """
    from appliance.cli import asking

    if bool(sql) is not url.startswith(("postgres://", "postgresql://")):
        raise typer.BadParameter("--sql and a postgres:// URL go together", param_hint="--sql")
    asking.policy_explain(principal, url, method, group or [], credential or [], label, sql, as_json)


# ---- audit ----


@audit.command("show")
def audit_show(
    after: Annotated[Optional[int], typer.Option(min=0, help="Records after this sequence number.")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option(min=1, max=10000, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """Print records of the audit log: the last ones, or those after a sequence number.

    With --json the log's own lines, byte for byte, one object a line.

    \b
    Examples
      coatcheck audit show --limit 20
      coatcheck audit show --after 4711 --limit 10000 --json >part.jsonl
    """
    from appliance.cli import recorded

    recorded.show(after, limit, as_json)


@audit.command("verify")
def audit_verify(
    file: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FILE", help="A copy of the log instead of the daemon's own."),
    ] = None,
    jwks: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FILE", help="With --file: the keys, as GET /jwks gave them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the whole chain: edits, deletions, reordering, truncation, roll-back. Exit status 1 if it is broken.

    With --file and --jwks it needs no daemon. Earlier files of the log (audit.NUMBER.jsonl) belong beside FILE; that
    later lines were cut off cannot be seen from a copy.

    \b
    Example
      curl --unix-socket /run/coatcheck/coatcheck.sock http://localhost/jwks >jwks.json
      coatcheck audit verify --file audit.jsonl --jwks jwks.json
    """
    from appliance.cli import recorded

    recorded.verify(file, jwks, as_json)


def main(*arguments: Any) -> None:
    try:
        status = app(list(arguments) or None, prog_name="coatcheck", standalone_mode=False)
    except TyperException as error:
        _misused(error)
    except typer.Abort:
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _misused(error: TyperException) -> None:
    """The command line is wrong: a sentence, or the help where there was nothing but a group's name."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():
        print(message, file=sys.stderr)
        sys.exit(USAGE)
    where = context.command_path if context is not None else "coatcheck"
    fail(f"{message.rstrip('.').removesuffix('?')}; see `{where} --help`", USAGE)
