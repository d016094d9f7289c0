"""The losses of floor 7 beside those of the package trl, on the same log-probabilities.

trl has most of them inside the steps of its trainers, where a training calls them. So a step is
called here on a trainer that is none: it has the numbers that the step asks for, its "model" hands
out log-probabilities that were drawn here, and what it would log goes nowhere.
"""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_edu.rlhf import grpo, ppo
from tinygrad_edu.rlhf.dpo import Pairs, dpo, ipo, kto, log_odds, orpo, simpo
from tinygrad_edu.rlhf.reward import bradley_terry, log_sigmoid
from tinygrad_edu.tensor import Tensor

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
dpo_trainer = pytest.importorskip("trl.trainer.dpo_trainer")
kto_trainer = pytest.importorskip("trl.trainer.kto_trainer")
reward_trainer = pytest.importorskip("trl.trainer.reward_trainer")
grpo_trainer = pytest.importorskip("trl.trainer.grpo_trainer")
rloo_trainer = pytest.importorskip("trl.trainer.rloo_trainer")
orpo_trainer = pytest.importorskip("trl.experimental.orpo.orpo_trainer")
cpo_trainer = pytest.importorskip("trl.experimental.cpo.cpo_trainer")

B, T = 4, 6
RANDOM = np.random.default_rng(0)
LENGTHS = np.array([3, 6, 2, 5, 4, 4, 1, 6])       # of the chosen answers, then of the rejected
MASK = (np.arange(T) < LENGTHS[:, None]).astype(float)
OURS, THEIRS = (RANDOM.uniform(-4, -0.1, (2 * B, T)) * MASK for _ in range(2))


def asked(trainer, step, inputs, **numbers):
    """What a trainer's step makes of its inputs, where the trainer is only these numbers."""
    same = SimpleNamespace(device="cpu", num_processes=1, gather=lambda x: x,
                           gather_for_metrics=lambda x: x, reduce=lambda x, reduction: x)
    plain = torch.nn.Identity().eval()
    plain.is_gradient_checkpointing = False
    it = SimpleNamespace(accelerator=same, model=plain,
                         _metrics=defaultdict(lambda: defaultdict(list)), aux_loss_enabled=False,
                         **numbers)
    inputs = {name: torch.as_tensor(array) for name, array in inputs.items()}
    more = (False,) if trainer in (dpo_trainer.DPOTrainer, kto_trainer.KTOTrainer) else ()
    return getattr(trainer, step)(it, numbers.get("of"), inputs, *more)


def a_model(logprobs):
    """What trl asks a model for: log-probabilities that are leaves, and things that it logs."""
    logprobs = torch.tensor(logprobs, requires_grad=True)
    nothing = torch.zeros(logprobs.shape)
    found = SimpleNamespace(log_probs=logprobs, entropy=nothing, mean_logits=nothing,
                            is_top1=nothing.bool())
    return logprobs, lambda **inputs: found


def rows_of(mask):
    """The ids and masks of a batch whose first column is a prompt."""
    ids = np.zeros((len(mask), T + 1), int)
    answers = np.pad(mask, ((0, 0), (1, 0))).astype(int)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "completion_mask": answers}


def pairs(ours=OURS, theirs=THEIRS, lengths=LENGTHS, drift=0.0):
    """The Pairs of log-probabilities (2B, T), and the Tensor that they are sums of."""
    tokens = Tensor(ours, requires_grad=True)
    sums, other = tokens.sum(axis=1), Tensor(theirs.sum(axis=1))
    counts = Tensor(lengths.astype(float))
    return Pairs(sums[:B], sums[B:], other[:B], other[B:], counts[:B], counts[B:], drift), tokens


def must_agree(ours, tokens, theirs, leaf):
    """The losses, and their gradients for every token, within 1e-6."""
    ours.backward()
    theirs.backward()
    assert abs(ours.item() - theirs.item()) <= 1e-6
    assert np.abs(tokens.grad - leaf.grad.numpy()).max() <= 1e-6 and np.abs(tokens.grad).max() > 0


