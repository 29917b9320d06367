"""Experiments by name: what `evo-rnn compare NAME` runs. Each is a config like any user's, and small enough for a laptop."""

from __future__ import annotations

from typing import Any

EVERY = ("ga", "memetic", "evolino", "bptt", "rtrl", "hybrid", "torch", "random")

NAMED: dict[str, dict[str, Any]] = {
    "sunspots": {
        "task": "sunspots",
        "model": {"cell": "elman", "hidden": 5},
        "methods": {name: {} for name in EVERY},
        "budget": {"passes": 6_000},
    },
    "mackey_glass": {
        "task": "mackey_glass",
        "model": {"cell": "elman", "hidden": 8},
        "methods": {name: {} for name in ("ga", "memetic", "evolino", "bptt", "torch", "random")},
        "budget": {"passes": 5_000},
    },
    "delayed_xor": {
        "task": "delayed_xor",
        "model": {"cell": "elman", "hidden": 4},
        "methods": {name: {} for name in EVERY if name != "rtrl"},
        "budget": {"passes": 20_000},
    },
    "adding": {
        "task": {"name": "adding", "length": 50},
        "model": {"cell": "indrnn", "hidden": 8},
        "methods": {name: {} for name in ("ga", "memetic", "bptt", "random")},
        "budget": {"passes": 5_000},
    },
    "temporal_order": {
        "task": {"name": "temporal_order", "length": 40},
        "model": {"cell": "lstm", "hidden": 4},
        "methods": {name: {} for name in ("ga", "memetic", "bptt", "torch", "random")},
        "budget": {"passes": 5_000},
    },
    "strokes": {
        "task": "strokes",
        "model": {"cell": "gru", "hidden": 8},
        "methods": {
            "ga": {},
            "memetic": {},
            "bptt": {},
            "hybrid": {"horizon": 64},
            "torch": {},
        },  # CTC: whole sequences
        "budget": {"passes": 3_000},
    },
}
