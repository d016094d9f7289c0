from types import SimpleNamespace

import numpy as np

from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.rlhf.actor_critic import ActorCritic, episodes
from tinygrad_edu.rlhf.rollout import rollout


def policy_of(shared=False):
    models = [GPT(GPTConfig(7, 10, 1, 2, 8), np.random.default_rng(k), np.float64) for k in (0, 1)]
    policy = ActorCritic(models[0], models[0].wte.weight, None if shared else models[1])
    policy.value.weight.data[...] = np.random.default_rng(2).standard_normal((1, 8))
    return policy


def written_by(policy):
    prompts = [[1], [2, 3], [4, 5, 6]]
    return rollout(policy.model, prompts, 4, [0], np.random.default_rng(3), group=4)


def test_judging_sees_the_log_probabilities_and_entropies_of_the_rollout():
    policy = policy_of()
    written = written_by(policy)
    mask = written.mask[:, 1:]
    logprobs, entropies, values = policy.judge({"ids": written.ids, "mask": mask})
    assert np.abs(logprobs.data - written.logprobs).max() < 1e-12
    assert np.abs((entropies.data - written.entropies) * mask).max() < 1e-12
    assert np.allclose(values.data * mask, policy.guesses(written.ids, mask))


def test_a_value_is_guessed_before_its_token_is_known():
    policy = policy_of()
    ids = np.array([[1, 2, 3, 4, 5]])
    other = ids.copy()
    other[0, 3] = 6
    mask = np.ones((1, 4))
    changed = policy.guesses(ids, mask) != policy.guesses(other, mask)
    assert changed.tolist() == [[False, False, False, True]]  # of place 2 on, only what follows


def test_gradients_reach_both_ends_of_a_shared_trunk():
    for shared in (True, False):
        policy = policy_of(shared)
        ids = np.array([[1, 2, 3, 4]])

        def values(bias, policy=policy, ids=ids):
            policy.model.ln_f.bias = bias
            return policy(ids)[1]
        gradcheck(values, policy.model.ln_f.bias.data.copy())
    policy = policy_of(shared=True)
    assert len(policy.parameters()) == len(policy.model.parameters()) + 2
    assert set(policy_of(True).critic_state()) == {"value.weight", "value.bias"}


def test_an_answer_is_an_episode_whose_return_is_its_score_less_what_distance_costs():
    policy = policy_of()
    written = written_by(policy)
    mask = written.mask[:, 1:]
    values = policy.guesses(written.ids, mask)
    scores = np.arange(12.0)
    reference = (written.logprobs - 0.5) * mask
    settings = SimpleNamespace(discount=1.0, gae_lambda=1.0)
    batch = episodes(written, reference, scores, values, 0.1, settings)
    first = np.argmax(mask > 0, axis=1)
    whole = batch["returns"][np.arange(12), first]
    assert np.allclose(whole, scores - 0.05 * mask.sum(axis=1))
    assert not batch["advantages"][mask == 0].any()
