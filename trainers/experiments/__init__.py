"""Experiments: configs, trials, races between methods, and what is written down of them."""
