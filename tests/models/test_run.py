import numpy as np
import pytest

from tinygrad_edu.files.checkpoint import load_checkpoint, save_checkpoint
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.run import load_model, load_run, part, read_run, save_run
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer

IDS = np.array([[1, 0, 2, 2, 1]])


@pytest.fixture
def run(tmp_path):
    """A folder with a run that has done one step, its model and its optimizer."""
    tokenizer = train_characters([b"abc"])
    config = GPTConfig(tokenizer.vocab_size, 6, 1, 2, 8, dropout=0.5)
    model = GPT(config, np.random.default_rng(7))
    optimizer = AdamW(model.named_parameters())
    model.loss(IDS[:, :-1], IDS[:, 1:]).backward()
    optimizer.step(lr=0.1)
    save_run(tmp_path, model, optimizer, {"lr": 0.1}, 1)
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    return tmp_path, model, optimizer


def test_a_run_gives_back_the_model_in_evaluation_mode_and_its_tokenizer(run):
    folder, model, _ = run
    loaded, tokenizer = load_run(folder)
    assert not any(module.training for _, module in loaded.walk())
    assert loaded.config == model.config
    assert np.array_equal(loaded(IDS).data, model.eval()(IDS).data)
    assert tokenizer.decode(tokenizer.encode("cab")) == "cab"


def test_settings_steps_and_the_state_of_the_optimizer_come_back_too(run):
    folder, model, optimizer = run
    arrays, state = read_run(folder)
    assert (state["settings"], state["done"]) == ({"lr": 0.1}, 1)
    other = AdamW(load_model(arrays, state).named_parameters())
    other.load_state(part(arrays, "optimizer"))
    assert other.steps == 1
    for name, array in optimizer.state().items():
        assert np.array_equal(other.state()[name], array), name


def test_the_loaded_model_does_not_live_on_the_file(run):
    folder, model, optimizer = run
    loaded, _ = load_run(folder)
    before = loaded.wte.weight.data.copy()
    model.wte.weight.assign(np.zeros_like(before))
    save_run(folder, model, optimizer, {}, 2)
    assert np.array_equal(loaded.wte.weight.data, before)
    loaded.wte.weight.assign(before + 1)           # a window on the file could not be written


def test_a_folder_that_is_no_run_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run in .*none: train one with scripts/"):
        read_run(tmp_path / "none")


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    save_checkpoint(tmp_path, {"w": np.zeros(2)}, {"done": 3})
    with pytest.raises(ValueError, match="not one of train_gpt.py"):
        read_run(tmp_path)


def test_weights_that_do_not_fit_the_settings_of_their_checkpoint_are_refused(run):
    folder, _, _ = run
    arrays, state = load_checkpoint(folder)
    arrays = {name: np.array(array) for name, array in arrays.items()}
    save_checkpoint(folder, arrays, state | {"model": state["model"] | {"layers": 2}})
    with pytest.raises(ValueError, match="its weights are of another model: .* speak of 2 blocks"):
        load_run(folder)
