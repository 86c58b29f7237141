"""What is counted: one table of metrics, in the words of docs/operations.md. Prometheus' naming: units in the name.

Bound children are kept by those who count on a hot path; `labels()` costs more than `inc()`.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody here reads
REGISTRY = CollectorRegistry()
_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SIZES = (1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 26214400)


def _counter(name: str, about: str, *labels: str) -> Counter:
    return Counter(f"cotexd_{name}", about, labels, registry=REGISTRY)


def _gauge(name: str, about: str, *labels: str) -> Gauge:
    return Gauge(f"cotexd_{name}", about, labels, registry=REGISTRY)


def _histogram(name: str, about: str, buckets: tuple[float, ...] = _QUICK, *labels: str) -> Histogram:
    return Histogram(f"cotexd_{name}", about, labels, registry=REGISTRY, buckets=buckets)


# The server.
BUILD = _gauge("build_info", "The version that runs, as a label.", "version")
STARTED = _gauge("start_time_seconds", "When it started, in seconds since the epoch.")
DRAINING = _gauge("draining", "1 while the server is stopping.")
REQUESTS = _counter("http_requests_total", "Requests answered.", "method", "route", "status")
REQUEST_TIME = _histogram("http_request_seconds", "From a request's head to its answer.", _QUICK, "route")
REFUSALS = _counter("refusals_total", "Requests refused, by the code of the error.", "code")

# Ingest.
DELIVERIES = _counter("deliveries_total", "Deliveries from GitHub by how they were answered.", "answer")
DELIVERY_TIME = _histogram("delivery_seconds", "From a delivery's head to its answer.")
DELIVERY_SIZE = _histogram("delivery_bytes", "Size of a delivery's body.", _SIZES)
PAYLOAD_STORED = _counter("payload_stored_bytes_total", "Bytes of payloads on disk, compressed.")
PINGS = _counter("pings_total", "Pings from GitHub.")

# The log.
COMMITS = _counter("commits_total", "Transactions of the writer.", "outcome")
COMMIT_TIME = _histogram("commit_seconds", "From the begin of a write transaction to its end.")
COMMIT_JOBS = _histogram("commit_jobs", "Jobs in one transaction.", (1, 2, 4, 8, 16, 32, 64, 128, 257))
WRITER_QUEUE = _gauge("writer_queue_jobs", "Jobs that wait for the writer.")
QUEUE_FULL = _counter("writer_refusals_total", "Jobs refused because the writer's queue was full.")
READ_TIME = _histogram("read_seconds", "A read, from asking to its answer, waiting for a reader included.")
READS_PENDING = _gauge("reads_pending", "Reads that are under way or wait for a reader.")
HEAD = _gauge("log_head_seq", "The last seq that was handed out to sockets.")
FLOOR = _gauge("log_floor_seq", "The last seq whose payload is purged.")
PURGED = _counter("purged_total", "Rows removed by age.", "what")
PURGE_TIME = _histogram("purge_batch_seconds", "One batch of purging, waiting for the writer included.")

# Delivery to clients.
SOCKETS = _gauge("sockets", "Connected clients.", "protocol")
LIVE = _gauge("sockets_live", "Connected clients that have caught up.")
USERS = _gauge("users_connected", "Users with at least one client connected.")
ATTACHED = _counter("attached_total", "Clients that connected, by how they went on.", "resume")
CLOSED = _counter("closed_total", "Connections that we closed, by code.", "code")
FRAMES = _counter("frames_sent_total", "Events written to sockets, live.")
REPLAYED = _counter("frames_replayed_total", "Events written to sockets from the log.")
FELL_BEHIND = _counter("fell_behind_total", "Times that a live client fell back to the log.")
GAPS = _counter("gaps_total", "Gaps announced to clients, by reason.", "reason")
PUBLISH_TIME = _histogram("publish_seconds", "Handing one committed batch to all its sockets.")
HINTS_LOST = _counter("publications_missed_total", "Batches that were found by looking at the log.")
ACKS = _counter("acknowledgements_total", "Cursors moved.")
LAG = _histogram(
    "device_lag_events", "How far devices are behind the head, at each look.", (0, 1, 10, 100, 1e3, 1e4, 1e5)
)
UNSENT = _gauge("unsent_bytes", "Bytes that wait in the transports of all sockets.")

# Who comes in.
SIGN_INS = _counter("sign_ins_total", "Attempts to sign in with a password.", "outcome")
TOKENS_REFUSED = _counter("tokens_refused_total", "Bearer tokens that were not good.")
LIMITED = _counter("limited_total", "Requests over a limit, by class.", "limit")
JWKS_FETCHES = _counter("jwks_fetches_total", "Fetches of an issuer's keys.", "outcome")

# GitHub's API.
GITHUB_REQUESTS = _counter("github_requests_total", "Requests to GitHub's API, by status.", "status")
REPAIR_LOOKS = _counter("repair_looks_total", "Looks through a repository's deliveries.", "outcome")
REPAIRED = _counter("repaired_total", "Deliveries that were missing, by what became of them.", "outcome")

# By the clock.
JOBS = _counter("scheduled_runs_total", "Runs of scheduled work.", "work", "outcome")
JOB_TIME = _histogram("scheduled_seconds", "One run of scheduled work.", _QUICK, "work")


def exposition() -> bytes:
    """All of it in Prometheus' text format."""
    return generate_latest(REGISTRY)
