"""The mixture of experts: who computes which token, what the router learns, balance."""

import importlib

import model_checks
import numpy as np
import pytest
from model_checks import MIXTURE, states
from small_gpt import assert_same_gradients, gradients, small_batch, small_gpt

from tinygpt import GPT, Tensor, accumulate_gradients, evaluate, no_grad
from tinygpt import functional as F
from tinygpt.rng import Key

LAYERS = 2


def mixture(**options):
    return small_gpt(**{**MIXTURE, **options}).h[0].mlp


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("n_expert", [4, 7])
def test_by_hand(n_expert, k):
    model_checks.mixture(None, n_expert, k)


def test_parameters():
    found = {name: p.shape for name, p in small_gpt(**MIXTURE).named_parameters()}
    assert found["h.0.mlp.router.weight"] == (12, 4)
    for e in range(4):
        assert found[f"h.1.mlp.experts.{e}.c_fc.weight"] == (12, 10)
        assert found[f"h.1.mlp.experts.{e}.c_proj.bias"] == (12,)
    assert not any("mlp.c_fc" in name or "router.bias" in name for name in found)


def test_one_expert_is_a_feed_forward_layer():
    one, dense = mixture(n_expert=1, n_expert_per_token=1), mixture(n_expert=None)
    dense.load_state_dict(one.experts[0].state_dict())
    y, imbalance = one(Tensor(states()), None)
    np.testing.assert_allclose(y.data, dense(Tensor(states()), None).data, rtol=1e-12)
    assert imbalance.item() == 1


def test_no_token_is_dropped_when_all_want_the_same_expert():
    mlp = mixture(n_expert_per_token=1)
    mlp.router.weight.data[...] = 0  # all scores the same: the first expert is taken by all
    y, imbalance = mlp(Tensor(states()), None)
    expected = mlp.experts[0](Tensor(states()), None).data
    np.testing.assert_allclose(y.data, expected, rtol=1e-12)
    y.sum().backward()
    for e, expert in enumerate(mlp.experts):  # who had nothing to do learns nothing
        assert [p.grad.any() for p in expert.parameters()] == [e == 0] * 4


def test_imbalance_is_k_when_all_is_even_and_more_when_it_is_not():
    mlp = mixture()
    mlp.router.weight.data[...] = 0
    assert mlp(Tensor(states()), None)[1].item() == pytest.approx(2)
    mlp.router.weight.data[0, :2] = 1e3
    x = np.abs(states())  # everyone wants the first two, for certain
    assert mlp(Tensor(x), None)[1].item() == pytest.approx(4)


def test_the_router_learns_through_the_gate_alone_where_balance_does_not_count():
    model = small_gpt(**MIXTURE, balance_weight=0.0)
    model.loss(*small_batch()).backward()
    assert all(np.abs(block.mlp.router.weight.grad).max() > 1e-6 for block in model.h)
    assert all(expert.c_fc.weight.grad is not None for expert in model.h[0].mlp.experts)


def test_gradients_of_the_loss(monkeypatch):
    module = importlib.import_module("tinygpt.gradcheck")
    monkeypatch.setattr(module, "EACH_ENTRY", 0)
    monkeypatch.setattr(module, "DIRECTIONS", 2)
    model_checks.mixture_gradients(None, names=None)


def imbalances(model, ids):
    found = []
    model._hidden(ids, imbalances=found)
    return [imbalance.item() for imbalance in found]


def test_the_loss_has_the_balance_where_it_is_learnt_and_not_where_it_is_measured():
    model, plain = (small_gpt(**MIXTURE, balance_weight=weight) for weight in (0.5, 0.0))
    ids, targets = small_batch(ignored=True)
    nats = F.cross_entropy(model(ids), targets).item()
    found = imbalances(model, ids)
    assert len(found) == LAYERS
    expected = nats + 0.5 * np.mean(found)
    assert model.loss(ids, targets).item() == pytest.approx(expected, rel=1e-12)
    assert plain.loss(ids, targets).item() == pytest.approx(nats, rel=1e-12)
    with no_grad():
        assert model.loss(ids, targets).item() == pytest.approx(nats, rel=1e-12)
    assert float(evaluate(model.loss, ids, targets)) == pytest.approx(nats, rel=1e-12)


