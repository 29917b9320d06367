"""Islands: several evolutions side by side that exchange their best (Tanese 1989, Distributed genetic algorithms).

Every island is an `Evolution` of its own, with any algorithm, and lives in one worker for `every` generations: who
drives waits for islands, not for generations. Between two stretches the best `migrants` of each island leave. They are
told to the islands that hear it together with the next generation there, as if they had been asked for (migration of
copies at a barrier: Cantú-Paz 2001, Efficient and accurate parallel genetic algorithms, chapter 8).

Whatever decides is addressed by the seed and counted in generations, so the number of workers cannot change a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evo_rnn.description import describe
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.pool import Pool, open_pool
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.fitness import ranking
from evo_rnn.network import Model
from evo_rnn.progress import FRESH, OFFERED, Progress, State
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array, Genes, Losses
from evo_rnn.tasks.task import Task
from populations.evolution import Evolution
from populations.stretch import Stretch, begun, kept_state

ADVANCE = "populations.stretch:advance"


def ring(count: int, stream: np.random.Generator) -> list[list[int]]:  # noqa: ARG001 (one form for all)
    """Each island hears the one before it."""
    return [[(target - 1) % count] for target in range(count)]


def full(count: int, stream: np.random.Generator) -> list[list[int]]:  # noqa: ARG001
    """Each island hears all others."""
    return [[source for source in range(count) if source != target] for target in range(count)]


def chance(count: int, stream: np.random.Generator) -> list[list[int]]:
    """Each island hears one other, drawn afresh."""
    drawn = stream.integers(count - 1, size=count)
    return [[int(source + (source >= target))] for target, source in enumerate(drawn)]


TOPOLOGIES: dict[str, Callable[[int, np.random.Generator], list[list[int]]]] = {
    "ring": ring,
    "full": full,
    "random": chance,
}


@dataclass(frozen=True)
class Islands:
    """A trainer that evolves several populations side by side, each with its own algorithm, and lets the best travel.

    Args:
        members: one evolution an island.
        every: generations between two migrations.
        migrants: how many of the best of each island travel; only valid ones do.
        topology: who hears whom, a name in `TOPOLOGIES`.
    """

    members: tuple[Evolution, ...] = field(default_factory=lambda: (Evolution(),) * 4)
    every: int = 10
    migrants: int = 2
    topology: str = "ring"

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("islands should be one at least but are none.")
        if self.every < 1:
            raise ConfigError(f"every should be at least 1 but is {self.every}.")
        if self.migrants < 0:
            raise ConfigError(f"migrants should be 0 or more but is {self.migrants}.")
        if self.topology not in TOPOLOGIES:
            raise ConfigError(f"topology should be one of {', '.join(TOPOLOGIES)} but is {self.topology!r}.")

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress a migration, for ever. Its step counts generations, its passes those of all islands."""
        context = {"model": describe(model) if compute.workers else model, "task": task, "device": compute.device}
        epoch, islands = _restore(len(self.members), model.layout.size, resume)
        with open_pool(min(compute.workers, len(islands)), context, **compute.options) as pool:
            while True:
                heard = self._heard(seed, epoch)
                islands = self._stretched(pool, seed, islands, heard)
                epoch += 1
                yield _progress(epoch, epoch * self.every, islands)

    def _heard(self, seed: int, epoch: int) -> list[list[int]]:
        """Whom each island hears at the start of an epoch. At the very first nobody has anything to send."""
        if len(self.members) == 1:
            return [[]]
        return TOPOLOGIES[self.topology](len(self.members), generator(seed, "migration", generation=epoch))

    def _stretched(
        self, pool: Pool, seed: int, islands: Sequence[Stretch], heard: Sequence[Sequence[int]]
    ) -> list[Stretch]:
        """Every island after `every` more generations. Each comes back now and then, as long calls are not trusted."""
        done, running = list(islands), {}

        def send(index: int, state: State, genes: Genes, losses: Losses, left: int) -> None:
            evolution, own = self.members[index], island_seed(seed, index)
            call = (evolution, own, dict(state), genes, losses, left, self.migrants)
            running[pool.submit(ADVANCE, *call)] = index

        for index, sources in enumerate(heard):
            arrived = [islands[source] for source in sources]
            genes = np.concatenate([islands[index].best[:0], *(each.best for each in arrived)])
            losses = np.concatenate([islands[index].best_losses[:0], *(each.best_losses for each in arrived)])
            send(index, islands[index].state, genes, losses, self.every)
        while running:
            ticket, piece = pool.next()
            index = running.pop(ticket)
            done[index] = piece
            if piece.left:
                send(index, piece.state, piece.best[:0], piece.best_losses[:0], piece.left)
        return done


def island_seed(seed: int, index: int) -> int:
    """The seed of an island: alone with it, `Evolution` does what the island does until the first migrants come."""
    return int(generator(seed, "island", index).integers(2**63))


def _restore(count: int, size: int, resume: State) -> tuple[int, list[Stretch]]:
    if not resume:
        return 0, [begun(size)] * count
    parts = [f"island/{index}/" for index in range(count)]
    states = [{k.removeprefix(part): v for k, v in resume.items() if k.startswith(part)} for part in parts]
    return int(resume["islands"][0]), [replace(begun(size), **kept_state(state)) for state in states]


def _progress(epoch: int, step: int, islands: Sequence[Stretch]) -> Progress:
    def checkpoint() -> dict[str, Array]:
        own: dict[str, Array] = {"islands": np.array([epoch], np.int64)}
        parts = [
            {f"island/{i}/{name}": array for name, array in isle.arrays().items()} for i, isle in enumerate(islands)
        ]
        return {name: np.array(array) for part in (own, *parts) for name, array in part.items()}

    genes = np.concatenate([isle.candidates for isle in islands])
    losses = np.concatenate([isle.losses for isle in islands])
    first = ranking(losses)[:OFFERED]
    passes, seconds = sum(isle.passes for isle in islands), sum(isle.seconds for isle in islands)
    best = min(isle.loss for isle in islands)
    return Progress(step, passes, seconds, best, genes[first], losses[first], checkpoint, _metrics(islands))


def _metrics(islands: Sequence[Stretch]) -> dict[str, float]:
    """What all islands look like, on average but for the best fitness, and the loss and diversity of each."""
    found = {name: float(np.mean([isle.metrics[name] for isle in islands])) for name in islands[0].metrics}
    found["fitness/best"] = max(isle.metrics["fitness/best"] for isle in islands)
    for index, isle in enumerate(islands):
        found[f"island/{index}/loss"] = isle.loss
        found[f"island/{index}/diversity"] = isle.metrics["population/diversity"]
    return found
