"""Gradient estimators, one file each, and the dict that names them."""

from trainers.gradient.bptt import BPTT
from trainers.gradient.estimator import Estimator
from trainers.gradient.hybrid import Hybrid
from trainers.gradient.rtrl import RTRL
from trainers.gradient.slope import passes, slope

ESTIMATORS: dict[str, type[Estimator]] = {"bptt": BPTT, "rtrl": RTRL, "hybrid": Hybrid}

__all__ = ["BPTT", "ESTIMATORS", "RTRL", "Estimator", "Hybrid", "passes", "slope"]
