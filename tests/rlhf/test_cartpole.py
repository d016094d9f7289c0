import numpy as np

from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.rlhf import cartpole
from tinygrad_edu.rlhf.cartpole import Balancer, CartPoles, accelerations
from tinygrad_edu.tensor import Tensor


def test_a_push_at_rest_moves_the_cart_forward_and_the_pole_back():
    push, turning = accelerations(np.zeros((1, 4)), np.array([10.0]))
    assert np.isclose(turning, -(10 / 1.1) / (0.5 * (4 / 3 - 0.1 / 1.1)))
    assert np.isclose(push, (10 + 0.05 * -turning) / 1.1)


def test_left_is_the_mirror_image_of_right():
    states = np.random.default_rng(0).standard_normal((5, 4))
    push, turning = accelerations(states, np.full(5, 10.0))
    mirrored = accelerations(-states, np.full(5, -10.0))
    assert np.allclose(mirrored, [-push, -turning])


def test_a_hanging_pole_only_loses_energy(monkeypatch):
    monkeypatch.setattr(cartpole, "TICK", 1e-4)
    states = np.array([[0.0, 0.3, np.pi - 0.5, 0.0]])

    def energy(x):
        m, half = cartpole.POLE, cartpole.HALF
        _, v, angle, turn = x[0]
        swing = m * half * v * turn * np.cos(angle)
        moving = (cartpole.CART + m) * v**2 / 2 + swing + (4 / 3) * m * half**2 * turn**2 / 2
        return moving + m * cartpole.GRAVITY * half * np.cos(angle)

    before = energy(states)
    for _ in range(5000):
        push, turning = accelerations(states, np.zeros(1))
        states = states + 1e-4 * np.stack([states[:, 1], push, states[:, 3], turning], axis=1)
    assert before - 0.02 < energy(states) < before


def test_a_pole_that_falls_is_set_up_again_and_one_that_stands_is_cut_off(monkeypatch):
    monkeypatch.setattr(cartpole, "LIMIT", 7)
    carts = CartPoles(2, np.random.default_rng(0))
    carts.states[0, 2] = 0.3  # steeper than 12°
    fell, cut, before = carts.step(np.array([0, 1]))
    assert fell.tolist() == [True, False]
    assert np.abs(before[0, 2]) > cartpole.STEEPEST
    assert (np.abs(carts.states[0]) <= 0.05).all()
    assert np.array_equal(carts.states[1], before[1])
    for push in range(6):
        fell, cut, _ = carts.step(np.full(2, push % 2))
    assert cut.tolist() == [False, True]
    assert carts.ages.tolist() == [6, 0]


def test_gradients_of_the_network_shared_and_separate():
    states = np.random.default_rng(1).standard_normal((3, 4))
    for shared in (False, True):
        network = Balancer(np.random.default_rng(2), 5, shared, np.float64)
        assert len(network.parameters()) == (8 if shared else 12)
        gradcheck(lambda x, net=network: net(x)[0], states)
        gradcheck(lambda x, net=network: net(x)[1], states)


def test_at_the_start_the_policy_is_nearly_even():
    network = Balancer(np.random.default_rng(3))
    logits, _ = network(Tensor(np.random.default_rng(4).standard_normal((50, 4)).astype("f")))
    assert np.abs(logits.data).max() < 0.1
