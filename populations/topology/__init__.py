"""Evolution of graphs: what may change in a genome, what a child inherits, and which genomes are the same."""

from populations.topology.canonical import digest, fingerprint, pruned
from populations.topology.inheritance import Change, inherited
from populations.topology.mutations import GROWTH, MUTATIONS, Space

__all__ = ["GROWTH", "MUTATIONS", "Change", "Space", "digest", "fingerprint", "inherited", "pruned"]
