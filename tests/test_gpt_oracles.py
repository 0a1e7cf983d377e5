"""Whole models against PyTorch and transformers, in float64: outputs, gradients, training."""

import numpy as np
import pytest
from small_gpt import (
    SIZES,
    assert_same_gradients,
    gradients,
    relative_error,
    small_batch,
    small_gpt,
)

from tinygpt import SGD, AdamW, Muon, optim
from tinygpt.nn import Parameter

torch = pytest.importorskip("torch", reason="torch is not installed: no outside check of models")

from torch_gpt import TorchGPT, decay_groups, nanogpt_lr  # noqa: E402  (needs torch)


def tensors(*arrays):
    return [torch.tensor(a) for a in arrays]


def torch_gradients(named):
    return {name: p.grad.numpy() for name, p in named.items()}


# ---- a GPT-2 in torch ---------------------------------------------------------------------------


@pytest.fixture
def pair():
    ours = small_gpt()
    return ours, TorchGPT(ours.config, ours.state_dict())


@pytest.mark.parametrize("ignored", [False, True])
def test_loss_and_gradients(pair, ignored):
    ours, theirs = pair
    ids, targets = small_batch(ignored=ignored)
    loss, expected = ours.loss(ids, targets), theirs.loss(*tensors(ids, targets))
    loss.backward()
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-10 * expected.item()
    assert_same_gradients(gradients(ours), torch_gradients(theirs.named()), 1e-10)
    logits = theirs(*tensors(ids)).detach().numpy()
    assert relative_error(ours(ids).data, logits) < 1e-10


def test_ten_steps_of_adamw(pair):
    """With clipping in most steps, decay for matrices alone, and a rate that is never the same."""
    ours, theirs = pair
    options = {"betas": (0.85, 0.97), "eps": 1e-7}
    adamw = AdamW(ours.parameters(), lr=1e-2, weight_decay=0.2, **options)
    expected = torch.optim.AdamW(decay_groups(theirs.parameters(), 0.2), lr=1e-2, **options)
    clipped = 0
    for step in range(10):
        ids, targets = small_batch(seed=step, ignored=step % 2 == 1)
        loss = ours.loss(ids, targets)
        loss.backward()
        norm = adamw.clip_grad_norm(6.0)
        adamw.step(optim.warmup_cosine(step, steps=10, warmup=3, final=0.1))
        adamw.zero_grad()

        expected.zero_grad()
        expected_loss = theirs.loss(*tensors(ids, targets))
        expected_loss.backward()
        expected_norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 6.0)
        for group in expected.param_groups:
            group["lr"] = nanogpt_lr(step, 1e-2, 1e-3, warmup=3, steps=10)
        expected.step()

        assert abs(loss.item() - expected_loss.item()) < 1e-9 * expected_loss.item()
        assert abs(norm - expected_norm.item()) < 1e-9 * expected_norm.item()
        clipped += norm > 6.0
    assert 0 < clipped < 10
    weights = {name: p.detach().numpy() for name, p in theirs.named().items()}
    assert_same_gradients(ours.state_dict(), weights, 1e-9)


# ---- optimizers ---------------------------------------------------------------------------------


def matrix_and_vector():
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((3, 4)), rng.standard_normal(5)
    ours = [Parameter(a.copy()) for a in arrays]
    return ours, [torch.nn.Parameter(t) for t in tensors(*arrays)]


def train_both(optimizer, ours, expected, theirs, steps=10):
    rng = np.random.default_rng(1)
    for _ in range(steps):
        for p, q in zip(ours, theirs, strict=True):
            p.grad[...] = rng.standard_normal(p.shape)
            q.grad = torch.tensor(p.grad)
        optimizer.step()
        expected.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_sgd(momentum, weight_decay):
    ours, theirs = matrix_and_vector()
    sgd = SGD(ours, lr=0.1, momentum=momentum, weight_decay=weight_decay)
    groups = decay_groups(theirs, weight_decay)
    train_both(sgd, ours, torch.optim.SGD(groups, lr=0.1, momentum=momentum), theirs)
    for p, q in zip(ours, theirs, strict=True):
        assert relative_error(p.data, q.detach().numpy()) < 1e-12


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare")
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_muon(shape):
    """torch stores weights (out, in), and orthogonalises in bfloat16."""
    w = np.random.default_rng(0).standard_normal(shape)
    ours, theirs = Parameter(w.copy()), torch.nn.Parameter(torch.tensor(w.T.copy()))
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    muon, expected = Muon([ours], **options), torch.optim.Muon([theirs], **options)
    rng = np.random.default_rng(1)
    for _ in range(5):
        ours.grad[...] = rng.standard_normal(shape)
        theirs.grad = torch.tensor(ours.grad.T.copy())
        muon.step()
        expected.step()
    moved = ours.data - w
    assert relative_error(moved, theirs.detach().numpy().T - w) < 0.03


# ---- transformers -------------------------------------------------------------------------------


def load(theirs, state):
    """Copy `state`, {their name: array}, into their model; nothing may be left over."""
    named = dict(theirs.named_parameters())
    assert set(named) == set(state)
    with torch.no_grad():
        for name, array in state.items():
            assert named[name].shape == array.shape
            named[name].copy_(torch.tensor(array))


