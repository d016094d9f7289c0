import numpy as np
import pytest

from harness import check_gradient
from tinygrad_edu.models.gpt import GPT, SIZES, GPTConfig, from_published
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.layers import Dropout, set_dropout_key
from tinygrad_edu.nn.module import recording

TINY = {"vocabulary": 11, "context": 6, "layers": 2, "heads": 2, "width": 8}


def model_of(dtype=np.float64, seed=0, **changes):
    return GPT(GPTConfig(**(TINY | changes)), np.random.default_rng(seed), dtype)


def ids_and_targets(config, B=3, seed=1):
    ids = np.random.default_rng(seed).integers(0, config.vocabulary, (B, config.context + 1))
    return ids[:, :-1], ids[:, 1:]


def test_parameters_have_the_names_of_the_published_weights():
    names = [name for name, _ in model_of().named_parameters()]
    block = [f"{layer}.{kind}" for layer in (
        "ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
        for kind in ("weight", "bias")]
    expected = ["wte.weight", "wpe.weight", *(f"h.{i}.{name}" for i in range(2) for name in block),
                "ln_f.weight", "ln_f.bias"]
    assert sorted(names) == sorted(expected)


def test_the_gpt2_size_has_the_124_million_parameters_of_the_published_model():
    sizes = SIZES["gpt2"]
    assert GPTConfig(50257, **sizes).parameter_count() == 124_439_808


@pytest.mark.parametrize("changes", [{}, {"layers": 1, "width": 6, "heads": 3}])
def test_the_counted_parameters_are_the_ones_of_the_model(changes):
    model = model_of(**changes)
    assert model.parameter_count() == model.config.parameter_count()


def test_the_operations_of_a_token_are_six_a_weight_and_attention_to_half_the_context():
    model = model_of()
    weights = sum(tensor.size for name, tensor in model.named_parameters()
                  if tensor.ndim == 2 and name != "wpe.weight")
    seen = model.config.context / 2                 # positions, each with a score and a value
    attention = 3 * model.config.layers * seen * 2 * 2 * model.config.width
    assert model.config.operations_per_token() == 6 * weights + attention


def test_the_loss_of_fresh_weights_is_that_of_guessing():
    model = model_of()
    assert abs(model.loss(*ids_and_targets(model.config)).item() - np.log(11)) < 0.05


def test_the_gradient_of_the_whole_model_matches_finite_differences():
    model = model_of(layers=1)
    for tensor in model.parameters():
        if tensor.ndim == 2:
            tensor.assign(tensor.data * 10)  # so that attention is not near to an average
    ids, targets = ids_and_targets(model.config, B=2)
    tensors = model.parameters()
    names = [name for name, _ in model.named_parameters()]

    def loss_of(*given):
        for name, tensor in zip(names, given, strict=True):
            path, _, last = name.rpartition(".")
            setattr(model.find(path), last, tensor)
        return model.loss(ids, targets)
    check_gradient(loss_of, *[tensor.data.copy() for tensor in tensors])


def test_logits_and_loss_agree():
    model = model_of()
    ids, targets = ids_and_targets(model.config)
    logits = model(ids).data
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_p, targets[..., None], axis=-1)
    assert np.isclose(model.loss(ids, targets).item(), -picked.mean())
    assert np.allclose(model.next_logits(ids).data, logits[:, -1])


def test_a_position_sees_nothing_that_comes_after_it():
    model = model_of()
    ids, _ = ids_and_targets(model.config)
    changed = ids.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % 11
    assert np.array_equal(model(ids).data[:, :4], model(changed).data[:, :4])
    assert not np.allclose(model(ids).data[:, 4:], model(changed).data[:, 4:])


def test_a_sequence_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="7 tokens does not fit this model's context of 6"):
        model_of()(np.zeros((1, 7), np.int64))


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="not a multiple of heads"):
        GPTConfig(11, width=10, heads=3)


def test_one_batch_can_be_learnt_by_heart():
    model = model_of(np.float32, width=32)
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    ids, targets = ids_and_targets(model.config, B=2)
    for _ in range(150):
        loss = model.loss(ids, targets)
        loss.backward()
        optimizer.step(lr=1e-2, clip=1.0)
    assert loss.item() < 0.02


def test_dropout_changes_with_the_key_and_is_off_in_evaluation():
    model = model_of(dropout=0.3)
    batch = ids_and_targets(model.config)
    losses = []
    for step in (0, 0, 1):
        set_dropout_key(model, 7, step)
        losses.append(model.loss(*batch).item())
    assert losses[0] == losses[1] != losses[2]
    model.eval()
    assert model.loss(*batch).item() == model_of(dropout=0.0).loss(*batch).item()


def test_dropout_falls_on_the_first_stream_and_on_both_branches_of_every_block():
    model = model_of(dropout=0.3)
    with recording(model, only=lambda name, module: isinstance(module, Dropout)) as calls:
        model.loss(*ids_and_targets(model.config))
    names = ["drop", *(f"h.{i}.drop.{k}" for i in range(2) for k in range(2))]
    assert [call.name for call in calls] == names
    assert all(0.1 < (call.output.data == 0).mean() < 0.5 for call in calls)


def test_layers_that_write_into_the_residual_stream_start_smaller_by_the_root_of_their_number():
    model = model_of(np.float32, layers=8, width=64)
    for name, tensor in model.named_parameters():
        if tensor.ndim == 2:
            std = 0.02 / 16 ** 0.5 if name.endswith("c_proj.weight") else 0.02
            assert abs(tensor.data.std() / std - 1) < 0.15, name


def test_published_weights_are_transposed_and_their_extra_entries_dropped():
    model = model_of()
    published = {}
    for name, array in model.state().items():
        inner = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        published[f"transformer.{name}"] = array.T if inner else array
    published["transformer.h.0.attn.bias"] = np.tril(np.ones((1, 1, 6, 6)))
    published["lm_head.weight"] = published["transformer.wte.weight"]
    other = model_of(seed=5)
    other.load_state(from_published(published))
    ids, _ = ids_and_targets(model.config)
    assert np.array_equal(other(ids).data, model(ids).data)
