"""The parts of a bug report, of a config that is refused."""

from __future__ import annotations

import pytest

from agent.cli.report_bug import Report


@pytest.mark.parametrize("listen", ["localhost", "127.0.0.1:", "127.0.0.1:http", "[::1]"])
def test_an_address_that_is_none_is_no_fault_of_keyturn(tmp_path, listen):
    """The config is refused for it, and it is for such that a report is written."""
    config = tmp_path / "keyturn.toml"
    config.write_text(f'[agent]\nmetrics_listen = "{listen}"\n')
    (metrics,) = [part for part in Report(str(config), {}).parts() if part.title == "metrics"]
    assert metrics.make().startswith("none")
