"""The same model, optimizer and batches in PyTorch, as a worker. The only module that imports it.

    python -m handgrad.benchmark.torch_peer --config-json JSON --batch 16 --precision bfloat16 --compile

It is written as its users would: modules, autograd, fused attention and a fused optimizer, bfloat16 by
autocast.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from handgrad.benchmark import worker, workload
from handgrad.engines.engine import OptimizerSettings
from handgrad.model.config import ModelConfig
from handgrad.model.init import DEVIATION

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ModuleNotFoundError:
    sys.exit("The comparison needs PyTorch: pip install torch")


class Attention(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.queries_keys_values = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.output = nn.Linear(config.d_model, config.d_model, bias=config.bias)

    def forward(self, x: Any) -> Any:
        heads = self.queries_keys_values(x).unflatten(-1, (3, self.n_heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, T, 3, H, K) -> three of (B, H, T, K)
        rate = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        return self.output(y.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        D, F, eps, bias = config.d_model, config.ff_width, config.norm_eps, config.bias
        self.attention = nn.Sequential(nn.LayerNorm(D, eps, bias=bias), Attention(config))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(D, eps, bias=bias),
            nn.Linear(D, F, bias=bias),
            nn.GELU("tanh" if config.activation == "gelu_tanh" else "none"),
            nn.Linear(F, D, bias=bias),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Any) -> Any:
        x = x + self.dropout(self.attention(x))
        return x + self.dropout(self.feed_forward(x))


class LanguageModel(nn.Module):
    """Token ids and targets in, the mean loss out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Parameter(torch.empty(config.context_length, config.d_model))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.n_layers)))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps, bias=config.bias)
        for weight in matrices(self):
            nn.init.normal_(weight, std=DEVIATION)

    def forward(self, token_ids: Any, targets: Any) -> Any:
        x = self.dropout(self.embedding(token_ids) + self.positions[: token_ids.shape[1]])
        logits = functional.linear(self.norm(self.blocks(x)), self.embedding.weight)  # tied
        return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def matrices(model: Any) -> list[Any]:
    return [weight for weight in model.parameters() if weight.ndim >= 2]


def optimizer_of(model: Any, settings: OptimizerSettings) -> Any:
    """AdamW, which decays matrices only."""
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [
        {"params": matrices(model), "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = settings.beta1, settings.beta2
    return torch.optim.AdamW(groups, lr=workload.LEARNING_RATE, betas=betas, fused=True)


class Training:
    """The model in training, called as our engines are."""

    def __init__(
        self,
        config: ModelConfig,
        settings: OptimizerSettings,
        *,
        precision: str,
        compiled: bool,
        device: str = "cpu",
    ):
        torch.manual_seed(workload.SEED)
        self.config, self.settings, self.precision, self.device = config, settings, precision, device
        self.model = LanguageModel(config).to(device)
        self.optimizer = optimizer_of(self.model, settings)
        self.loss_of = torch.compile(self.model) if compiled else self.model

    def step(self, token_ids: np.ndarray, targets: np.ndarray, learning_rate: float) -> float:
        """One step of AdamW on one batch; its loss."""
        return float(self.begin(token_ids, targets, learning_rate))

    def begin(self, token_ids: np.ndarray, targets: np.ndarray, learning_rate: float) -> Any:
        """A step that a GPU may still be computing: its loss is on the device, and who reads it waits."""
        self.model.train()
        with self._narrow():
            loss = self.loss_of(*map(self._on_device, (token_ids, targets)))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def loss(self, token_ids: np.ndarray, targets: np.ndarray) -> float:
        """The batch's mean loss without dropout."""
        self.model.eval()
        with torch.no_grad(), self._narrow():
            return float(self.loss_of(*map(self._on_device, (token_ids, targets))))

    def _on_device(self, ids: np.ndarray) -> Any:
        return torch.from_numpy(ids).to(self.device, non_blocking=True)

    def _narrow(self) -> Any:
        is_narrow = self.precision == "bfloat16"
        return torch.autocast(self.device, torch.bfloat16) if is_narrow else contextlib.nullcontext()


def stepper(config: ModelConfig, *, batch_size: int, precision: str, compiled: bool) -> Callable[[], float]:
    """A function that makes one training step at each call, on the next batch of the workload."""
    training = Training(config, OptimizerSettings(), precision=precision, compiled=compiled)
    batches = workload.batches(config, batch_size)
    return lambda: training.step(*next(batches), workload.LEARNING_RATE)


def main() -> None:
    options = argparse.ArgumentParser(description="The PyTorch side of the comparison.")
    options.add_argument("--config-json", required=True, type=workload.from_json)
    options.add_argument("--batch", required=True, type=int)
    options.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    options.add_argument("--compile", action="store_true")
    given = options.parse_args()
    worker.serve(
        stepper(given.config_json, batch_size=given.batch, precision=given.precision, compiled=given.compile)
    )


if __name__ == "__main__":
    main()
