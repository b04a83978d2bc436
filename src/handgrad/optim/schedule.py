r"""Learning-rate schedules: by which factor the learning rate is multiplied at each step, counted from 0.

All warm up linearly over `warmup_steps`. Then $t$ runs from 0 to 1 over the remaining steps:

$$\text{constant: } 1,\qquad \text{cosine: } m + \tfrac12(1-m)(1+\cos\pi t),\qquad
\text{stable, then decay: } \min\big(1,\ m + (1-m)\tfrac{1-t}{d}\big)$$

$m$ is `final_share`, $d$ is `decay_share`.

Sources: Loshchilov & Hutter (2016), arXiv:1608.03983 (cosine); Hu et al. (2024), arXiv:2404.06395 (warm-up,
stable, decay).
"""

import math
from typing import Literal, get_args

from handgrad.errors import require_known

Schedule = Literal["constant", "cosine", "warmup_stable_decay"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def share(
    step: float,
    *,
    schedule: Schedule,
    steps: int,
    warmup_steps: int = 0,
    final_share: float = 0.1,
    decay_share: float = 0.2,
) -> float:
    """The factor of the learning rate at `step` of `steps`. Raises `UserError` for an unknown schedule."""
    require_known("schedule", schedule, SCHEDULES)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    t = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    if schedule == "cosine":
        return final_share + 0.5 * (1.0 - final_share) * (1.0 + math.cos(math.pi * t))
    if schedule == "warmup_stable_decay" and t > 1.0 - decay_share:
        return final_share + (1.0 - final_share) * (1.0 - t) / decay_share
    return 1.0