@pytest.mark.parametrize("name, loss", [("sigmoid", dpo), ("ipo", ipo)])
def test_dpo_and_ipo_are_those_of_trl(name, loss):
    lengths = LENGTHS if name == "sigmoid" else np.ones_like(LENGTHS)
    mask = (np.arange(T) < lengths[:, None]).astype(float)  # trl's IPO has means over the tokens of
    ours, theirs = OURS * mask, THEIRS * mask               # an answer: of one they are their sum
    leaf, model = a_model(ours)
    found = asked(dpo_trainer.DPOTrainer, "_compute_loss", rows_of(mask), of=model, beta=0.3,
                  ref_model=a_model(theirs)[1], ld_alpha=None, precompute_ref_logps=False,
                  args=SimpleNamespace(gradient_checkpointing_kwargs=None), loss_types=[name],
                  loss_weights=[1.0], f_divergence_type="reverse_kl", use_weighting=False,
                  _total_train_tokens=0, _tp_size=1)
    some, tokens = pairs(ours, theirs, lengths)
    must_agree(loss(some, 0.3).mean(), tokens, found, leaf)


@pytest.mark.parametrize("drift", [0.7, -0.7])
def test_kto_is_that_of_trl_with_answers_to_other_prompts_as_its_zero(drift):
    leaf, model = a_model(OURS)
    kl = iter((np.full(B, drift), np.zeros(B)))
    found = asked(kto_trainer.KTOTrainer, "_compute_loss",
                  rows_of(MASK) | {"label": np.arange(2 * B) < B}, of=model, beta=0.3,
                  ref_model=a_model(THEIRS)[1], precompute_ref_logps=False, calculate_KL=True,
                  args=SimpleNamespace(gradient_checkpointing_kwargs=None), loss_type="kto",
                  desirable_weight=1.0, undesirable_weight=1.0, _total_train_tokens=0, _tp_size=1,
                  _compute_kl_logps=lambda model, batch: torch.tensor(next(kl)))
    some, tokens = pairs(drift=drift)
    # There the mean is over answers, here the two of a pair are added first.
    must_agree(kto(some, 0.3).mean() * 0.5, tokens, found, leaf)


@pytest.mark.parametrize("margins", [None, np.array([0.5, 0.0, 1.0, 2.0])])
def test_the_loss_of_a_reward_model_is_that_of_trl(margins):
    rewards = torch.tensor(OURS[:, :1], requires_grad=True)
    inputs = {} if margins is None else {"margin": margins}
    found = asked(reward_trainer.RewardTrainer, "compute_loss", inputs,
                  of=lambda **_: SimpleNamespace(logits=rewards),
                  args=SimpleNamespace(center_rewards_coefficient=None), _total_train_tokens=0)
    leaf = Tensor(OURS[:, 0], requires_grad=True)
    ours = bradley_terry(leaf[:B], leaf[B:], 0.0 if margins is None else margins).mean()
    rewards.retain_grad()
    found.backward()
    ours.backward()
    assert abs(ours.item() - found.item()) <= 1e-6
    assert np.abs(leaf.grad - rewards.grad.numpy()[:, 0]).max() <= 1e-6


def test_orpo_is_that_of_trl():
    some, _ = pairs()
    means = [torch.tensor(part.numpy()) for part in some.per_token()]
    side = SimpleNamespace(beta=0.7, accelerator=SimpleNamespace(device="cpu"))
    theirs = orpo_trainer.ORPOTrainer.odds_ratio_loss(side, *means)[0].numpy()
    chosen, rejected = some.per_token()
    ours = orpo(some, 0.7).numpy() + chosen.numpy()          # without −ℓ, which trl adds elsewhere
    assert np.abs(ours + theirs).max() <= 1e-6
    assert np.allclose(log_sigmoid(log_odds(chosen) - log_odds(rejected)).numpy(), theirs / 0.7,
                       atol=1e-6)


