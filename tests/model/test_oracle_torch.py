"""The presets against PyTorch and transformers: loss and every gradient, in float64, to 1e-9."""

import numpy as np
import pytest

from handgrad import tree
from handgrad.api import loss_and_gradients
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.ops import sinusoidal_position

torch = pytest.importorskip("torch", reason="needs torch: pip install handgrad[oracles]")
transformers = pytest.importorskip("transformers", reason="needs transformers")

TOLERANCE = 1e-9
V, T, L, D, H, F = 13, 7, 2, 16, 4, 24
SMALL = {
    "vocab_size": V, "context_length": T, "n_layers": L, "n_heads": H, "d_model": D, "d_ff": F,
    "dropout": 0.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def forgiving_arithmetic():
    """transformers computes masks that overflow on purpose; this is no test of theirs."""
    with np.errstate(all="ignore"):
        yield


def drawn(config, rng):
    weights = tree.map(lambda w: w + 0.2 * rng.normal(size=w.shape), init(config, rng, np.float64))
    token_ids, targets = rng.integers(V, size=(2, 3, T))
    return weights, token_ids, targets


def compare(config, weights, token_ids, targets, model, forward, places):
    """`places` maps our names to (torch parameter, how its gradient is laid out as ours)."""
    logits = forward(torch.tensor(token_ids))
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.tensor(targets).reshape(-1))
    loss.backward()
    ours, gradients = loss_and_gradients(config, weights, token_ids, targets)
    assert abs(ours - loss.item()) < TOLERANCE
    assert set(places) == set(gradients)
    for name, (parameter, as_ours) in places.items():
        expected = as_ours(parameter.grad.numpy())
        np.testing.assert_allclose(gradients[name], expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


def same(gradient):
    return gradient


def transposed(gradient):
    return gradient.T


def columns(first, n):
    return lambda gradient: gradient[..., first : first + n]


def rows(first, n):
    return lambda gradient: (
        gradient[first : first + n].T if gradient.ndim == 2 else gradient[first : first + n]
    )


@pytest.mark.parametrize("name", ["gpt2", "nano", "baby"])
def test_gpt2_nano_and_baby_are_gpt2_of_transformers(name, rng):
    config = PRESETS[name].replace(**SMALL)
    weights, token_ids, targets = drawn(config, rng)
    activation = {"gelu": "gelu", "gelu_tanh": "gelu_new"}[config.activation]
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=V,
            n_positions=T,
            n_embd=D,
            n_layer=L,
            n_head=H,
            n_inner=F,
            activation_function=activation,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).double()
    gpt = model.transformer
    places = {"embedding": (gpt.wte.weight, same), "positions": (gpt.wpe.weight, same)}

    def put(ours, module, parts=("weight", "bias"), cut=same):
        names = dict(zip(parts, ("weight", "bias"), strict=True))
        for part, theirs in names.items():
            if part in ("weight", "gamma") or config.bias:
                places[f"{ours}.{part}"] = (getattr(module, theirs), cut)

    for i, block in enumerate(gpt.h):
        put(f"blocks.{i}.norm1", block.ln_1, ("gamma", "beta"))
        put(f"blocks.{i}.norm2", block.ln_2, ("gamma", "beta"))
        for j, part in enumerate(("query", "key", "value")):
            put(f"blocks.{i}.attention.{part}", block.attn.c_attn, cut=columns(j * D, D))
        put(f"blocks.{i}.attention.output", block.attn.c_proj)
        put(f"blocks.{i}.feed_forward.up", block.mlp.c_fc)
        put(f"blocks.{i}.feed_forward.down", block.mlp.c_proj)
    put("norm", gpt.ln_f, ("gamma", "beta"))

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # what our presets lack, biases, is zero there
        for name_, array in tree.named_leaves(weights):
            parameter, cut = places[name_]
            cut(parameter.numpy())[...] = array
    compare(config, weights, token_ids, targets, model, lambda ids: model(ids).logits, places)


def exact_norm(config):
    return torch.nn.RMSNorm(D, eps=config.norm_eps).double()


