"""Seen from outside: Prometheus metrics, /livez and /readyz, a page for people, and the textfile for node_exporter.

    counters.py    hears of each refresh and notification (agent/core/observer.py) and counts
    snapshot.py    everything that is shown, copied on the loop's thread for whoever asks
    exposition.py  a snapshot as Prometheus or OpenMetrics text; the only module that loads `prometheus_client`
    page.py        a snapshot as HTML for people; page_source.py has its style and its policy
    endpoints.py   /, /metrics, /livez, /readyz, /readyz/NAME, served by agent/http
    textfile.py    the file                        exporter.py  follows the config, over reloads too
    check.py       what `check` says

Decisions:
* A snapshot is asked for, not handed over at each change: the engine then copies nothing while nobody looks, and an
  expiry that has just passed is seen. The question goes through the loop's inbox and then through the scheduler, so its
  answer is also the evidence for /livez: the same timer path that feeds the watchdog. Whoever asks waits for seconds at
  most; /metrics then shows the snapshot before, whose time stands in `keyturn_snapshot_timestamp_seconds`.
* An address that cannot be had ends nothing: to keep keys fresh comes first. It is one error in the log and is tried again
  every few seconds; `check` says it beforehand.
* Beside the contract's metrics there is one more, `keyturn_snapshot_timestamp_seconds`: by it an alert tells a file that
  nobody writes any more, and an engine that is stuck, from a quiet one. The file is written again each minute for its sake,
  and stays when the agent stops: what it says of expiries stays true, and its age says the rest.
"""