def test_simpo_is_that_of_trl():
    some, _ = pairs()
    means = [torch.tensor(part.numpy()) for part in some.per_token()]
    side = SimpleNamespace(beta=2.0, simpo_gamma=0.5, alpha=0.0, label_smoothing=0.0,
                           loss_type="simpo", accelerator=SimpleNamespace(device="cpu"))
    theirs = cpo_trainer.CPOTrainer.cpo_loss(side, *means)[0].numpy()
    assert np.abs(simpo(some, 2.0, 0.5).numpy() - theirs).max() <= 1e-6


# ---- policy gradients ---------------------------------------------------------------------------


def of_policy(trainer, advantages, leaf, **numbers):
    """The loss of a policy in trl, of the answers above; ratios to THEIRS, the old policy."""
    ids = np.zeros((2 * B, T), int)
    inputs = {"prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] + 1, "completion_ids": ids,
              "completion_mask": MASK, "advantages": advantages, "old_per_token_logps": THEIRS,
              "old_logps": OURS.sum(axis=1), "ref_per_token_logps": THEIRS[::-1] * MASK,
              "num_items_in_batch": MASK.sum()}
    both = leaf, torch.zeros(leaf.shape), None
    return asked(trainer, "_compute_loss", inputs, epsilon_low=0.2, use_vllm=False,
                 importance_sampling_level="token", top_entropy_quantile=1.0,
                 max_completion_length=9, off_policy_mask_threshold=None,
                 _entropy_bonus_enabled=False,
                 args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
                 _get_per_token_logps_and_entropies=lambda *args, **more: both, **numbers)


@pytest.mark.parametrize("variant", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.4])
def test_grpo_and_its_children_are_those_of_trl(variant, beta):
    advantages = np.linspace(-1, 2, 2 * B)
    tokens, leaf = Tensor(OURS, requires_grad=True), torch.tensor(OURS, requires_grad=True)
    higher = 0.2 + grpo.VARIANTS[variant].higher
    found = of_policy(grpo_trainer.GRPOTrainer, advantages, leaf, beta=beta, epsilon_high=higher,
                      loss_type=variant)
    settings = grpo.GRPOSettings(variant=variant, max_new=9, kl_weight=beta)
    ours = grpo.grpo_loss(tokens, THEIRS, THEIRS[::-1] * MASK, advantages, MASK, settings)
    must_agree(ours, tokens, found, leaf)


def test_rloo_has_the_gradient_of_trl_where_the_policy_is_the_one_that_answered():
    # Further on trl takes the ratio of whole answers, and we that of tokens.
    advantages = np.linspace(-1, 2, 2 * B)
    tokens, leaf = Tensor(OURS, requires_grad=True), torch.tensor(OURS, requires_grad=True)
    of_policy(rloo_trainer.RLOOTrainer, advantages, leaf, epsilon_high=0.2).backward()
    settings = grpo.GRPOSettings(variant="rloo")
    grpo.grpo_loss(tokens, OURS, None, advantages, MASK, settings).backward()
    assert np.abs(tokens.grad - leaf.grad.numpy()).max() <= 1e-6 and np.abs(tokens.grad).max() > 0


def test_the_clipped_loss_of_ppo_is_that_of_trl():
    advantages = RANDOM.standard_normal((2 * B, T))
    tokens, leaf = Tensor(OURS, requires_grad=True), torch.tensor(OURS, requires_grad=True)
    found = of_policy(grpo_trainer.GRPOTrainer, advantages, leaf, beta=0.0, epsilon_high=0.2,
                      loss_type="bnpo")
    must_agree(ppo.policy_loss(tokens, THEIRS, advantages, MASK, 0.2), tokens, found, leaf)
