"""The control: torch.nn.RNN, LSTM or GRU with Adam, as anyone would write it; what all our own machinery must answer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from evo_rnn.cells import GRU, LSTM, Elman
from evo_rnn.errors import ConfigError
from evo_rnn.evaluation.evaluator import LocalEvaluator
from evo_rnn.evaluation.ray_evaluator import LOCAL, Compute
from evo_rnn.fitness import LOSSES, batch, sanitise
from evo_rnn.network import Linear, Model, Network
from evo_rnn.progress import FRESH, Progress, State
from evo_rnn.seeds import generator
from evo_rnn.shapes import Array
from evo_rnn.tasks.task import Task
from evo_rnn.threads import Stopwatch, one_thread


@dataclass(frozen=True)
class TorchControl:
    """One network, one learning rate, whole sequences, early stopping.

    Args:
        learning_rate: of Adam.
        check: steps between two looks at the validation split.
        patience: looks without a better validation loss after which it ends.
    """

    learning_rate: float = 0.01
    check: int = 10
    patience: int = 20

    def train(
        self, model: Model, task: Task, seed: int, resume: State = FRESH, compute: Compute = LOCAL
    ) -> Iterator[Progress]:
        """Yield one progress a gradient step, until the validation loss has not improved for `patience` looks.

        Raises:
            ConfigError: if torch.nn has no network of this kind.
        """
        twin = _Twin(model, seed).to(compute.device)
        optimizer = torch.optim.Adam(twin.parameters(), lr=self.learning_rate)
        data, loss = batch(task.train, torch.float32, compute.device), LOSSES[task.loss]
        look = LocalEvaluator(model, task.validation, task.loss, compute.device)
        step, spent, best, lowest, waited = _restore(twin, optimizer, resume)
        watch = Stopwatch(spent)
        while waited < self.patience:
            watch.start()
            with one_thread():
                optimizer.zero_grad()
                value = loss(twin(data.inputs)[None], data)[0]
                value.backward()
            genes, clean = twin.genes()[None], sanitise(value.detach().cpu().numpy()[None])
            optimizer.step()
            step, best = step + 1, min(best, float(clean[0]))
            if step % self.check == 0:
                seen = float(look(genes)[0])
                lowest, waited = (seen, 0) if seen < lowest else (lowest, waited + 1)
            seconds = watch.stop()
            loop = np.array([step, seconds, best, lowest, waited])
            yield Progress(step, 3.0 * step, seconds, best, genes, clean, lambda: _state(twin, optimizer, loop))  # noqa: B023


def twinless(model: Model) -> str:
    """Why torch.nn has no network like this one; empty if it has."""
    cell = model.cell if isinstance(model, Network) else None
    plain = getattr(cell, "reset", "after") == "after" and not getattr(cell, "peepholes", False)
    if isinstance(model, Network) and type(cell) in TWINS and plain and isinstance(model.readout, Linear):
        return ""
    return f"torch.nn has no twin of {cell or model}"


TWINS: dict[type, Callable[..., nn.RNNBase]] = {Elman: nn.RNN, LSTM: nn.LSTM, GRU: nn.GRU}


class _Twin(nn.Module):
    """The same network in torch.nn, with torch's own initial weights."""

    def __init__(self, model: Model, seed: int) -> None:
        super().__init__()
        if why := twinless(model):
            raise ConfigError(f"{why}. Leave the method torch out, or use elman, lstm or gru.")
        assert isinstance(model, Network)  # noqa: S101 (for the type checker: `twinless` has looked)
        kind = TWINS[type(model.cell)]
        self.model = model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, "torch control").integers(2**31)))
            self.recurrent = kind(model.cell.inputs, model.cell.outputs, batch_first=True)
            self.readout = nn.Linear(model.cell.outputs, model.readout.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, I) to (B, T, O)."""
        readout: Tensor = self.readout(self.recurrent(x)[0])
        return readout

    def genes(self) -> Array:
        """The chromosome (D,) of the weights. torch has two biases where one is enough; they are added."""
        weights = {name.removesuffix("_l0"): value.detach() for name, value in self.recurrent.named_parameters()}
        cell: Network = self.model
        hidden = cell.cell.outputs
        bias, second = weights["bias_ih"], weights["bias_hh"]
        parts = {"input": weights["weight_ih"], "recurrent": weights["weight_hh"], "bias": bias + second}
        if isinstance(cell.cell, GRU):
            inner = torch.cat([second[: 2 * hidden], torch.zeros_like(second[2 * hidden :])])
            parts |= {"bias": bias + inner, "reset_bias": second[2 * hidden :]}
        named = {f"cell.{name}": value[None] for name, value in parts.items()}
        named |= {
            "readout.weight": self.readout.weight.detach()[None],
            "readout.bias": self.readout.bias.detach()[None],
        }
        return cell.layout.pack(named)[0].cpu().numpy()


def _state(twin: _Twin, optimizer: torch.optim.Optimizer, loop: Array) -> dict[str, Array]:
    state = {f"twin/{name}": value.cpu().numpy().copy() for name, value in twin.state_dict().items()}
    for index, memory in optimizer.state_dict()["state"].items():
        state |= {f"adam/{index}/{name}": np.array(value.cpu().numpy()) for name, value in memory.items()}
    return state | {"loop": loop}


def _restore(twin: _Twin, optimizer: torch.optim.Optimizer, resume: State) -> tuple[int, float, float, float, int]:
    if not resume:
        return 0, 0.0, np.inf, np.inf, 0
    own = {name.removeprefix("twin/"): torch.from_numpy(np.array(v)) for name, v in resume.items() if "twin/" in name}
    twin.load_state_dict(own)
    memory: dict[int, dict[str, Tensor]] = {}
    for name, value in resume.items():
        if name.startswith("adam/"):
            _, index, key = name.split("/")
            memory.setdefault(int(index), {})[key] = torch.from_numpy(np.array(value))
    optimizer.load_state_dict(optimizer.state_dict() | {"state": memory})
    step, seconds, best, lowest, waited = resume["loop"]
    return int(step), float(seconds), float(best), float(lowest), int(waited)
