"""The scenarios, by name. Each is imported when it is run."""

from __future__ import annotations

from benchmarks.chaos.report import Scenario

SCENARIOS = {
    "workers": Scenario("workers:faulted", 300, lambda n: 120 + 6 * n, "workers killed, hung, out of memory, slow"),
    "pace": Scenario("workers:pace", 9, lambda n: 200 + 60 * n, "the cost of one fault every ten seconds"),
    "nodes": Scenario("nodes:losses", 14, lambda n: 60 + 250 * n, "raylet, head, machine or object lost"),
    "drivers": Scenario("drivers:kills", 60, lambda n: 600 + 60 * n, "drivers killed or stopped, and resumed"),
    "determinism": Scenario("determinism:matrix", 200, lambda _: 1500, "workers x populations x cells x islands"),
    "writers": Scenario("writers:kills", 500, lambda n: 60 + n, "writers of checkpoints killed at any instant"),
    "corruption": Scenario(
        "corruption:damage", 20_000, lambda n: 60 + n / 20, "checkpoints damaged in six ways, swapped"
    ),
    "disk": Scenario("disk:full", 60, lambda n: 120 + 3 * n, "full disks"),
    "outages": Scenario("outages:stub", 30, lambda n: 120 + 40 * n, "a tracking server ill in six ways"),
    "server": Scenario("outages:real", 5, lambda n: 200 + 90 * n, "MLflow's own server killed and started again"),
    "fuzz": Scenario("fuzz:storm", 200_000, lambda n: 300 + n / 20, "configs and data files that nobody would write"),
    "soak": Scenario("soak:on_ray", 20_000, lambda n: 300 + n / 4, "memory and descriptors over many generations"),
    "mutations": Scenario(
        "mutations:broken", 8, lambda n: 300 + 200 * n, "the tests themselves: each must see its fault"
    ),
}
