"""`docweave eval`: how well are questions answered, and by which settings best?"""

# ruff: noqa: PLC0415 - other commands import this module too, and must not wait for what it asks with

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.exits import ending, print_json, tell
from apps.options import SETTINGS_FILE, AsJson, Config, need, require, settings_in
from apps.plain import one_line, table
from apps.suggested import copyable
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from apps.evaluating import Outcome
    from pipeline.judge import Estimate, JudgedQuestion

MOST_MISSES = 10
"""Shown of each variant."""
DRAFTED = """\
Drafted from the documents' headings, which makes them easy: rewrite each as your users would ask it.
`expect` names the document that should be found, and words of the passage; leave `passage` out where any
part of the document will do. Then: docweave eval {file}"""


def evaluate(  # noqa: PLR0913 - a command's options
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Questions: YAML, or JSON Lines (.jsonl).")],
    *,
    config: Config = Path(SETTINGS_FILE),
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", "-v", metavar="NAME", help="Only this variant of FILE; may be repeated."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=100, help="How many places count.")
    ] = 10,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="SVG", help="Draw the measures into this file.")
    ] = None,
    make: Annotated[
        int | None,
        typer.Option("--make", metavar="N", min=1, max=10_000, help="Draft N questions, and write FILE."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="For --make: another draft.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Variants may cost money.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask questions whose answers are known, and compare settings by what they find.

    FILE says what to ask, what should be found, and which variants to compare; left out, these are the three
    ways to search. A variant with settings of its own gets tables of its own, under .docweave/eval beside the
    settings; they are kept, and brought up to date the next time. Measures are shown with the bounds between
    which they lie with 95 % certainty, as far as so few questions tell; gains are over the first variant, and
    bear a * where they are certain.

    \b
    docweave eval questions.yaml --make 30      draft questions from the headings
    docweave eval questions.yaml
    docweave eval questions.yaml --plot eval.svg
    docweave eval questions.yaml --json | jq '.variants[] | {variant, missed}'
    """  # noqa: D301 - \b keeps the lines as they are
    with ending(as_json=as_json, config=config):
        if make:
            _make(file, config, make, seed)
            return
        require(config)
        outcomes = _outcomes(file, config, variants or [], limit=limit, pay=yes)
        if plot:
            from apps.eval_plot import drawn

            _write(plot, drawn(outcomes))
        if as_json:
            print_json({"variants": [one.as_json(outcomes[0]) for one in outcomes]})
            return
        for line in lines(outcomes):
            typer.echo(line)


def _outcomes(file: Path, config: Path, names: Sequence[str], *, limit: int, pay: bool) -> list[Outcome]:
    from apps.evaluating import Workshop
    from apps.evaluating import evaluate as evaluated
    from config.evaluation import read_evaluation
    from config.problems import nearest

    need("ir_measures", "ir-measures", command="eval", extra="eval")
    questions, variants = read_evaluation(file)
    for name in names:
        if name not in variants:
            raise SettingsError(
                f"{file} has no variant {name!r}; valid: {', '.join(variants)}{nearest(name, variants)}"
            )
    chosen = {name: one for name, one in variants.items() if name in names or not names}
    workshop = Workshop(
        config=config,
        folder=config.absolute().parent / ".docweave" / "eval",
        pay=pay,
        tell=tell,
    )

    async def run() -> list[Outcome]:
        try:
            return [
                await evaluated(name, variant, questions, workshop=workshop, limit=limit)
                for name, variant in chosen.items()
            ]
        finally:
            await workshop.aclose()

    return asyncio.run(run())


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A table of the measures, and below it the questions of which nothing was found."""
    first = outcomes[0]
    measures = list(first.values)
    count = len(next(iter(first.values.values())))
    gained = len(outcomes) > 1
    rows = [["", *(f"{name}" for name in measures), *([f"gain in {measures[1]}"] if gained else [])]]
    for one in outcomes:
        row = [one_line(one.name), *(_bounds(found) for found in one.estimates().values())]
        if gained:
            row.append("" if one is first else _gain(one.gains(first)[measures[1]]))
        rows.append(row)
    out = [f"{count:,} question{'s' * (count != 1)}", "", *table(rows)]
    for one in outcomes:
        if one.missed:
            out += ["", f"{one_line(one.name)} finds nothing that is expected for {len(one.missed)}:"]
            out += [f"  {one_line(question.text)}" for question in one.missed[:MOST_MISSES]]
            if len(one.missed) > MOST_MISSES:
                out.append(f"  … and {len(one.missed) - MOST_MISSES} more: --json has all")
    return out


def _bounds(one: Estimate) -> str:
    return f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _gain(one: Estimate) -> str:
    certain = " *" if one.low > 0 or one.high < 0 else ""
    return f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{certain}"


def _make(file: Path, config: Path, count: int, seed: int) -> None:
    from apps.evaluating import drafted
    from config.build import open_reader
    from config.evaluation import questions_file

    if file.suffix not in {".yaml", ".yml"}:
        raise SettingsError(f"{file}: drafted questions are YAML: name a file that ends in .yaml")
    settings = settings_in(config)

    async def draft() -> list[JudgedQuestion]:
        return await drafted(await open_reader(settings), count, seed=seed)

    questions = asyncio.run(draft())
    if not questions:
        raise SettingsError(
            "no chunk of the tables stands under a heading of its own: write the questions yourself"
        )
    _write(file, questions_file(questions, DRAFTED.format(file=file)), new=True)
    then = copyable(f"Rewrite them, then: docweave eval {file}", config)
    typer.echo(f"Wrote {len(questions)} questions to {file}. {then}")


def _write(path: Path, text: str, *, new: bool = False) -> None:
    try:
        with path.open("x" if new else "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SettingsError(f"{path} is there already; it is not overwritten") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error