def test_llama_is_llama_of_transformers(rng):
    config = PRESETS["llama"].replace(**{**SMALL, "n_kv_heads": 2})
    weights, token_ids, targets = drawn(config, rng)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=V,
            hidden_size=D,
            intermediate_size=F,
            num_hidden_layers=L,
            num_attention_heads=H,
            num_key_value_heads=2,
            max_position_embeddings=T,
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=True,
            attention_bias=False,
            mlp_bias=False,
            rope_theta=config.rope_base,
        )
    ).double()

    # transformers computes norms and angles in float32 whatever the model's type; here they must be exact
    for layer in model.model.layers:
        layer.input_layernorm, layer.post_attention_layernorm = exact_norm(config), exact_norm(config)
    model.model.norm = exact_norm(config)
    angle = torch.arange(T)[:, None] / config.rope_base ** (
        torch.arange(0, config.head_width, 2).double() / config.head_width
    )
    angle = torch.cat([angle, angle], dim=-1)[None].double()
    model.model.rotary_emb.forward = lambda *_, **__: (angle.cos(), angle.sin())

    def halves_to_pairs(n_heads):
        """transformers turns component i with i + K/2; we turn neighbours: the same in another order."""
        K = config.head_width
        order = np.concatenate([h * K + np.arange(K).reshape(2, K // 2).T.ravel() for h in range(n_heads)])
        return lambda array: array[order].T

    places = {
        "embedding": (model.model.embed_tokens.weight, same),
        "norm.gamma": (model.model.norm.weight, same),
    }
    for i, layer in enumerate(model.model.layers):
        ours = f"blocks.{i}"
        places |= {
            f"{ours}.norm1.gamma": (layer.input_layernorm.weight, same),
            f"{ours}.norm2.gamma": (layer.post_attention_layernorm.weight, same),
            f"{ours}.attention.query.weight": (layer.self_attn.q_proj.weight, halves_to_pairs(H)),
            f"{ours}.attention.key.weight": (layer.self_attn.k_proj.weight, halves_to_pairs(2)),
            f"{ours}.attention.value.weight": (layer.self_attn.v_proj.weight, transposed),
            f"{ours}.attention.output.weight": (layer.self_attn.o_proj.weight, transposed),
            f"{ours}.feed_forward.up.weight": (layer.mlp.up_proj.weight, transposed),
            f"{ours}.feed_forward.down.weight": (layer.mlp.down_proj.weight, transposed),
            f"{ours}.feed_forward.gate.weight": (layer.mlp.gate_proj.weight, transposed),
        }
    with torch.no_grad():
        for name, array in tree.named_leaves(weights):
            parameter, as_ours = places[name]
            # as_ours moves numbers; its inverse is found by moving their places
            index = as_ours(np.arange(parameter.numel()).reshape(parameter.shape))
            flat = np.empty(parameter.numel())
            flat[index.ravel()] = array.ravel()
            parameter.copy_(torch.tensor(flat.reshape(parameter.shape)))
    compare(config, weights, token_ids, targets, model, lambda ids: model(ids).logits, places)


def test_paper_is_the_transformer_encoder_of_torch_with_a_causal_mask(rng):
    config = PRESETS["paper"].replace(**SMALL)
    weights, token_ids, targets = drawn(config, rng)
    layer = torch.nn.TransformerEncoderLayer(D, H, F, dropout=0.0, activation="relu", batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, L, enable_nested_tensor=False).double()
    table = torch.nn.Parameter(torch.tensor(weights.embedding))
    places = {"embedding": (table, same)}
    for i, block in enumerate(encoder.layers):
        ours = f"blocks.{i}"
        for j, part in enumerate(("query", "key", "value")):
            places[f"{ours}.attention.{part}.weight"] = (block.self_attn.in_proj_weight, rows(j * D, D))
            places[f"{ours}.attention.{part}.bias"] = (block.self_attn.in_proj_bias, rows(j * D, D))
        for part, module in (
            ("attention.output", block.self_attn.out_proj),
            ("feed_forward.up", block.linear1),
            ("feed_forward.down", block.linear2),
        ):
            places[f"{ours}.{part}.weight"] = (module.weight, transposed)
            places[f"{ours}.{part}.bias"] = (module.bias, same)
        for part, module in (("norm1", block.norm1), ("norm2", block.norm2)):
            places[f"{ours}.{part}.gamma"] = (module.weight, same)
            places[f"{ours}.{part}.beta"] = (module.bias, same)
    with torch.no_grad():
        for name, array in tree.named_leaves(weights):
            parameter, as_ours = places[name]
            as_ours(parameter.numpy())[...] = array

    def forward(ids):
        x = table[ids] * D**0.5 + torch.tensor(sinusoidal_position.table(T, D))
        mask = torch.nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
        return encoder(x, mask=mask, is_causal=True) @ table.T

    compare(config, weights, token_ids, targets, encoder, forward, places)
