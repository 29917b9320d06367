"""Recurrent cells, one file a family, and the dict that names them."""

from evo_rnn.cells.cell import Cell
from evo_rnn.cells.ctrnn import CTRNN
from evo_rnn.cells.elman import Elman
from evo_rnn.cells.frnn import FRNN
from evo_rnn.cells.graph import Edge, Graph, Node
from evo_rnn.cells.gru import GRU
from evo_rnn.cells.indrnn import IndRNN
from evo_rnn.cells.lstm import LSTM
from evo_rnn.cells.memory_blocks import MemoryBlocks
from evo_rnn.cells.second_order import SecondOrder
from evo_rnn.cells.stack import Stack

CELLS = {
    "elman": Elman,
    "frnn": FRNN,
    "lstm": LSTM,
    "gru": GRU,
    "indrnn": IndRNN,
    "second_order": SecondOrder,
    "ctrnn": CTRNN,
    "memory_blocks": MemoryBlocks,
}

__all__ = [
    "CELLS",
    "CTRNN",
    "FRNN",
    "GRU",
    "LSTM",
    "Cell",
    "Edge",
    "Elman",
    "Graph",
    "IndRNN",
    "MemoryBlocks",
    "Node",
    "SecondOrder",
    "Stack",
]
