"""Lesson 7.5 · DPO, and what IPO, KTO, ORPO and SimPO do otherwise

Needs logprobs, module, reward, sft, tensor. Used by scripts/train_dpo.py.

Idea      Learning a reward and then climbing it takes two models and a search. But the best policy
          for a given reward, kept near a reference, has a closed form; turned round, it says which
          reward a policy is the best one for: β times the logarithm of how much likelier it finds
          an answer than the reference does. Put that reward into the reward model's loss, and a
          policy is trained on pairs directly, with the loss of a classifier and no sampling. The
          others that stand here keep the frame and change one line each.
Math      reward   r = β·(ln π(y|x) − ln π_ref(y|x))                                            (1)
          DPO      −ln σ(r_c − r_r)                              the reward model's loss        (2)
          IPO      (h − 1/(2β))²,  h = (r_c − r_r)/β             stop at a margin               (3)
          KTO      λ_c·(1 − σ(r_c − z)) + λ_r·(1 − σ(z − r_r))   each answer by itself;
                   z = max(0, β·mean KL), from answers to other prompts, without gradient       (4)
          ORPO     −ℓ_c − λ·ln σ(odds_c − odds_r)                no reference: it fine-tunes, too
                   ℓ = ln π(y|x)/|y|,  odds = ℓ − ln(1 − e^ℓ),  |y| the tokens of y             (5)
          SimPO    −ln σ(β·(ℓ_c − ℓ_r) − γ)                      no reference, mean per token   (6)
          with c for the chosen answer and r, as an index, for the rejected one; β, λ, γ are chosen
Shapes    a batch of B pairs, the chosen rows first: ids, mask (2B, T); for KTO (3B, T): last, each
          prompt followed by the chosen answer of the next pair · all of (1) to (6) on (B,)
Pitfalls  (2) looks at differences only. Both answers may become less likely, as long as the
          rejected one does so faster; watch ln π of the chosen answers (`chosen` in the metrics).
          Where all rejected answers have the same mistake, a third answer takes what both lose:
          after scripts/train_dpo.py --rejected own the policy's own reward was right about 99 % of
          held-out pairs, and its answers to none of the sums, 9 % before. Pairs with many kinds of
          mistakes leave no such way out, and so does a loss that stops, as (3).
          β is how hard it is to leave the reference: 0.1 moves far, 0.5 little.
          Where all pairs agree, (2) never stops: σ → 1 needs h → ∞. (3) is content with 1/(2β).
          In (1) the reference is the model that the training began with. Another one, or one with
          another tokenizer, makes the first loss of (2) anything but ln 2: for DPO that is
          checked.
          Sums of logarithms favour short answers, (5) and (6) therefore divide by the length.
          TRL takes the mean per token in (3), too; here it is the sum, as the paper has it.
Cost      Four rows for a pair: two by the policy, with gradient, two by the reference, without.
          KTO reads six; ORPO and SimPO two, having no reference.
Try       build it    a variant that adds −ℓ_c to (2), against the first pitfall.
          break it    exchange chosen and rejected in (2). Which tests notice?
          measure it  python scripts/train_dpo.py --rejected own, and with --loss ipo --steps 60
                      --lr 5e-4: look at the third panel of both pictures
See       Rafailov et al. 2023, eq. 7 · Azar et al. 2023, eq. 17 · Ethayarajh et al. 2024, eq. 8 ·
          Hong et al. 2024, eq. 6-7 · Meng et al. 2024, eq. 6
"""

import math
from typing import NamedTuple

import numpy as np

from ..nn.module import Module
from ..tensor import Tensor, no_grad
from .logprobs import answer_lengths, answer_logprob_sums, frozen_logprobs
from .reward import PairBatch, bradley_terry, log_sigmoid, pair_batch, preference_numbers
from .sft import examples_of_step, padded


