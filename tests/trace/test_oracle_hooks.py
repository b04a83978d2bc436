"""What a trace says of GPT-2's and Llama's shapes is what PyTorch's hooks see, forward and backward."""

import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

import handgrad
from handgrad.trace import scale, zero

torch = pytest.importorskip("torch", reason="needs torch: pip install handgrad[oracles]")
transformers = pytest.importorskip("transformers", reason="needs transformers")

V, TEXT, TARGET = 50, [3, 14, 15, 9, 26, 5], 35
LLAMA = {
    "vocab_size": V, "max_position_embeddings": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "hidden_size": 32, "intermediate_size": 48, "initializer_range": 0.2,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SHAPES = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=V, n_positions=32, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2,
        bos_token_id=None, eos_token_id=None,
    ),
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA, head_dim=12),
}  # fmt: skip
IN_GPT2 = {
    "residual2": "transformer.h.{}", "norm1": "transformer.h.{}.ln_1", "norm2": "transformer.h.{}.ln_2",
    "attention.output": "transformer.h.{}.attn.c_proj", "feed_forward.up": "transformer.h.{}.mlp.c_fc",
    "feed_forward.hidden": "transformer.h.{}.mlp.act", "feed_forward.down": "transformer.h.{}.mlp.c_proj",
}  # fmt: skip
IN_LLAMA = {
    "residual2": "model.layers.{}",
    "norm1": "model.layers.{}.input_layernorm",
    "norm2": "model.layers.{}.post_attention_layernorm",
    "attention.value": "model.layers.{}.self_attn.v_proj",
    "attention.output": "model.layers.{}.self_attn.o_proj",
    "feed_forward.up": "model.layers.{}.mlp.up_proj",
    "feed_forward.gate": "model.layers.{}.mlp.gate_proj",
    "feed_forward.down": "model.layers.{}.mlp.down_proj",
}
AROUND = {
    "gpt2": {"norm": "transformer.ln_f", "logits": "lm_head"},
    "llama": {"norm": "model.norm", "logits": "lm_head"},
}
MIXES = {"gpt2": "transformer.h.1.attn.c_proj", "llama": "model.layers.1.self_attn.o_proj"}
"""What the heads of layer 1 go into."""


@pytest.fixture(autouse=True)
def forgiving_arithmetic(monkeypatch):
    """transformers computes masks that overflow on purpose; this is no test of theirs."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="module", params=SHAPES)
def both(request, tmp_path_factory):
    """A model of transformers, and the same read by us; its family's names."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = SHAPES[request.param]()
    config._attn_implementation = "eager"
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in theirs.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.3)
    with np.errstate(all="ignore"):
        theirs.save_pretrained(folder)
    family = "gpt2" if request.param == "gpt2" else "llama"
    return theirs, handgrad.load(folder), family


def seen(theirs, family):
    """Every named value and its gradient, by hooks."""
    inside = IN_GPT2 if family == "gpt2" else IN_LLAMA
    modules = {
        f"blocks.{layer}.{site}": name.format(layer) for layer in (0, 1) for site, name in inside.items()
    } | AROUND[family]
    tensors = {}

    def keep(site):
        def hook(module, inputs, output):
            tensors[site] = output[0] if isinstance(output, tuple) else output
            tensors[site].retain_grad()

        return hook

    hooks = [theirs.get_submodule(name).register_forward_hook(keep(site)) for site, name in modules.items()]
    output = theirs(torch.tensor([TEXT]), output_attentions=True)
    for layer, probs in enumerate(output.attentions):
        tensors[f"blocks.{layer}.attention.probs"] = probs
        probs.retain_grad()
    loss = -torch.log_softmax(output.logits[0, -1], -1)[TARGET]
    loss.backward()
    for hook in hooks:
        hook.remove()
    return loss.item(), tensors


def close(ours, theirs):
    if ours.ndim == 3 and theirs.ndim == 2:  # heads side by side, as they have them
        ours = ours.swapaxes(0, 1).reshape(theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-5 * max(1.0, np.abs(theirs).max()))


def test_values_and_gradients_are_those_that_hooks_see(both):
    theirs, ours, family = both
    loss, tensors = seen(theirs, family)
    trace = handgrad.trace(ours, TEXT, TARGET)
    assert trace.result == pytest.approx(loss, rel=1e-5)
    assert len(tensors) >= 18
    for site, tensor in tensors.items():
        close(trace[site].value, tensor.detach().numpy()[0])
        close(trace[site].gradient, tensor.grad.numpy()[0])


def test_a_silenced_head_and_a_scaled_gradient_do_what_hooks_do(both):
    theirs, ours, family = both
    width = ours.config.head_width

    def silence(module, inputs):
        changed = inputs[0].clone()
        changed[..., width : 2 * width] = 0.0
        return (changed,)

    def triple(module, inputs, output):
        (output[0] if isinstance(output, tuple) else output).register_hook(lambda gradient: 3 * gradient)

    first = "transformer.h.0" if family == "gpt2" else "model.layers.0"
    hooks = [
        theirs.get_submodule(MIXES[family]).register_forward_pre_hook(silence),
        theirs.get_submodule(first).register_forward_hook(triple),
    ]
    loss, tensors = seen(theirs, family)
    for hook in hooks:
        hook.remove()
    trace = handgrad.trace(
        ours,
        TEXT,
        TARGET,
        edits={"blocks.1.attention.heads": zero(1)},
        gradient_edits={"blocks.0.residual2": scale(3.0)},
    )
    assert trace.result == pytest.approx(loss, rel=1e-5)
    for site in (
        "blocks.0.feed_forward.down",
        "blocks.0.norm1",
        "blocks.1.attention.output",
        "blocks.1.norm2",
    ):
        close(trace[site].gradient, tensors[site].grad.numpy()[0])
