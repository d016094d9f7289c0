"""Lesson 7.16 · Actor and critic: a language model that also guesses its reward

Needs gae, layers, logprobs, matmul, module, ppo, tensor. Used by scripts/train_ppo.py,
scripts/break_rlhf.py.

Idea      PPO (lesson ppo) knows actions and values, and nothing of texts. Here the two meet. Every
          token is an action; the place is all that was written before it. The policy is the
          language model itself. The critic guesses at every place of an answer the reward that its
          end will bring: one number from the same stream that makes the logits (shared), or from a
          model of its own (separate), best begun from the reward model, which knows what is good.
Math      logits = h·W_headᵀ     value = u·h + c, of h of the same trunk or of another           (1)
          episode: the tokens of one answer, ended by its last; the reward of a token is (5) of
          lesson ppo                                                                           (2)
Shapes    ids (B, T) · places (B, T − 1): logprobs, values, rewards, mask; place t is about the
          token at t + 1
Pitfalls  The value of place t must be guessed before the token at t + 1 is known: from the stream
          at t. One place later, the critic reads the answer off, explains everything, and the
          advantages are noise.
          Shared, the critic's gradient goes through the policy's trunk: cheaper by a model, and a
          large weight of its loss makes the policy forget how to write.
          The head of values begins at 0: the first advantages are the rewards themselves, not the
          noise of random guesses.
Cost      Separate: twice the parameters, twice the passes. Shared: one matrix of one row more.
Try       build it    a critic that sees the reference's log-probabilities as well.
          break it    read the value at t + 1. What does explained_variance say, and the score?
          measure it  python scripts/train_ppo.py --shared: time, and how far the reward comes
See       Konda, Tsitsiklis 1999 (actor-critic) · Ouyang et al. 2022, appendix C · Ziegler et al.
          2019 (shared trunk)
"""

import numpy as np

from ..nn.layers import Linear
from ..nn.module import Module
from ..ops.matmul import linear
from ..tensor import no_grad
from .gae import advantages_and_returns
from .logprobs import IGNORE
from .ppo import judged, leashed_rewards


class ActorCritic(Module):
    """A policy for lesson ppo, over texts.

    model: the language model, with hidden(ids) -> (B, T, C). head: the matrix (V, C), a Tensor,
    that makes its logits. trunk: another model for the values, or None for a shared one.
    """

    def __init__(self, model, head, trunk=None):
        self.model, self.head, self.trunk = model, head, trunk
        width = (trunk or model).config.width
        self.value = Linear(width, 1, np.random.default_rng(0), dtype=head.dtype)
        self.value.weight.data[...] = 0

    def forward(self, ids):
        """ids (B, T) -> logits (B, T, V) and values (B, T): (1)."""
        h = self.model.hidden(ids)
        other = h if self.trunk is None else self.trunk.hidden(ids)
        return linear(h, self.head), self.value(other).reshape(*ids.shape)

    def judge(self, part):
        """Log-probabilities, entropies and values of the places, Tensors (B, T − 1)."""
        ids, mask = part["ids"], part["mask"]
        logits, values = self(ids[:, :-1])
        return *judged(logits, np.where(mask > 0, ids[:, 1:], IGNORE)), values

    def guesses(self, ids, mask):
        """Values of the places, an array (B, T − 1), 0 outside the mask."""
        with no_grad():
            trunk = self.model if self.trunk is None else self.trunk
            values = self.value(trunk.hidden(ids[:, :-1]))
        return values.numpy()[..., 0] * (mask > 0)

    def critic_state(self):
        """Name -> array of all that is not the language model's own."""
        mine = {id(tensor) for tensor in self.model.parameters()}
        return {name: tensor.data for name, tensor in self.named_parameters()
                if id(tensor) not in mine}


def episodes(written, reference, scores, values, beta, settings):
    """A batch for PPO's `improve`, of answers and what they brought: (2).

    written: a Rollout. reference (B, T − 1): the reference's log-probabilities. scores (B,): the
    rewards of whole answers. values: the critic's guesses. settings: discount and gae_lambda.
    """
    mask = written.mask[:, 1:]
    rewards = leashed_rewards(scores, written.logprobs, reference, mask, beta)
    ends = mask > np.pad(mask, ((0, 0), (0, 1)))[:, 1:]         # counted, and the next is not
    advantages, returns = advantages_and_returns(
        rewards, values, np.zeros(len(mask)), ends, settings.discount, settings.gae_lambda, mask)
    return {"ids": written.ids, "mask": mask, "logprobs": written.logprobs, "values": values,
            "advantages": advantages, "returns": returns}
