"""The command line. Each command imports what it needs: a search must not wait for a scheduler."""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.audit import audit
from apps.backup import backup, restore
from apps.columns import columns
from apps.connectors import connectors
from apps.context import context
from apps.copies import copies
from apps.deploy import deploy
from apps.doctor import doctor
from apps.embed import embed
from apps.evaluate import evaluate
from apps.exits import EXIT_CODES, ExitCode, code_of, ending, error_json, print_json, report, tell
from apps.fake_service.command import fake_service
from apps.keys import keys
from apps.maintain import maintain
from apps.mcp.command import mcp
from apps.models import models
from apps.options import (
    SETTINGS_FILE,
    USUAL_CONFIGS,
    AsJson,
    Config,
    Configs,
    Fused,
    Matched,
    OfSources,
    SeenAs,
    TextWeight,
    VectorWeight,
    Where,
    all_settings_in,
    fused_by,
    question_of,
    require,
    settings_in,
)
from apps.rollback import rollback
from apps.serve import serve
from apps.show import show
from apps.suggested import copyable
from apps.up import up
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from config.settings import Settings

app = typer.Typer(
    name="docweave",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, and with them secrets
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExit codes:\n" + EXIT_CODES,
)

Sources = Annotated[
    list[str] | None, typer.Argument(metavar="SOURCE", help="Names from the settings; all if left out.")
]
Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild",
        help="After a change of the model: build beside the live tables, and switch when all is done.",
    ),
]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"docweave {metadata.version('docweave')}")
        raise typer.Exit


