"""What a command imports before it does anything: `docweave --help` is asked for all the time."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    "prefect", "lancedb", "fastapi", "uvicorn", "httpx", "numpy", "pyarrow", "obstore", "opentelemetry",
    "prometheus_client", "rich.progress", "tiktoken", "langchain_core", "yaml", "sqlalchemy", "dask",
)  # fmt: skip
"""Each costs a command between 0.03 and 2 seconds."""

HELP = """
import contextlib, io, json, sys
from apps.cli import app
import typer
told = {}
def ask(*words):
    before = set(sys.modules)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            app([*words, "--help"])
        except SystemExit as end:
            assert not end.code, words
    told[" ".join(words)] = [name for name in %r if name in sys.modules and name not in before]
    assert "Usage" in said.getvalue()
first = [name for name in (*%r, "pydantic_core") if name in sys.modules]
ask()
for name in typer.main.get_command(app).commands:
    ask(name)
print(json.dumps({"first": first, **told}))
"""


def test_no_commands_help_imports_what_only_the_command_needs() -> None:
    code = HELP % (HEAVY, HEAVY)
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    told = json.loads(said)
    assert len(told) > 15
    assert {name: modules for name, modules in told.items() if modules} == {}
