"""The middle floor: search over chromosomes, and the loop that evolves them."""
