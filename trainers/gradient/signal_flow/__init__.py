"""Signal-flow graphs and their adjoints, and the locally recurrent networks that they led to.

Batch: `gradient` by the adjoint graph, `rbp` for networks with IIR synapses; both equal backpropagation through time.
On line: `OnlineAdjoint` and `CRBP`, in a loop of your own, in memory that does not grow:

>>> import torch
>>> echo = wired(x="input", u="gain w x", s="sum u r", y="output s", d="delay s", r="gain v d")  # y[t] = w x[t] + v y[t-1]
>>> rule, weights = OnlineAdjoint(echo, horizon=20), torch.zeros(1, 2)
>>> memory, wanted = rule.begin(weights, batch=16), torch.zeros(1, 16, 1)
>>> for x in torch.randn(300, 16, 1, generator=torch.Generator().manual_seed(0)):
...     wanted = 0.8 * x + 0.5 * wanted
...     outputs, memory = rule.forward(weights, x, memory)
...     slope, memory = rule.backward(weights, (outputs - wanted) / 16, memory)
...     weights = weights - 0.1 * slope
>>> print(*(f"{name} = {value:.2f}" for name, value in zip(echo.weights, weights[0], strict=True)))
w = 0.80 v = 0.50
"""

from trainers.gradient.signal_flow.crbp import CRBP
from trainers.gradient.signal_flow.functions import FUNCTIONS, Function
from trainers.gradient.signal_flow.graph import Node, SignalFlowGraph
from trainers.gradient.signal_flow.locally_recurrent import IIRMLP, IIRLayer
from trainers.gradient.signal_flow.locally_recurrent_graph import as_graph
from trainers.gradient.signal_flow.netlist import wired
from trainers.gradient.signal_flow.online import OnlineAdjoint
from trainers.gradient.signal_flow.rbp import rbp
from trainers.gradient.signal_flow.simulation import Gradient, Run, gradient, simulate

__all__ = [
    "CRBP",
    "FUNCTIONS",
    "IIRMLP",
    "Function",
    "Gradient",
    "IIRLayer",
    "Node",
    "OnlineAdjoint",
    "Run",
    "SignalFlowGraph",
    "as_graph",
    "gradient",
    "rbp",
    "simulate",
    "wired",
]
