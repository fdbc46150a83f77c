"""The edge as its OpenAPI document describes it: schemathesis asks everything that the document promises, and more."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.budget import TIMES_MORE
from tests.system import ROOT, System

_CONFIGURATION = """\
[auth.openapi.key]
bearer = "{key}"
[auth.openapi.token]
api_key = "{token}"
[checks]
# What a program, a link or an order is called says the system's own data, and "printable" says no pattern.
positive_data_acceptance.enabled = false
# Of a batch with a bad item the others are taken: 207.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 207]
"""

_ENTITIES = """
merchant = [{id = "acme"}]
program = [{id = "0", merchant = "acme", currency = "EUR", landing_url = "https://shop.test/?a={sub1}&r={ref}"}]
affiliate = [{id = "0"}]
link = [{code = "0", program = "0", affiliate = "0"}]
"""
"""Schemathesis begins with the simplest names that there can be."""


@pytest.mark.timeout(1800)
def test_the_edge_answers_as_its_document_says(start_system: Callable[..., System], tmp_path: Path) -> None:
    """Whatever comes: no 5xx, only the documented statuses, headers and shapes, what the document refuses refused, no
    endpoint of a key without it. And afterwards all is consistent."""
    system = start_system(
        entities=_ENTITIES, server={"workers": 1}, demo={"shop_listen": ""}, limits={"batch_items": 10}
    )
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(_CONFIGURATION.format(key=system.key("api"), token=system.key("postback")))
    base = f"http://127.0.0.1:{system.edge_port}"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)]
    command += ["run", f"{base}/openapi.json", "--url", base, "--phases", "coverage,fuzzing", "--no-color"]
    command += ["--generation-database", "none", "--continue-on-failure", "--warnings", "off"]
    command += ["--request-timeout", "60", "--suppress-health-check", "all"]
    command += ["--max-examples", str(10 * max(1, TIMES_MORE))]
    command += ["--seed", os.environ.get("FUZZ_SEED", "1")]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    printed = "\n".join(line[:2000] for line in (done.stdout + done.stderr).splitlines())
    assert done.returncode == 0, printed
    tested = re.search(r"Tested: (\d+)", printed)
    assert tested and int(tested[1]) > 10, printed
    system.wait_for_rows("SELECT count() FROM reports WHERE program = '0' AND outcome != 'refused'", 50)
    assert system.check() == []
    log = (system.data_dir / "log" / "tracker-0.log").read_text()
    assert '"level":"error"' not in log, log[-2000:]
