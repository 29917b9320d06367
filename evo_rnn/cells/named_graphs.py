"""Cells of the literature as points of the space of graphs, each written as its paper does.

LSTM: Hochreiter and Schmidhuber 1997, Gers et al. 2000; peepholes: Gers et al. 2002; CIFG: Greff et al. 2017; GRU: Cho
et al. 2014, and torch.nn's form with the reset after the product; MGU: Zhou et al. 2016; MUT1-3: Jozefowicz et al. 2015.
"""

from __future__ import annotations

from evo_rnn.cells.equations import parsed
from evo_rnn.cells.graph import Graph

ELMAN = "h = tanh(W x + W h@1 + b)"

LSTM = """
i = sigmoid(W x + W h@1 + b)
f = sigmoid(W x + W h@1 + b)
g = tanh(W x + W h@1 + b)
o = sigmoid(W x + W h@1 + b)
k = f * c@1
n = i * g
c = k + n
t = tanh(c)
h = o * t
"""

PEEPHOLES = """
i = sigmoid(W x + W h@1 + w c@1 + b)
f = sigmoid(W x + W h@1 + w c@1 + b)
g = tanh(W x + W h@1 + b)
o = sigmoid(W x + W h@1 + w c + b)
k = f * c@1
n = i * g
c = k + n
t = tanh(c)
h = o * t
"""

NO_FORGET = """
i = sigmoid(W x + W h@1 + b)
g = tanh(W x + W h@1 + b)
o = sigmoid(W x + W h@1 + b)
n = i * g
c = c@1 + n
t = tanh(c)
h = o * t
"""

CIFG = """
f = sigmoid(W x + W h@1 + b)
i = one_minus(f)
g = tanh(W x + W h@1 + b)
o = sigmoid(W x + W h@1 + b)
k = f * c@1
n = i * g
c = k + n
t = tanh(c)
h = o * t
"""

GRU = """
r = sigmoid(W x + W h@1 + b)
z = sigmoid(W x + W h@1 + b)
e = W h@1 + b
q = r * e
n = tanh(W x + q + b)
y = one_minus(z)
u = y * n
v = z * h@1
h = u + v
"""

GRU_BEFORE = """
r = sigmoid(W x + W h@1 + b)
z = sigmoid(W x + W h@1 + b)
q = r * h@1
n = tanh(W x + W q + b)
y = one_minus(z)
u = y * n
v = z * h@1
h = u + v
"""

MGU = """
f = sigmoid(W x + W h@1 + b)
q = f * h@1
n = tanh(W x + W q + b)
y = one_minus(f)
u = f * n
v = y * h@1
h = u + v
"""

MUT1 = """
z = sigmoid(W x + b)
r = sigmoid(W x + W h@1 + b)
q = r * h@1
a = tanh(x)
n = tanh(W q + a + b)
y = one_minus(z)
u = z * n
v = y * h@1
h = u + v
"""

MUT2 = """
z = sigmoid(W x + W h@1 + b)
r = sigmoid(x + W h@1 + b)
q = r * h@1
n = tanh(W x + W q + b)
y = one_minus(z)
u = z * n
v = y * h@1
h = u + v
"""

MUT3 = """
a = tanh(h@1)
z = sigmoid(W x + W a + b)
r = sigmoid(W x + W h@1 + b)
q = r * h@1
n = tanh(W x + W q + b)
y = one_minus(z)
u = z * n
v = y * h@1
h = u + v
"""

GRAPHS = {
    "elman": ELMAN,
    "lstm": LSTM,
    "lstm_peepholes": PEEPHOLES,
    "lstm_no_forget": NO_FORGET,
    "lstm_cifg": CIFG,
    "gru": GRU,
    "gru_before": GRU_BEFORE,
    "mgu": MGU,
    "mut1": MUT1,
    "mut2": MUT2,
    "mut3": MUT3,
}


def graph(name: str, inputs: int, hidden: int) -> Graph:
    """The cell called `name` in `GRAPHS`, as a graph with the head `h`.

    Where MUT1 and MUT2 take the input as it is, it must be as wide as the cell; else it goes through a matrix first, the
    embedding that the paper's inputs come from.

    Raises:
        ValueError: if there is no such cell.
    """
    if name not in GRAPHS:
        raise ValueError(f"a graph should be one of {', '.join(GRAPHS)} but is {name!r}.")
    text = GRAPHS[name]
    if name in ("mut1", "mut2") and inputs != hidden:
        text = "d = W x + b\n" + text.replace("tanh(x)", "tanh(d)").replace("sigmoid(x +", "sigmoid(d +")
    return parsed(text, inputs, hidden, ("h",))
