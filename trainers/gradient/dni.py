"""Decoupled neural interfaces using synthetic gradients (Jaderberg et al. 2017, arXiv 1608.05343), for recurrent networks.

As in Marschall, Cho and Savin 2020, JMLR 21, A unified framework of online learning algorithms.
A run is cut in blocks of h steps. At the end of a block a linear synthesiser says what credit the future will send back:
    ĉ(s_h) = A [s_h; 1],   c*(s_0) = Σ_t δ_t ∂s_t/∂s_0 + ĉ(s_h) ∂s_h/∂s_0,
and A learns by normalised least mean squares to say at s_0, where the block before ended, what came, c*(s_0). So credit
reaches beyond the horizon, as far as the state foretells it. Only a reset tells the estimator that a sequence has ended.

What came is known once `backward` has run, which writes it into a box in the memory; A learns from the boxes of the blocks
that are over when the next chunk is handed over. There is to be one `backward` for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from evo_rnn.cells.cell import Cell
from evo_rnn.errors import ConfigError
from trainers.gradient.estimator import (
    LEARNED,
    NEVER,
    Edge,
    Memory,
    Traits,
    check_least,
    layout_of,
    tape_adds,
    taped,
    unpacked,
    unrolled,
)
from trainers.gradient.tbptt import kept, pieces, run_again, widened

SYNTHESISER, STATE, BOX = (LEARNED + word for word in ("synthesiser", "state", "box"))


@dataclass(frozen=True)
class DNI:
    """Truncated BPTT with a learned guess of the credit that is cut off at the end of a block.

    Args:
        horizon: h, steps a block.
        rate: of the synthesiser, from 0 to below 2: the share of its last error that a step mends.
    """

    horizon: int = 8
    rate: float = 0.1
    traits = Traits(local_in_time=True)

    def __post_init__(self) -> None:
        check_least(self, horizon=1)
        if not 0 <= self.rate < 2:
            raise ConfigError(
                f"rate should be from 0 to below 2 but is {self.rate!r}. Beyond, the synthesiser diverges."
            )

    def check(self, cell: Cell) -> None:
        """Any cell."""

    def sees(self, cell: Cell, steps: int) -> int:
        """The block."""
        return self.block(cell, steps)

    def block(self, cell: Cell, steps: int) -> int:  # noqa: ARG002 (one signature for all estimators)
        """h, or all steps if there are fewer."""
        return min(self.horizon, steps)

    def begin(self, cell: Cell, genes: Tensor, batch: int) -> Memory:
        """The cell's start, and a synthesiser A (P, S, S + 1) that foretells nothing."""
        start = cell.start(unpacked(cell, genes.detach()), batch)
        synthesiser = genes.new_zeros(len(genes), cell.state, cell.state + 1)
        return {"s": start, "before": start, "step": torch.tensor(0), SYNTHESISER: synthesiser}

    def advance(
        self, cell: Cell, genes: Tensor, x: Tensor, memory: Memory, reset: Tensor = NEVER
    ) -> tuple[Tensor, Memory]:
        """Run each piece's block so far; where the block ends, the synthesiser speaks."""
        parts, first = [], int(memory["step"])
        learned = taught(memory, self.rate, under_way=first % self.horizon > 0)
        for here, ends in pieces(first, x.shape[-2], self.horizon):
            done = first + here.start
            if done and done % self.horizon == 0:  # the synthesiser has spoken of this state: a box for what comes
                learned |= _box(memory["s"], sum(name.startswith(BOX) for name in learned))
            window = widened(memory, x[..., here, :], reset[:, here])
            run = _taped(cell, genes, window, here.stop - here.start)
            states = run.states.detach()
            guess = foretell(learned[SYNTHESISER], states[:, :, -1]) if ends else torch.empty(0)
            pull = _pull(run, guess, box=list(learned.values())[-1] if len(learned) > 1 else torch.empty(0))
            parts.append(Edge.apply(genes, run.newest.detach(), pull))  # type: ignore[no-untyped-call]
            memory = {**kept(window, states, 0 if ends else self.horizon), **learned}
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2), memory

    def storage(self, cell: Cell, steps: int) -> int:
        """The synthesiser, a tape of every block that is handed over, its states side by side, and its box."""
        blocks = -(-steps // self.horizon)
        return cell.state * (cell.state + 1) + steps * (cell.state + taped(cell)) + blocks * (2 * cell.state + 1)

    def flops(self, cell: Cell, steps: int) -> float:  # noqa: ARG002
        """Forward, twice as much back, and once a block the synthesiser speaks, compares and learns (S² each)."""
        return tape_adds(layout_of(cell)) + 3 * cell.state * (cell.state + 1) / self.horizon

    def again(self, cell: Cell, every: int) -> float:
        """What a step takes more when `every` steps are handed over at once."""
        return run_again(cell, self.horizon, self.horizon, every)


@dataclass(frozen=True, eq=False)
class _Run:
    """A block so far on a tape of its own: its genes (P, D), the state before it (P, B, S), its states, the newest ones."""

    genes: Tensor
    before: Tensor
    states: Tensor
    newest: Tensor


def _taped(cell: Cell, genes: Tensor, window: Memory, new: int) -> _Run:
    genes, before = (each.detach().requires_grad_() for each in (genes, window["before"]))
    with torch.enable_grad():
        states = unrolled(cell, genes, window["x"], before, window["reset"])
        return _Run(genes, before, states, states[:, :, -new:])


def _pull(run: _Run, guess: Tensor, box: Tensor) -> Callable[[Tensor], Tensor]:
    """From ∂L/∂s of the newest states to ∂L/∂θ (P, D), with `guess` sent back too; what comes out at s_0 goes to the box."""
    unsaid = [guess] if len(guess) else []

    def pull(ds: Tensor) -> Tensor:
        if unsaid:  # once, however many losses go back one by one
            ds = ds.clone()
            ds[:, :, -1] += unsaid.pop()
        credit, came = torch.autograd.grad(
            run.newest, (run.genes, run.before), ds, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        if len(box):
            box[..., :-1] += came
            box[..., -1] += 1
        return credit

    return pull


def with_one(s: Tensor) -> Tensor:
    """[s; 1] (P, B, S + 1) of states (P, B, S)."""
    return torch.cat([s, torch.ones_like(s[..., :1])], dim=2)


def foretell(synthesiser: Tensor, s: Tensor) -> Tensor:
    """ĉ = A [s; 1]: the credit (P, B, S) that the future will send to states (P, B, S)."""
    return torch.bmm(with_one(s), synthesiser.mT)


def _box(s: Tensor, number: int) -> dict[str, Tensor]:
    """A box for the credit that will come to states (P, B, S), and, in its last column, how often some came."""
    return {f"{STATE}{number}": s, f"{BOX}{number}": torch.zeros_like(with_one(s))}


def taught(memory: Memory, rate: float, *, under_way: bool) -> dict[str, Tensor]:
    """All that is learned, after what came: A += rate (c* - ĉ) [s; 1]ᵀ / |[s; 1]|² for each box, summed over sequences.

    Args:
        memory: with boxes.
        rate: the share of the error that is mended.
        under_way: the last box belongs to a block that is not over, and is left open.
    """
    synthesiser, number = memory[SYNTHESISER], sum(name.startswith(BOX) for name in memory)
    over = max(number - under_way, 0)
    for k in range(over):
        s, box = memory[f"{STATE}{k}"], memory[f"{BOX}{k}"]
        if box[..., -1].any():  # else `backward` has not been called, and nothing is known
            error, seen = box[..., :-1] - foretell(synthesiser, s), with_one(s)
            synthesiser = synthesiser + rate * torch.bmm(error.mT, seen) / seen.square().sum(dim=(1, 2), keepdim=True)
    still = {f"{word}{k - over}": memory[f"{word}{k}"] for k in range(over, number) for word in (STATE, BOX)}
    return {SYNTHESISER: synthesiser, **still}