@app.callback()
def docweave(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep a vector table of your documents true, and ask it.

    \b
    docweave init my-documents        write settings to begin with
    docweave check                    do the sources, the store and the embedder answer?
    docweave plan                     what would an ingest do, and cost?
    docweave ingest                   bring the tables up to date
    docweave search "how many days off do I have?"

    Commands read docweave.yaml in the current folder, or what --config or DOCWEAVE_CONFIG names. `docweave
    COMMAND --help` has examples.
    """  # noqa: D301 - \b keeps the lines as they are


def ingest(  # noqa: PLR0913 - a command's options
    sources: Sources = None,
    *,
    config: Config = Path(SETTINGS_FILE),
    rebuild: Rebuild = False,
    approve_removals: Annotated[
        int | None,
        typer.Option(
            "--approve-removals",
            metavar="N",
            min=0,
            help="Remove up to N documents of a source, where the settings withhold so many.",
        ),
    ] = None,
    plan_file: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Do exactly what `docweave plan --save FILE` saved."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the tables up to date with the documents.

    Only what changed is read, embedded and paid for. A document that fails is reported and costs its
    neighbours nothing; a source that fails does not stop the others. Runs as a Prefect flow: on the server
    that PREFECT_API_URL names, or on one that is started for the time of the run.

    \b
    docweave ingest                   every source of docweave.yaml
    docweave ingest handbook wiki     these two
    docweave ingest --rebuild         after a change of the model
    docweave ingest wiki --approve-removals 120
    docweave ingest --plan friday.plan
    docweave ingest --json | jq '.sources[].failures'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        names = sources or []
        settings = settings_in(config)
        _check_names(settings, names)
        if rebuild and names:
            raise SettingsError("a rebuild covers every source: leave out the names, or leave out --rebuild")
        if plan_file:
            from apps.tables import check_plan

            names = asyncio.run(check_plan(settings, names, plan_file, rebuild=rebuild))
        from apps.watch import run_ingest

        watch = run_ingest(config, names, rebuild=rebuild, approve_removals=approve_removals, plan=plan_file)
        reports = [watch.reports[name] for name in watch.reports if name not in watch.errors]
        if as_json:
            errors = {name: error_json(error, config) for name, error in watch.errors.items()}
            print_json({"sources": [one.as_json() for one in reports], "errors": errors})
        else:
            from apps.console import ingest_lines

            _print(ingest_lines(reports), config)
        _end(watch.errors, config, documents_failed=any(not one.complete for one in reports))


def plan(  # noqa: PLR0913 - a command's options
    sources: Sources = None,
    *,
    config: Config = Path(SETTINGS_FILE),
    rebuild: Rebuild = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Save the plan, for `docweave ingest --plan FILE`."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file that --save names.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an ingest would do and cost; pay and write nothing.

    Documents that may have changed are read, parsed and counted, as an ingest would do it.

    \b
    docweave plan
    docweave plan handbook --json | jq '.tokens'
    docweave plan --save friday.plan  to look at, and to apply by `docweave ingest --plan friday.plan`
    docweave plan --rebuild           after a change of the model: what would everything cost?
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        _check_names(settings, sources or [])
        from apps import tables
        from apps.watch import watching

        if save and rebuild and sources:
            raise SettingsError(
                "a plan of a rebuild is saved of every source: leave out the names, or --save"
            )
        target = tables.PlanTarget(path=save, force=force) if save else None
        with watching("listing") as watch:
            planning = tables.plan(
                settings, sources or [], rebuild=rebuild, target=target, observe=watch.progressed
            )
            plans, errors = asyncio.run(planning)
        if as_json:
            print_json(
                {
                    "sources": [one.as_json() for one in plans],
                    "errors": {name: error_json(error, config) for name, error in errors.items()},
                    "tokens": sum(one.tokens for one in plans),
                    "cost_usd": sum(one.cost_usd for one in plans),
                }
            )
        else:
            from apps.console import plan_lines
            from flows.budgets import Budgets

            _print(plan_lines(plans, Budgets.of(settings)))
            if save:
                flag = " --rebuild" if rebuild else ""
                _print([f"Saved to {save}: docweave ingest{flag} --plan {save}"], config)
        _end(errors, config, documents_failed=any(one.failures for one in plans))


def search(  # noqa: PLR0913 - a command's options
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question, or words.")],
    *,
    config: Configs = USUAL_CONFIGS,
    mode: Matched = "hybrid",
    fusion: Fused = "scores",
    vector_weight: VectorWeight = None,
    text_weight: TextWeight = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=1000, help="How many hits.")
    ] = 5,
    source: OfSources = None,
    where: Where = None,
    access: SeenAs = None,
    as_json: AsJson = False,
) -> None:
    """Ask the tables.

    --where takes a filter: source, path, title, url, type, page, the columns that the settings declare, and
    any other name of the metadata (author.name), compared by =, !=, <, <=, >, >=, ~ (a pattern), in (...) or
    exists, joined by and, or, not and parentheses. Put a value of several words in quotes.

    \b
    docweave search "how do I reset the Fern sensor?"
    docweave search "parental leave" --mode text --limit 3
    docweave search "error E1042" --text-weight 3            words count more than meaning
    docweave search "notice period" --source handbook --where team=people
    docweave search "notice period" --where 'year >= 2024 and (tags = draft or not path ~ "old/**")'
    docweave search "notice period" --as staff --as board    what would they find?
    docweave search "notice period" -c team.yaml -c company.yaml    in the tables of both
    docweave search "notice period" --json | jq -r '.hits[].text'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        asked = replace(question_of(question, mode=mode, source=source, access=access), limit=limit)
        asked = fused_by(asked, fusion, vector_weight, text_weight)
        settings = all_settings_in(config)
        from apps import hits as shown
        from apps import tables

        hits = asyncio.run(tables.search(settings, asked, where or []))
        if as_json:
            found = [shown.as_json(rank, hit) for rank, hit in enumerate(hits, start=1)]
            print_json({"question": question, "mode": mode, "hits": found})
        elif hits:
            width = min(shutil.get_terminal_size((80, 24)).columns, 100)
            _print(shown.lines(hits, question, width=width))
        else:
            typer.echo("No hits.")


def status(*, config: Config = Path(SETTINGS_FILE), as_json: AsJson = False) -> None:
    """Show what the tables hold, by source.

    \b
    docweave status
    docweave status --json | jq '.not_ingested'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        from apps import tables

        found = asyncio.run(tables.status(settings))
        if as_json:
            print_json(found.as_json())
        else:
            from apps.console import status_lines

            _print(status_lines(found), config)


def forget(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A source that the settings no longer name.")
    ],
    *,
    config: Config = Path(SETTINGS_FILE),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove all documents of a source that was taken out of the settings.

    Until then they are kept and found: a source that is missing from the settings may be a mistake. Their
    vectors stay in the journal for a while, so that to bring the source back costs little or nothing.

    \b
    docweave status                   which sources are "not in the settings"?
    docweave forget wiki
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        settings = settings_in(config)
        from apps import tables
        from flows.summary import number

        if not yes:
            asyncio.run(tables.check_forgettable(settings, source))
            if not sys.stdin.isatty():
                raise SettingsError(f"nobody can be asked whether {source!r} is to be forgotten: add --yes")
            typer.confirm(
                f"Remove all documents of {source!r} from {settings.store.uri}?", abort=True, err=True
            )
        removed = asyncio.run(tables.forget(settings, source, tell=tell))
        if as_json:
            print_json({"source": source, "removed": removed})
        else:
            typer.echo(f"Removed {number(removed, 'document')} of {source!r}.")


def check(*, config: Config = Path(SETTINGS_FILE), as_json: AsJson = False) -> None:
    """Try the settings, the sources, the store and the embedder.

    Says all that does not work at once. A paid embedder is asked one short question.

    \b
    docweave check
    docweave check --config production.yaml --json
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        require(config)
        from dataclasses import asdict

        from apps.console import finding_lines
        from config.check import check as check_all

        findings = asyncio.run(check_all(config))
        wrong = [finding for finding in findings if not finding.ok]
        if as_json:
            print_json({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
        else:
            _print(finding_lines(findings), config)
        if wrong:
            settings_wrong = any(finding.what == "settings" for finding in wrong)
            raise typer.Exit(ExitCode.USAGE if settings_wrong else ExitCode.FAILED)


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where; made if need be.", show_default=False)
    ] = Path(),
) -> None:
    """Write a commented docweave.yaml to begin with.

    It is about the documents of its own folder until you change it. A file that is there is not overwritten.

    \b
    docweave init                     in the current folder
    docweave init my-documents
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=False):
        path = folder / SETTINGS_FILE
        shipped = resources.files("config")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write((shipped / "starter.yaml").read_text("utf-8"))
            # Where the file's first line tells editors to look.
            schema = folder / ".docweave" / "schema.json"
            schema.parent.mkdir(exist_ok=True)
            schema.write_text((shipped / "schema.json").read_text("utf-8"), encoding="utf-8")
        except FileExistsError:
            raise SettingsError(f"{path} is there already; it is not overwritten") from None
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
        there = "" if folder == Path() else f"cd {folder} && "
        _print([f"Wrote {path}. Look it over, then:", f"  {there}docweave check", "  docweave ingest"])


# In the order in which `--help` tells of them: to begin, to bring the tables up to date, to ask, to look at
# what is there, to run it all as a service. (`keys`, which has commands of its own, always comes last.)
app.command()(init)
app.command(short_help="List the types of sources, or the settings of one.")(connectors)
app.command(short_help="List the models, and what they cost.")(models)
app.command()(check)
app.command(short_help="Show what an ingest would do and cost; write nothing.")(plan)
app.command()(ingest)
app.command(short_help="Remove a source that was taken out of the settings.")(forget)
app.command()(rollback)
app.command()(search)
app.command(short_help="Print the best context for a question, to be cited.")(context)
app.command(short_help="Answer questions over HTTP.")(serve)
app.add_typer(keys, name="keys", short_help="Say who may ask the search API, and what they see.")
app.command(short_help="Answer an assistant, by the Model Context Protocol.")(mcp)
app.command(name="eval", short_help="Measure how well questions are answered.")(evaluate)
app.command()(status)
app.command(short_help="Show a document as it is stored.")(show)
app.command(short_help="List the documents whose text is the same.")(copies)
app.command(short_help="Show the columns over the metadata, or drop one.")(columns)
app.command()(embed)
app.command()(audit)
app.command(short_help="Run the schedules and the search API on this machine.")(up)
app.command(short_help="Hand the schedules to Prefect, as deployments.")(deploy)
app.command(short_help="Is all well: versions, disk, clocks, services, tables?")(doctor)
app.command(short_help="Compact and index the tables, clear old versions away.")(maintain)
app.command(short_help="Copy the tables, as they are at one moment.")(backup)
app.command(short_help="Bring the tables of a backup back.")(restore)
app.command(name="fake-service", short_help="Stand in for the services on this machine.")(fake_service)


def main() -> None:
    """The command line's entry point."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter shows another
    app()


def _check_names(settings: Settings, names: Sequence[str]) -> None:
    """Refuse unknown sources before anything heavy is imported."""
    from config.build import connectors as connected

    connected(settings, names)


def _end(errors: dict[str, Exception], config: Path, *, documents_failed: bool) -> None:
    """Report the sources that failed, and end with the exit code of it all."""
    for name, error in errors.items():
        report(error, where=f"{name}: ", config=config)
    if errors:
        raise typer.Exit(max(code_of(error) for error in errors.values()))
    if documents_failed:
        raise typer.Exit(ExitCode.DOCUMENTS_FAILED)


def _print(lines: Sequence[str], config: Path | None = None) -> None:
    for line in lines:
        typer.echo(copyable(line, config))
