"""Where progress is written: runs, their numbers, files and endings, in MLflow or in memory. Only the driver writes."""

from evo_rnn.tracking.connection import sync
from evo_rnn.tracking.mlflow_store import MlflowTracker
from evo_rnn.tracking.saved_view import deep_link, write_view
from evo_rnn.tracking.server import Server, serve
from evo_rnn.tracking.store import open_client, tracking_uri
from evo_rnn.tracking.sweep import sweep
from evo_rnn.tracking.tracker import MemoryRun, MemoryTracker, Status, Tracker

__all__ = [
    "MemoryRun",
    "MemoryTracker",
    "MlflowTracker",
    "Server",
    "Status",
    "Tracker",
    "deep_link",
    "open_client",
    "serve",
    "sweep",
    "sync",
    "tracking_uri",
    "write_view",
]
