"""What `model()` returns more than once: frozen parts may be shared, trained weights may not."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.errors import ProblemError
from sweeper.signature import encode
from sweeper.train.eager.probes import Probe, run_check
from sweeper.train.mode.choose import choose_mode
from sweeper.train.packs.members import Member
from sweeper.train.packs.trial import train_pack
from sweeper.train.tuning.stages import Check
from sweeper.train.tuning.trials import Trials
from test_probes import PARAMS, TRIAL, bits, data_of, problem_of, streams_of, trial

pytestmark = pytest.mark.usefixtures("one_thread")

CHECK = Check(batch_size=16, steps=1)


def backbone(*inner):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), *inner, nn.ReLU()).requires_grad_(False)


def with_a_head(part):
    return problem_of(lambda: nn.Sequential(part, nn.Linear(8, 2)))


def check(problem):
    run_check(problem, data_of(), streams_of(0, "check"), PARAMS, CHECK)


def packed(problem, numbers):
    members = [
        Member.make(problem, data_of(), streams_of(n, "trial"), PARAMS, TRIAL.batch_size)
        for n in numbers
    ]
    found = train_pack(problem, data_of(), members, Trials(TRIAL), 0)
    return {member.streams.number: bits(trained.model) for member, trained in found}


class Locked(nn.Module):
    """One that cannot be copied."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 8).requires_grad_(False)
        self.limits = torch.finfo(torch.float32)

    def forward(self, x):
        return self.first(x)


def test_a_frozen_backbone_is_shared_packed_and_never_written():
    part = backbone()
    before, versions = copy.deepcopy(part), [p._version for p in part.parameters()]
    problem = with_a_head(part)
    check(problem)
    Probe.make(problem, data_of(), streams_of(), encode(()))
    mode = choose_mode(problem, data_of(), streams_of(0, "way"), PARAMS, TRIAL)
    assert mode.kind == "flat", mode.because
    eager = {n: bits(trial(streams_of(n, "trial"), problem=problem).model) for n in (0, 1)}
    together = packed(problem, [0, 1, 2])
    for number, found in packed(problem, [1, 2]).items():
        assert found == together[number]
    for number, found in eager.items():
        for name, value in found.items():
            np.testing.assert_allclose(
                np.frombuffer(together[number][name], np.float32),
                np.frombuffer(value, np.float32),
                rtol=1e-3,
                atol=1e-5,
            )
    assert bits(part) == bits(before)
    assert [p._version for p in part.parameters()] == versions
    assert all(p.dtype == torch.float32 for p in part.parameters())


def test_a_shared_part_that_cannot_be_copied_is_not_checked_at_its_owners_cost():
    part = Locked()
    mode = choose_mode(with_a_head(part), data_of(), streams_of(0, "way"), PARAMS, TRIAL)
    assert mode.kind == "plain"
    assert "copy.deepcopy raises TypeError" in mode.because
    assert part.first.weight.dtype == torch.float32
    alone = problem_of(lambda: nn.Sequential(Locked(), nn.Linear(8, 2)))
    mode = choose_mode(alone, data_of(), streams_of(0, "way"), PARAMS, TRIAL)
    assert mode.kind == "flat", mode.because


def whole():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def of_one_memory():
    weights = torch.randn(8, 3)

    def make():
        model = whole()
        model[0].weight = nn.Parameter(weights)
        return model

    return make


def of_numpys_memory():
    weights = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

    def make():
        model = whole()
        model[0].weight = nn.Parameter(torch.from_numpy(weights))
        return model

    return make


def of_a_state_that_is_assigned():
    state = whole().state_dict()

    def make():
        model = whole()
        model.load_state_dict(state, assign=True)
        return model

    return make


MAKERS = {
    "a model": lambda: functools.cache(whole),
    "a part": lambda: functools.partial(nn.Sequential, nn.Linear(3, 8), nn.Linear(8, 2)),
    "a tensor": of_one_memory,
    "an array": of_numpys_memory,
    "a state": of_a_state_that_is_assigned,
}


@pytest.mark.parametrize("what", MAKERS)
def test_trained_weights_that_were_returned_before_are_refused_by_name(what):
    with pytest.raises(ProblemError, match=r"trained weights that it returned before: 0\.weight"):
        check(problem_of(MAKERS[what]()))


def test_weights_that_were_returned_before_are_refused_wherever_a_model_is_made():
    for make in (
        lambda problem: trial(streams_of(1, "trial"), problem=problem),
        lambda problem: packed(problem, [1]),
        lambda problem: Probe.make(problem, data_of(), streams_of(), encode(())),
    ):
        problem = problem_of(functools.cache(whole))
        make(problem)
        with pytest.raises(ProblemError, match="returned before"):
            make(problem)


def test_two_trials_of_a_pack_do_not_share_what_is_trained():
    with pytest.raises(ProblemError, match="returned before"):
        packed(problem_of(functools.cache(whole)), [0, 1])


def test_frozen_weights_that_another_point_trained_are_refused():
    part = backbone()

    def make(train=True):
        part.requires_grad_(train)
        return nn.Sequential(part, nn.Linear(8, 2))

    problem = problem_of(make)
    problem.make_model(encode((True,)))
    with pytest.raises(ProblemError, match=r"returned before: 0\.0\.weight"):
        problem.make_model(encode((False,)))


def test_a_shared_part_that_training_changes_is_refused_by_name():
    """The mean that a shared normalisation keeps depends on which trials ran before."""
    part = backbone(nn.BatchNorm1d(8))
    with pytest.raises(ProblemError, match=r"changed since: 0\.1\.running_mean"):
        check(with_a_head(part))
    part = backbone(nn.BatchNorm1d(8))
    part.train = lambda mode=True: part
    part.training = part[1].training = False
    check(with_a_head(part))
    assert part[1].num_batches_tracked == 0


def test_memory_that_was_freed_and_is_used_again_is_no_sharing():
    problem = problem_of(whole)
    for _ in range(50):
        problem.make_model(encode(()))


def test_a_pair_and_tied_weights_are_returned_once():
    def make():
        model = whole()
        model[2] = nn.Linear(3, 8)
        model[2].weight = model[0].weight
        return nn.Sequential(model, nn.ReLU()), model

    problem = problem_of(make)
    problem.make_model(encode(()))
    problem.make_model(encode(()))


class Scaled(nn.Module):
    """A loss with a parameter, and with what it gathers in training."""

    def __init__(self, *, trained):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=trained)
        self.register_buffer("usual", torch.ones(()))

    def forward(self, output, y):
        found = nn.functional.cross_entropy(output * self.scale, y)
        if self.training and not self.scale.requires_grad:
            self.usual.lerp_(found.detach(), 0.1)
        return found


@pytest.mark.parametrize(
    ("trained", "said"),
    [(True, r"trained weights that it returned before: scale"), (False, "changed since: usual")],
)
def test_a_loss_that_was_returned_before_is_refused_where_training_changes_it(trained, said):
    problem, shared = problem_of(whole), Scaled(trained=trained)
    problem.module.loss = lambda: shared
    with pytest.raises(ProblemError, match=rf"what loss\(\) returns is a module.*{said}"):
        check(problem)
    with pytest.raises(ProblemError, match=rf"what loss\(\) returns is a module.*{said}"):
        two_trials(problem)
    problem.module.loss = lambda: Scaled(trained=trained)
    check(problem)
    two_trials(problem)


def two_trials(problem):
    for number in (0, 1):
        trial(streams_of(number, "trial"), problem=problem)
