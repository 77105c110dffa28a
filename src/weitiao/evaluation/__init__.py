"""Evaluation of a model: generation, answers before and after training, held-out loss, report and model card."""