def loss_of(theirs, ids, targets):
    logits = theirs(torch.tensor(ids)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
    return logits.detach().numpy(), loss


def assert_same_logits_and_loss(ours, theirs, ids, targets):
    """Both go forward and backward, so that afterwards their gradients can be compared too."""
    expected_logits, expected = loss_of(theirs, ids, targets)
    expected.backward()
    loss = ours.loss(ids, targets)
    loss.backward()
    assert relative_error(ours(ids).data, expected_logits) < 1e-10
    assert abs(loss.item() - expected.item()) < 1e-10 * expected.item()


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed")


def test_gpt2_of_transformers(transformers):
    """Their names are ours after "transformer.", and their Conv1D is stored (in, out) as ours."""
    ours = small_gpt()
    config = transformers.GPT2Config(
        vocab_size=SIZES["vocab_size"],
        n_positions=SIZES["block_size"],
        n_embd=SIZES["n_embd"],
        n_layer=SIZES["n_layer"],
        n_head=SIZES["n_head"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = transformers.GPT2LMHeadModel(config).double()
    load(theirs, {f"transformer.{name}": a for name, a in ours.state_dict().items()})

    ids, targets = small_batch()
    assert_same_logits_and_loss(ours, theirs, ids, targets)
    named = {n.removeprefix("transformer."): p for n, p in theirs.named_parameters()}
    assert_same_gradients(gradients(ours), torch_gradients(named), 1e-10)


def as_llama(ours, arrays):
    """Our weights (or gradients) by Llama's names, in its layout: (out, in), nothing packed."""
    config = ours.config
    C, kv, inner = config.n_embd, config.kv_heads * config.head_size, config.inner_size
    state = {
        "model.embed_tokens.weight": arrays["wte.weight"],
        "model.norm.weight": arrays["ln_f.weight"],
        "lm_head.weight": arrays["lm_head.weight"],
    }
    for layer in range(config.n_layer):
        h, theirs = f"h.{layer}", f"model.layers.{layer}"
        q, k, v = np.split(arrays[f"{h}.attn.c_attn.weight"], [C, C + kv], axis=1)
        gate, up = np.split(arrays[f"{h}.mlp.c_fc.weight"], [inner], axis=1)
        state |= {
            f"{theirs}.input_layernorm.weight": arrays[f"{h}.ln_1.weight"],
            f"{theirs}.self_attn.q_proj.weight": q.T,
            f"{theirs}.self_attn.k_proj.weight": k.T,
            f"{theirs}.self_attn.v_proj.weight": v.T,
            f"{theirs}.self_attn.o_proj.weight": arrays[f"{h}.attn.c_proj.weight"].T,
            f"{theirs}.post_attention_layernorm.weight": arrays[f"{h}.ln_2.weight"],
            f"{theirs}.mlp.gate_proj.weight": gate.T,
            f"{theirs}.mlp.up_proj.weight": up.T,
            f"{theirs}.mlp.down_proj.weight": arrays[f"{h}.mlp.c_proj.weight"].T,
        }
    return state


def in_float64(transformers, monkeypatch):
    """Llama's norm and its angles are float32 there, whatever the model is; here they are not."""
    llama = transformers.models.llama.modeling_llama

    def norm(self, x):
        return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)

    def angles(self, x, position_ids):
        D = self.config.hidden_size // self.config.num_attention_heads
        frequencies = 100.0 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
        half = position_ids[..., None] * frequencies
        both = torch.cat([half, half], dim=-1)
        return both.cos(), both.sin()

    monkeypatch.setattr(llama.LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(llama.LlamaRotaryEmbedding, "forward", angles)


@pytest.mark.parametrize("n_kv_head", [1, 2, 4])
def test_llama_of_transformers(transformers, n_kv_head, monkeypatch):
    """rope, rms_norm, swiglu, grouped queries, no biases, a head of its own."""
    ours = small_gpt(
        n_head=4,
        n_embd=24,
        n_kv_head=n_kv_head,
        n_inner=10,
        position="rope",
        rope_base=100.0,
        norm="rms_norm",
        activation="swiglu",
        bias=False,
        tie_weights=False,
    )
    config = transformers.LlamaConfig(
        vocab_size=SIZES["vocab_size"],
        max_position_embeddings=SIZES["block_size"],
        hidden_size=24,
        intermediate_size=10,
        num_hidden_layers=SIZES["n_layer"],
        num_attention_heads=4,
        num_key_value_heads=n_kv_head,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = transformers.LlamaForCausalLM(config).double()
    load(theirs, as_llama(ours, ours.state_dict()))

    ids, targets = small_batch()
    assert relative_error(ours(ids).data, loss_of(theirs, ids, targets)[0]) < 1e-5
    in_float64(transformers, monkeypatch)
    assert_same_logits_and_loss(ours, theirs, ids, targets)
    found = as_llama(ours, gradients(ours))
    assert_same_gradients(found, torch_gradients(dict(theirs.named_parameters())), 1e-10)
