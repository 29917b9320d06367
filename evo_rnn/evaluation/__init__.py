"""Evaluation: engines that run blocks of chromosomes, evaluators that score them, pools of workers that do it apart."""
