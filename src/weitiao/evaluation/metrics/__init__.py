"""Metrics of answers: one file each; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from ._base import Metric

METRICS: Registry[Metric] = Registry(
    "weitiao.evaluation.metrics", "weitiao.evaluation.metrics._base:Metric", "metric"
)