@pytest.mark.parametrize("pieces", [1, 2, 3, 6])
def test_micro_batches_give_the_mean_of_the_balance_of_the_pieces(pieces):
    """The nats are those of the whole batch; the balance is each piece's own, by its targets."""
    weight = 0.5
    ids, targets = small_batch(shape=(6, 5), ignored=True)
    bounds = [6 * i // pieces for i in range(pieces + 1)]
    parts = [slice(*bound) for bound in zip(bounds, bounds[1:], strict=False)]
    shares = [(targets[part] != -1).sum() / (targets != -1).sum() for part in parts]

    model = small_gpt(**MIXTURE, balance_weight=weight, dropout=0.2)
    loss = float(accumulate_gradients(model.loss, ids, targets, rng=(1, 2), micro_batches=pieces))
    found = gradients(model)

    model.zero_grad()
    expected = F.cross_entropy(model(ids, rng=(1, 2)), targets)
    key = Key((1, 2))
    for part, share in zip(parts, shares, strict=True):
        pieces_own = []
        model._hidden(ids[part], key.part(part.start), imbalances=pieces_own)
        for imbalance in pieces_own:
            expected = expected + imbalance * (share * weight / LAYERS)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    assert_same_gradients(found, gradients(model), 1e-11)


def test_without_balance_micro_batches_are_one_batch():
    ids, targets = small_batch(shape=(6, 5), ignored=True)
    found = []
    for pieces in (1, 4):
        model = small_gpt(**{**MIXTURE, "n_expert": 3}, balance_weight=0.0, dropout=0.2)
        accumulate_gradients(model.loss, ids, targets, rng=3, micro_batches=pieces)
        found.append(gradients(model))
    assert_same_gradients(*found, 1e-11)


def test_remat_changes_no_bit():
    ids, targets = small_batch()
    losses, found = [], []
    for remat in (False, True):
        model = small_gpt(**MIXTURE, remat=remat, dropout=0.3, balance_weight=0.5)
        loss = model.loss(ids, targets, rng=(3, 1))
        loss.backward()
        losses.append(loss.item())
        found.append(gradients(model))
    assert losses[0] == losses[1]
    for name, gradient in found[0].items():
        np.testing.assert_array_equal(gradient, found[1][name], err_msg=name)


def test_a_token_does_not_depend_on_those_after_it_or_in_other_rows():
    """But for rounding: a product over more rows may add in another order."""
    model = small_gpt(**MIXTURE)
    ids, _ = small_batch()
    before = model(ids).data
    np.testing.assert_allclose(model(ids[:1]).data[0], before[0], rtol=1e-10)
    np.testing.assert_allclose(model(ids[:, :3]).data, before[:, :3], rtol=1e-10)


def test_the_cache_changes_nothing():
    model = small_gpt(**MIXTURE, position="rope", window=3, sinks=1, block_size=11)
    unequal = [[1], [2, 3, 4, 5, 6, 7, 8, 9], [4, 4]]
    for prompts, temperature in ((np.arange(6).reshape(2, 3), 0.0), (unequal, 1.0)):
        written = [
            model.generate(prompts, 16, temperature=temperature, rng=5, use_cache=use_cache)
            for use_cache in (True, False)
        ]
        for with_cache, without in zip(*written, strict=True):
            np.testing.assert_array_equal(with_cache, without)


def test_save_and_load(tmp_path):
    model = small_gpt(**MIXTURE)
    model.save(tmp_path)
    ids, _ = small_batch()
    np.testing.assert_array_equal(GPT.load(tmp_path)(ids).data, model(ids).data)


def test_loss_with_balance_of_transformers(tmp_path):
    """With one layer; over several, theirs mixes the layers' tokens."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from huggingface_models import context, make

    theirs = make(
        "mixtral",
        vocab_size=11,
        hidden_size=12,
        intermediate_size=5,
        num_hidden_layers=1,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=7,
        num_local_experts=4,
        num_experts_per_tok=2,
        output_router_logits=True,
        router_aux_loss_coef=0.5,
    )
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    assert ours.config.balance_weight == 0.5
    ids, targets = small_batch()
    with context(theirs):
        output = theirs(torch.tensor(ids), use_cache=False)
        nats = torch.nn.functional.cross_entropy(
            output.logits.flatten(0, 1), torch.tensor(targets).flatten()
        )
        loss = nats + 0.5 * output.aux_loss
        loss.backward()
    found = ours.loss(ids, targets)
    found.backward()
    assert found.item() == pytest.approx(loss.item(), rel=1e-12)
    router = next(p for name, p in theirs.named_parameters() if "mlp.gate" in name)
    np.testing.assert_allclose(ours.h[0].mlp.router.weight.grad, router.grad.T, rtol=1e-9)
