"""Gradient estimators, one file each, and the dict that names them.

All of them serve the same loop; only the name changes:

>>> import torch
>>> from evo_rnn.cells import IndRNN
>>> from evo_rnn.network import network
>>> from trainers.gradient import ESTIMATORS
>>> net, _ = network(IndRNN(inputs=1, hidden=4), outputs=1), torch.manual_seed(0)
>>> stream = [(x, x.roll(1, dims=1)) for x in torch.rand(200, 1, 5, 1)]  # chunks: (B, t, I) and (B, t, O)

>>> estimator = ESTIMATORS["rtrl"]()
>>> genes = torch.nn.Parameter(torch.randn(1, net.layout.size) / 2)
>>> optimizer = torch.optim.Adam([genes], lr=0.02)
>>> memory = estimator.begin(net.cell, net.recurrent(genes), batch=1)
>>> for x, y in stream:
...     states, memory = estimator.advance(net.cell, net.recurrent(genes), x, memory)
...     loss = (net.read(genes, states) - y).square().mean()
...     _ = optimizer.zero_grad(), loss.backward(), optimizer.step()
"""

from trainers.gradient.bptt import BPTT
from trainers.gradient.diagonal import Diagonal
from trainers.gradient.dni import DNI
from trainers.gradient.elman_rule import ElmanRule
from trainers.gradient.eprop import EProp
from trainers.gradient.estimator import Estimator, Traits
from trainers.gradient.hybrid import Hybrid
from trainers.gradient.kf_rtrl import KFRTRL
from trainers.gradient.lstm1997 import LSTM1997
from trainers.gradient.pearlmutter import Pearlmutter
from trainers.gradient.rflo import RFLO
from trainers.gradient.rtrl import RTRL
from trainers.gradient.slope import passes, slope, sweep
from trainers.gradient.snap import SnAp
from trainers.gradient.tbptt import TBPTT
from trainers.gradient.uoro import UORO

ESTIMATORS: dict[str, type[Estimator]] = {
    "bptt": BPTT,
    "rtrl": RTRL,
    "hybrid": Hybrid,
    "diagonal": Diagonal,
    "tbptt": TBPTT,
    "elman_rule": ElmanRule,
    "lstm1997": LSTM1997,
    "snap": SnAp,
    "uoro": UORO,
    "kf_rtrl": KFRTRL,
    "rflo": RFLO,
    "eprop": EProp,
    "dni": DNI,
    "pearlmutter": Pearlmutter,
}

__all__ = [
    "BPTT",
    "DNI",
    "ESTIMATORS",
    "KFRTRL",
    "LSTM1997",
    "RFLO",
    "RTRL",
    "TBPTT",
    "UORO",
    "Diagonal",
    "EProp",
    "ElmanRule",
    "Estimator",
    "Hybrid",
    "Pearlmutter",
    "SnAp",
    "Traits",
    "passes",
    "slope",
    "sweep",
]
