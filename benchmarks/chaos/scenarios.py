"""The scenarios, by name."""

from __future__ import annotations

from benchmarks.chaos import corruption, determinism, disk, drivers, outages, soak, workers, writers
from benchmarks.chaos.report import Scenario

SCENARIOS = {
    "workers": Scenario(workers.faulted, 300, lambda n: 120 + 6 * n, "workers killed, hung, out of memory, slow"),
    "pace": Scenario(workers.pace, 9, lambda n: 200 + 60 * n, "the cost of one fault every ten seconds"),
    "determinism": Scenario(determinism.matrix, 200, lambda _: 900, "workers x populations x cells x islands"),
    "writers": Scenario(writers.kills, 500, lambda n: 60 + n, "writers of checkpoints killed at any instant"),
    "corruption": Scenario(corruption.damage, 20_000, lambda n: 60 + n / 20, "checkpoints damaged in six ways, swapped"),
    "disk": Scenario(disk.full, 60, lambda n: 120 + 3 * n, "full disks"),
    "outages": Scenario(outages.stub, 30, lambda n: 120 + 12 * n, "a tracking server ill in six ways"),
    "server": Scenario(outages.real, 5, lambda n: 200 + 90 * n, "MLflow's own server killed and started again"),
    "drivers": Scenario(drivers.kills, 60, lambda n: 600 + 60 * n, "drivers killed or stopped, and resumed"),
    "soak": Scenario(soak.on_ray, 20_000, lambda n: 300 + n / 4, "memory and descriptors over many generations"),
}
