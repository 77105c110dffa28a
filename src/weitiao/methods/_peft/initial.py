"""How LoRA's two matrices can start: from the weight they adapt (PiSSA, OLoRA) or from the quantisation error (LoftQ).

All three give W ~ W_rest + s B0 A0 with s the adapter's scaling; A is r x in, B is out x r.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Factors = tuple["Tensor", "Tensor"]
"""(B0_out_r, A0_r_in) in fp32, the scaling divided out."""


def pissa(weight_out_in: Tensor, r: int, scaling: float, iterations: int | None = None) -> Factors:
    """Return B0 = U sqrt(S/s), A0 = sqrt(S/s) V^T of the r largest singular values (PiSSA,
    https://arxiv.org/abs/2404.02948).

    With `iterations` a randomised SVD is used, which is much faster and gives nearly the same values.
    """
    if iterations is None:
        u, s, vh = torch.linalg.svd(weight_out_in.float(), full_matrices=False)
        u, s, vh = u[:, :r], s[:r], vh[:r]
    else:
        u, s, v = torch.svd_lowrank(weight_out_in.float(), r, niter=iterations)
        vh = v.T
    root = (s / scaling).sqrt()
    return u * root, root[:, None] * vh


def olora(weight_out_in: Tensor, r: int, scaling: float) -> Factors:
    """Return the first r columns of Q and the first r rows of R of W = QR (OLoRA, https://arxiv.org/abs/2406.01775);
    they are not divided by s."""
    q, upper = torch.linalg.qr(weight_out_in.float())
    return q[:, :r], upper[:r]


def loftq(lost_out_in: Tensor, r: int, scaling: float) -> Factors:
    """Return the best rank-r approximation of the quantisation error W - Q(W) (LoftQ with one iteration,
    https://arxiv.org/abs/2310.08659)."""
    return pissa(lost_out_in, r, scaling)


def changes_base(init: str) -> bool:
    """Return whether an initialisation subtracts B0 A0 from the base's weight."""
    return init == "olora" or init.startswith("pissa")


def factors_from_weight(init: str) -> Callable[[Tensor, int, float], Factors]:
    """Return the function for `pissa`, `pissa_niter_N` or `olora`."""
    if init == "olora":
        return olora
    iterations = re.fullmatch(r"pissa_niter_(\d+)", init)
    return partial(pissa, iterations=int(iterations[1])) if iterations else pissa
