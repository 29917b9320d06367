"""Learning from a stream: the same however it is cut, in fixed memory, to be interrupted at will, and with clear refusals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evo_rnn.cells import CTRNN, LSTM, Cell, Elman, IndRNN
from evo_rnn.errors import ConfigError, DataError
from evo_rnn.network import Network, network
from trainers.gradient import BPTT, ESTIMATORS, RTRL, UORO, Estimator, Hybrid
from trainers.online import Chunk, Heard, learned_online

NET = network(Elman(2, 4), 1)
CANDIDATES: tuple[Cell, ...] = (Elman(1, 6), IndRNN(1, 6, "tanh"), LSTM(1, 6), CTRNN(1, 6))
STEPS, BATCH = 30, 3


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def genes_of(net: Network, people: int = 2) -> nn.Parameter:
    return nn.Parameter(0.5 * normal(0, people, net.layout.size))


def whole(seed: int = 1) -> Chunk:
    """Inputs, targets, which count, and resets in odd places."""
    random = torch.Generator().manual_seed(seed)
    counts, reset = (torch.rand(BATCH, STEPS, generator=random) < share for share in (0.7, 0.1))
    counts[:, 8:12] = False
    return Chunk(normal(seed, BATCH, STEPS, 2), normal(seed + 1, BATCH, STEPS, 1), counts, reset)


def cut(chunk: Chunk, lengths: list[int]) -> Iterator[Chunk]:
    at = 0
    for length in lengths:
        here = slice(at, at + length)
        yield Chunk(chunk.inputs[:, here], chunk.targets[:, here], chunk.counts[:, here], chunk.reset[:, here])
        at += length
    assert at == STEPS


def adam(genes: nn.Parameter) -> torch.optim.Optimizer:
    return torch.optim.Adam([genes], lr=0.02)


def learn(stream: Any, rule: Estimator | None = None, **settings: Any) -> tuple[Tensor, list[Heard]]:
    genes = genes_of(NET)
    seen = list(learned_online(rule or RTRL(), NET, genes, adam(genes), stream, **settings))
    return genes.detach(), seen


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, STEPS), max_size=9),
    st.integers(1, STEPS + 3),
    st.sampled_from([RTRL(), Hybrid(4), BPTT(), UORO()]),
)
def test_the_cuts_of_the_stream_change_nothing(ends: list[int], every: int, rule: Estimator) -> None:
    marks = [0, *sorted(ends), STEPS]
    lengths = [b - a for a, b in pairwise(marks)]  # some of them 0
    (genes, seen), (again, same) = (learn(cut(whole(), each), rule, every=every) for each in ([STEPS], lengths))
    torch.testing.assert_close(again, genes, rtol=0, atol=1e-12)
    assert [each.step for each in same] == [each.step for each in seen]
    assert [each.step for each in seen] == [*range(every, STEPS, every), STEPS]
    assert (genes - genes_of(NET)).norm() > 0.1


def test_resets_and_counts_go_through() -> None:
    chunk, lengths = whole(), [7, 11, 12]
    genes, seen = learn(cut(chunk, lengths), every=4)
    for other in (
        Chunk(chunk.inputs, chunk.targets, chunk.counts, ~chunk.reset),
        Chunk(chunk.inputs, chunk.targets, ~chunk.counts, chunk.reset),
    ):
        assert (learn(cut(other, lengths), every=4)[0] - genes).norm() > 1e-3
    hidden = torch.where(chunk.counts[..., None], chunk.targets, torch.nan)
    assert torch.equal(learn(cut(Chunk(chunk.inputs, hidden, chunk.counts, chunk.reset), lengths), every=4)[0], genes)
    assert [bool(each.loss.isnan().all()) for each in seen] == [False, False, True, *[False] * 5]


def test_weights_rest_where_nothing_counts() -> None:
    genes = genes_of(NET)
    chunk, moved = whole(), []
    for _ in learned_online(RTRL(), NET, genes, adam(genes), [chunk], every=4):
        moved.append(genes.detach().clone())
    assert torch.equal(moved[1], moved[2])  # steps 8 to 12
    assert not torch.equal(moved[2], moved[3])


def test_every_step_follows_the_mean_gradient_of_its_piece() -> None:
    chunk, genes = whole(), genes_of(NET)
    bare = [(chunk.inputs, chunk.targets)]
    seen = list(learned_online(BPTT(), NET, genes, torch.optim.SGD([genes], lr=1.0), bare, every=STEPS, clip=0.1))
    first = genes_of(NET)
    losses = (NET.predict(first, chunk.inputs) - chunk.targets).square().mean(dim=(1, 2, 3))
    losses.sum().backward()
    assert first.grad is not None
    norm = first.grad.norm(dim=1)
    torch.testing.assert_close(seen[0].loss, losses.detach())
    torch.testing.assert_close(seen[0].norm, norm)
    assert (norm > 0.1).all()
    torch.testing.assert_close(genes.detach(), (first - 0.1 * first.grad / norm[:, None]).detach())


@pytest.mark.parametrize("rule", [RTRL(), Hybrid(4), BPTT(), UORO()], ids=lambda rule: type(rule).__name__)
def test_going_on_equals_never_having_stopped(rule: Estimator) -> None:
    genes, _ = learn(cut(whole(), [STEPS]), rule, every=3)
    again = genes_of(NET)
    optimizer = adam(again)
    first, second = cut(whole(), [12, STEPS - 12])
    *_, last = learned_online(rule, NET, again, optimizer, [first], every=3)
    kept = {"genes": again.detach().clone(), "optimizer": optimizer.state_dict(), "memory": dict(last.memory)}
    later = nn.Parameter(kept["genes"])
    optimizer = adam(later)
    optimizer.load_state_dict(kept["optimizer"])
    list(learned_online(rule, NET, later, optimizer, [second], every=3, memory=kept["memory"]))
    assert torch.equal(later.detach(), genes)
    fresh = nn.Parameter(kept["genes"])
    list(learned_online(rule, NET, fresh, adam(fresh), [second], every=3))
    assert (fresh.detach() - genes).norm() > 1e-3


def test_rows_do_not_feel_each_other() -> None:
    together, _ = learn([whole()], every=3, clip=0.5)
    for number in range(2):
        genes = nn.Parameter(genes_of(NET).detach()[number : number + 1])
        list(learned_online(RTRL(), NET, genes, adam(genes), [whole()], every=3, clip=0.5))
        torch.testing.assert_close(genes.detach()[0], together[number], rtol=0, atol=1e-12)


def served(rule: Estimator) -> Network:
    for cell in CANDIDATES:
        try:
            rule.check(cell)
        except ConfigError:
            continue
        return network(cell, 1)
    raise AssertionError(f"{rule} refuses every cell")


def copies(steps: int, length: int = 10, delay: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """What was heard a step ago, in chunks."""
    x = normal(3, 4, steps + delay, 1)
    for at in range(0, steps, length):
        yield x[:, at + delay : at + delay + length], x[:, at : at + length]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_learns_to_copy_from_a_stream_in_fixed_memory(name: str) -> None:
    rule = ESTIMATORS[name]()
    net = served(rule)
    genes = nn.Parameter(torch.tensor(net.layout.draw(np.random.default_rng(0), 1), dtype=torch.float64))
    seen = list(learned_online(rule, net, genes, adam(genes), copies(1200), every=5))
    losses = torch.stack([each.loss for each in seen])
    assert losses[-40:].mean() < 0.75 * losses[:20].mean()
    held = [sum(value.numel() for value in each.memory.values()) for each in seen]
    assert max(held[:20]) >= max(held[20:])


def test_a_stream_may_be_longer_than_any_memory() -> None:
    def endless() -> Iterator[Chunk]:
        x = normal(1, 1, 500, 2)
        while True:
            yield Chunk(x, x[..., :1])

    genes, process = genes_of(NET, 1), psutil.Process()
    steps = learned_online(RTRL(), NET, genes, torch.optim.SGD([genes], lr=1e-3), endless(), every=50)
    list(islice(steps, 20))
    before = process.memory_info().rss
    assert next(islice(steps, 300, None)).step == 50 * 321
    assert process.memory_info().rss - before < 2**23


def test_a_stream_without_a_chunk_moves_nothing() -> None:
    genes, seen = learn([])
    assert seen == []
    assert torch.equal(genes, genes_of(NET))


def changed(**fields: Any) -> Chunk:
    chunk = whole()
    return Chunk(**({"inputs": chunk.inputs, "targets": chunk.targets} | fields))


def spoiled(values: Tensor, number: float) -> Tensor:
    values = values.clone()
    values[1, 5, 0] = number
    return values


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            changed(inputs=spoiled(whole().inputs, torch.nan)),
            "inputs .* finite but hold nan at step 35 of sequence 1. Fill",
        ),
        (changed(inputs=spoiled(whole().inputs, torch.inf)), "inputs .* finite but hold inf at step 35 of sequence 1"),
        (
            changed(targets=spoiled(whole().targets, -torch.inf)),
            "targets .* hold -inf at step 35 of sequence 1. .* counts",
        ),
        (
            changed(inputs=normal(1, 2, STEPS, 2)),
            r"After step 30: inputs .* shape \(3, t, 2\) but has shape \(2, 30, 2\)",
        ),
        (changed(inputs=normal(1, BATCH, STEPS, 1)), r"After step 30: inputs .* \(3, t, 2\)"),
        (changed(targets=normal(1, BATCH, STEPS - 1, 1)), r"After step 30: targets .* \(3, 30, 1\)"),
        (changed(targets=normal(1, BATCH, STEPS, 2)), r"After step 30: targets .* \(3, 30, 1\)"),
        (changed(counts=torch.ones(BATCH, 2, dtype=torch.bool)), r"After step 30: counts .* \(3, 30\)"),
        (changed(reset=torch.ones(2, STEPS, dtype=torch.bool)), r"After step 30: reset .* \(3, 30\)"),
        (changed(counts=torch.ones(BATCH, STEPS)), "After step 30: counts .* bool but is torch.float32"),
        (changed(inputs=normal(1, STEPS, 2)), "After step 30: inputs"),
    ],
)
def test_a_chunk_that_cannot_be_is_refused_with_its_place(second: Chunk, words: str) -> None:
    with pytest.raises(DataError, match=words):
        learn([changed(), second])


def test_a_stream_of_no_sequences_is_refused() -> None:
    with pytest.raises(DataError, match="at least 1 sequence"):
        learn([Chunk(torch.zeros(0, 4, 2), torch.zeros(0, 4, 1))])


def test_class_numbers_are_checked() -> None:
    net, x = network(Elman(2, 3), 3), normal(1, 2, 6, 2)
    for label, words in ((3, "class numbers from 0 to 2 but hold 3"), (-1, "hold -1"), (0.5, r"hold 0\.5")):
        genes, targets = genes_of(net), torch.ones(2, 6, 1)
        targets[1, 4] = label
        with pytest.raises(DataError, match=words + ".* at step 4 of sequence 1"):
            list(learned_online(RTRL(), net, genes, adam(genes), [(x, targets)], loss="cross_entropy"))
    genes = genes_of(net)
    (seen,) = learned_online(
        RTRL(), net, genes, adam(genes), [(x, torch.ones(2, 6, 1).long())], loss="cross_entropy", every=6
    )
    assert torch.isfinite(seen.loss).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every": 0}, "every should be at least 1 step but is 0"),
        ({"clip": -1.0}, "clip should be at least 0"),
        ({"loss": "msee"}, "loss should be one of .*'ctc', 'mse'.* but is 'msee'"),
        ({"loss": "ctc", "every": 5}, "ctc needs whole sequences .* Use bptt"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_the_stream_is_touched(settings: dict[str, Any], words: str) -> None:
    genes = genes_of(NET)
    with pytest.raises(ConfigError, match=words):
        learned_online(RTRL(), NET, genes, adam(genes), iter([]), **settings)


def test_genes_are_a_leaf_that_the_optimizer_moves() -> None:
    genes = genes_of(NET)
    for wrong in (genes.detach(), genes * 1):
        with pytest.raises(ConfigError, match="leaf that requires grad"):
            learned_online(RTRL(), NET, wrong, adam(genes), [])
    with pytest.raises(ConfigError, match="optimizer should move the genes"):
        learned_online(RTRL(), NET, genes, adam(genes_of(NET)), [])
    with pytest.raises(ValueError, match="genes should have shape"):
        learned_online(RTRL(), network(Elman(2, 5), 1), genes, adam(genes), [])


def test_a_memory_of_another_stream_is_refused() -> None:
    _, seen = learn([changed()])
    genes = genes_of(NET, 5)
    with pytest.raises(DataError, match=r"memory should be of \(5, 3\) .* but is of \(2, 3\)"):
        list(learned_online(RTRL(), NET, genes, adam(genes), [changed()], memory=seen[-1].memory))


def test_ctc_takes_pieces_as_sequences() -> None:
    net = network(Elman(2, 4), 3)
    labels = torch.zeros(BATCH, STEPS, 1)
    labels[:, ::6], labels[:, 3::6] = 1, 2
    genes = genes_of(net)
    stream = [(whole().inputs, labels)] * 20
    losses = [each.loss for each in learned_online(BPTT(), net, genes, adam(genes), stream, loss="ctc", every=6)]
    assert len(losses) == 100
    assert (torch.stack(losses[-5:]).mean() < 0.9 * torch.stack(losses[:5]).mean()).all()


def test_numbers_of_another_precision_are_taken_as_the_genes_are() -> None:
    genes = nn.Parameter(genes_of(NET).detach().float())
    (seen,) = learned_online(RTRL(), NET, genes, adam(genes), [changed()], every=STEPS)
    assert seen.loss.dtype == torch.float32
    assert (seen.influence > 0).all()
