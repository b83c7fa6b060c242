"""What a run tells the outside: lines of JSON and nothing else, figures, and no key of a service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from apps.fake_service.server import serving
from apps.fake_service.service import EmbeddingService
from tests.prefect_server import PrefectServer

DOCWEAVE = [sys.executable, "-c", "from apps.cli import main; main()"]
KEY = "pplx-told-5d1c7e9b2f"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_every_line_of_a_run_is_json_and_names_source_and_document(
    prefect_server: PrefectServer, handbook: Path
) -> None:
    (handbook.parent / "documents" / "handbook" / "broken.pdf").write_bytes(b"no PDF at all")
    with serving(EmbeddingService(api_key=KEY)) as base_url:
        chosen = f"provider: perplexity, base_url: '{base_url}', api_key: '${{TOLD_KEY}}'"
        text = handbook.read_text("utf-8")
        told = "telemetry: {metrics_file: figures/docweave.prom}\n"
        handbook.write_text(f"{text}{told}embedding: {{{chosen}}}\n", encoding="utf-8")
        ended = subprocess.run(
            [*DOCWEAVE, "ingest", "--config", str(handbook)],
            check=False,
            capture_output=True,
            text=True,
            env={**prefect_server.env, "DOCWEAVE_LOG": "json", "TOLD_KEY": KEY},
        )
    assert ended.returncode == 1, ended.stderr
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    [failed] = [line for line in lines if line.get("key") == "broken.pdf"]
    assert (failed["level"], failed["source"]) == ("warning", "handbook")
    assert {line["source"] for line in lines if "source" in line} == {"handbook", "wiki"}
    assert len({line["run"] for line in lines if "run" in line}) == 1
    figures = (handbook.parent / "figures" / "docweave.prom").read_text("utf-8")
    assert 'docweave_documents_total{change="added",source="handbook"} 3.0' in figures
    assert 'docweave_failed{source="handbook"} 1.0' in figures
    assert 'docweave_runs_total{outcome="done",source="wiki"} 1.0' in figures
    assert KEY not in ended.stderr + ended.stdout + figures