class Pairs(NamedTuple):
    """What the losses know of B pairs: ln π and ln π_ref of both answers, their lengths, (B,)."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    length_chosen: Tensor
    length_rejected: Tensor
    drift: float = 0.0  # mean of ln π − ln π_ref over answers to other prompts: KTO alone

    def log_ratios(self):
        """ln π/π_ref of the chosen and of the rejected answers: (1) without β."""
        return self.chosen - self.reference_chosen, self.rejected - self.reference_rejected

    def per_token(self):
        """ℓ of (5) of the chosen and of the rejected answers."""
        return self.chosen / self.length_chosen, self.rejected / self.length_rejected


# ---- the losses, of every pair ------------------------------------------------------------------


def dpo(pairs, beta):
    """(2)"""
    chosen, rejected = pairs.log_ratios()
    return bradley_terry(beta * chosen, beta * rejected)


def ipo(pairs, beta):
    """(3)"""
    chosen, rejected = pairs.log_ratios()
    return (chosen - rejected - 1 / (2 * beta)).square()


def kto(pairs, beta, weight_chosen=1.0, weight_rejected=1.0):
    """(4); the weights make up for unequal numbers of good and bad answers."""
    chosen, rejected = pairs.log_ratios()
    z = beta * max(0.0, pairs.drift)
    liked = weight_chosen * (1 - (beta * chosen - z).sigmoid())
    return liked + weight_rejected * (1 - (z - beta * rejected).sigmoid())


def orpo(pairs, beta):
    """(5); beta is its λ."""
    chosen, rejected = pairs.per_token()
    return -chosen - beta * log_sigmoid(log_odds(chosen) - log_odds(rejected))


def simpo(pairs, beta, gamma=0.5):
    """(6)"""
    chosen, rejected = pairs.per_token()
    return -log_sigmoid(beta * (chosen - rejected) - gamma)


def log_odds(log_p):
    """ln(p/(1 − p)) of ln p < 0."""
    return log_p - (1 - log_p.exp()).log()


class Loss(NamedTuple):
    """A loss, a β that suits it, whether it looks at a reference, and a rate for small models."""

    of: object
    beta: float
    reference: bool
    rate: float = 1e-3  # of Muon


LOSSES = {
    "dpo": Loss(dpo, 0.1, True),
    "ipo": Loss(ipo, 0.1, True),
    "kto": Loss(kto, 0.1, True),
    "orpo": Loss(orpo, 0.5, False),
    "simpo": Loss(simpo, 2.0, False, 2e-4),
}


# ---- a policy that is trained with one of them --------------------------------------------------


def with_other_prompts(pairs):
    """Rows of the prompt of each pair, followed by the chosen answer of the next pair."""
    found = []
    for (ids, mask), ((other, answer), _) in zip((pair[0] for pair in pairs),
                                                 [*pairs[1:], pairs[0]], strict=True):
        begin, start = int(np.argmax(mask)), int(np.argmax(answer))
        both = np.concatenate([ids[:begin], other[start:]])
        counts = np.concatenate([mask[:begin], answer[start:]])
        found.append((both, counts))
    return found


def preference_batch(pairs, kind, context, size, seed, step):
    """The batch of a step as the loop takes it: (PairBatch, mask). KTO's has a third part."""
    some = [pairs[k] for k in examples_of_step(len(pairs), size, seed, step)]
    if kind == "kto":
        other = [(ids[:context], mask[:context]) for ids, mask in with_other_prompts(some)]
        chosen, rejected = zip(*some, strict=True)
        ids, mask = padded([*chosen, *rejected, *other])
        batch = PairBatch(ids, mask, np.zeros(size))
    else:
        batch = pair_batch(some)
    return batch, batch.mask


class PreferenceTraining(Module):
    """A policy and a loss of LOSSES, as the loop of lesson loop takes a model.

    reference: the model that does not move, None for a loss without one. It is no part of this
    module: neither trained nor saved.
    """

    def __init__(self, policy, kind, reference=None, **options):
        self.policy, self.kind = policy, kind
        self.options = {"beta": LOSSES[kind].beta} | options
        if LOSSES[kind].reference and reference is None:
            raise ValueError(f"{kind} compares the policy with a reference model: give one")
        if reference is not None and reference.config.vocabulary != policy.config.vocabulary:
            raise ValueError(f"the reference has a vocabulary of {reference.config.vocabulary} "
                             f"tokens, the policy one of {policy.config.vocabulary}: they were "
                             "made with different tokenizers, and their probabilities do not "
                             "compare")
        self.reference_logprobs = lambda *row: frozen_logprobs(reference, *row)

    def loss(self, batch, mask, reduction="mean"):
        """The mean loss over the pairs of a batch."""
        return LOSSES[self.kind].of(self.pairs(batch), **self.options).mean()

    def pairs(self, batch):
        """The Pairs of a batch; notes in `last` what one watches."""
        B = len(batch.margins)
        ours = answer_logprob_sums(self.policy, batch.ids[:2 * B], batch.mask[:2 * B])
        lengths = answer_lengths(batch.mask).astype(ours.dtype)
        theirs, drift = np.zeros(2 * B, ours.dtype), 0.0
        if LOSSES[self.kind].reference:
            sums = self.reference_logprobs(batch.ids, batch.mask).data.sum(axis=1)
            theirs = sums[:2 * B]
            if len(sums) > 2 * B:                  # KTO's third part
                rest = batch.ids[2 * B:], batch.mask[2 * B:]
                now = frozen_logprobs(self.policy, *rest).data.sum(axis=1)
                drift = float((now - sums[2 * B:]).mean())
        found = Pairs(ours[:B], ours[B:], Tensor(theirs[:B]), Tensor(theirs[B:]),
                      Tensor(lengths[:B]), Tensor(lengths[B:2 * B]), drift)
        self.last = preference_numbers(implicit_differences(found, self.kind, self.options["beta"]))
        self.last |= {"chosen": float(found.chosen.data.mean()),
                      "rejected": float(found.rejected.data.mean())}
        return found


def implicit_differences(pairs, kind, beta):
    """r_c − r_r by the reward that a loss has in mind, (B,): (1), or β·ℓ without a reference."""
    parts = pairs.log_ratios() if LOSSES[kind].reference else pairs.per_token()
    chosen, rejected = (part.data for part in parts)
    return beta * (chosen - rejected)


def must_begin_at_the_reference(loss, kind):
    """ValueError where the first loss of (2) is not ln 2: the policy is not the reference."""
    if kind == "dpo" and abs(loss - math.log(2)) > 1e-3:
        raise ValueError(f"the first loss is {loss:.4f} and not ln 2: the reference is not the "
                         "model that training begins with; give the run folder it began with")


def implicit_pairs(model, pairs, size=64):
    """`implicit_differences`, (n,), of pairs of rows: what a PreferenceTraining prefers by now."""
    was_training = model.training
    model.eval()
    found = []
    try:
        with no_grad():
            for low in range(0, len(pairs), size):
                numbers = model.pairs(pair_batch(pairs[low:low + size]))
                found.append(implicit_differences(numbers, model.kind, model.options["beta"]))
    finally:
        model.train(was_training)
    return np.concatenate(found)
