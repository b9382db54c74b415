"""Probes of the ladder: the same bits in any pack, and as one by one but for rounding."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

import blobs
import sweeper
from blobs import LADDER as QUICK_LADDER
from sweeper.code.importing import find_ref
from sweeper.records import EAGER, PACKED, TRIAL, Job
from sweeper.signature import encode
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.train.data.samples import Data, HeldSet
from sweeper.train.eager import probes as eager_probes
from sweeper.train.eager.constant import SAMPLES, constant_loss
from sweeper.train.eager.trial import train_trial
from sweeper.train.packs.members import Member
from sweeper.train.packs.probes import by_settings, probes_by_settings, train_probes
from sweeper.train.problem.loading import load_problem
from sweeper.train.replica.streams import Streams, dataset_seed, seed_globals
from sweeper.train.tuning.held_out import STRATIFIED, held_out
from sweeper.train.tuning.names import LADDER
from sweeper.train.tuning.stages import STREAMS, LadderRound
from sweeper.train.tuning.trials import Trials
from sweeper.train.tuning.tried import Candidate
from sweeper.train.vectorize.trace import CannotPackError
from sweeper.train.worker.task import Task
from sweeping import assert_same_bits, outcomes, run
from test_packs import alike, pack
from test_probes import bits, data_of, disturb_globals, plain, problem_of, streams_of, trial

pytestmark = pytest.mark.usefixtures("one_thread")


def dropping():
    return nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 2))


def convolving():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    )


def pictures(samples=72, val=8):
    random = np.random.default_rng(0)
    y = torch.from_numpy(random.permutation(samples + val) % 2)
    x = torch.from_numpy(random.normal(size=(samples + val, 1, 4, 4))).float()
    x = x + y[:, None, None, None]
    return Data(HeldSet(x[:samples], y[:samples]), HeldSet(x[samples:], y[samples:]))


CASES = {
    "dropout": (problem_of(dropping), data_of()),
    "batch norm": (problem_of(convolving), pictures()),
    "adam": (problem_of(plain, optimizer="adam"), data_of()),
    "momentum and clipping": (
        problem_of(plain, optimizer={"name": "sgd", "momentum": 0.9}, clip_grad_norm=0.5),
        data_of(),
    ),
}

RATES = [2.0**exponent for exponent in (-8, -6, -4, -2)]


def round_of(batch_size=16, cycles=2, steps=25, **changes):
    """Of a round of two tunings and two initialisations: sixteen probes."""
    rates = changes.pop("rates", RATES)
    return LadderRound(
        **{
            "round": 0,
            "modes": {},
            "constant": None,
            "candidates": (tuple(Candidate(rate, batch_size) for rate in rates),) * 2,
            "inits": 2,
            "lengths": {batch_size: steps},
            "cycles": cycles,
            "schedule": "triangular",
            "warmup": 0.0,
            "steps": steps,
            **changes,
        }
    )


def losses_of(numbers, problem, data, told=None):
    """The losses and performances of a pack of these probes, to the last bit."""
    told = told or round_of()
    (size,) = told.lengths

    def make(stream):
        return Member.make(problem, data, streams_of(stream, LADDER), encode(()), size)

    probes = [told.probes()[number] for number in numbers]
    found = dict(train_probes(problem, data, probes, PACKED, make))
    assert list(found) == list(numbers)
    return {number: flat(judged).tobytes() for number, judged in found.items()}


def flat(judged):
    """The losses, then the performances, if there are any."""
    return np.array([*judged.losses, *judged.performances])


def one_by_one(number, problem, data, told=None):
    probe = (told or round_of()).probes()[number]
    streams = streams_of(probe.stream, LADDER)
    made = eager_probes.Probe.make(problem, data, streams, encode(()))
    return flat(eager_probes.run_ladder(made, probe, streams))


@pytest.fixture(scope="module")
def known():
    """The losses of all sixteen together, by case."""
    found = {}

    def of(case):
        if case not in found:
            found[case] = losses_of(range(16), *CASES[case])
        return found[case]

    return of


# -- the same bits in any pack --------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_probe_is_the_same_alone_and_in_any_company(known, case):
    together = known(case)
    assert len(set(together.values())) == 16
    order = np.random.default_rng(0).permutation(16).tolist()
    cuts = [[order[0]], order[1:3], order[3:6], order[6:14], [5, 4], [4], [15, 0]]
    for numbers in cuts:
        for number, found in losses_of(numbers, *CASES[case]).items():
            assert found == together[number], numbers


@hypothesis_settings(max_examples=8)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=16, unique=True))
def test_a_probe_is_the_same_in_any_order_and_cut(known, numbers):
    found = losses_of(numbers, *CASES["dropout"])
    assert found == {number: known("dropout")[number] for number in numbers}


def test_a_probe_depends_on_nothing_outside(known):
    disturb_globals()
    assert losses_of([3], *CASES["dropout"])[3] == known("dropout")[3]


def test_memory_cuts_packs_and_no_bit_depends_on_it(known, monkeypatch):
    for most in (1, 3):
        monkeypatch.setattr("sweeper.train.packs.probes.most_members", lambda *_, n=most: n)
        assert losses_of(range(16), *CASES["batch norm"]) == known("batch norm")


def test_one_that_diverges_leaves_the_others_bits_alone():
    problem, data = problem_of(plain, loss=lambda: exploding), data_of()
    high = round_of(rates=(2.0**-8, 1e6, 2.0**-4, 1e30))
    together = losses_of(range(16), problem, data, high)
    found = {number: np.frombuffer(losses) for number, losses in together.items()}
    for probe in high.probes():
        losses, performances = np.split(found[probe.number], 2)
        assert np.isinf(losses).all() == (probe.high > 1)
        assert np.isfinite(performances).all()
        assert probe.high < 1 or not performances.any()
        alone = losses_of([probe.number], problem, data, high)
        assert alone[probe.number] == together[probe.number]


def exploding(output, y):
    return nn.functional.mse_loss(output[:, 0], y.float())


def test_a_loss_that_was_infinite_once_is_a_divergence_however_it_goes_on():
    """One target whose square no number holds; clipped, it does the weights no harm."""
    data = data_of()
    y = torch.zeros(80, 2)  # not one number a sample: what is held out does not depend on them
    data = Data(HeldSet(data.train.x, y), data.val)
    place = int(held_out(data, streams_of(0, LADDER))[1][0])
    assert place in held_out(data, streams_of(STREAMS, LADDER))[0]
    y[place] = 1e30
    problem = problem_of(plain, loss=nn.MSELoss, accuracy_style="inv-loss", clip_grad_value=0.01)
    found = losses_of(range(16), problem, data)
    assert all(np.isinf(np.frombuffer(losses)).all() for losses in found.values())
    assert all(np.isinf(one_by_one(number, problem, data)).all() for number in (0, 1, 15))


def test_a_probe_that_diverges_after_a_cycle_keeps_the_loss_before_it(monkeypatch):
    problem, data, payload = problem_of(plain), data_of(), round_of(steps=24)

    def late(schedule, high, steps, cycles, warmup):
        found = np.full(steps, high / 8)
        found[steps // 2 + 2 :] = math.inf if high == RATES[-1] else high
        return found

    for module in ("sweeper.train.packs.probes", "sweeper.train.eager.probes"):
        monkeypatch.setattr(f"{module}.rates", late)
    for number, found in losses_of(range(16), problem, data, payload).items():
        first, last, right, right_last = np.frombuffer(found)
        diverged = payload.probes()[number].high == RATES[-1]
        assert math.isfinite(first)
        assert math.isinf(last) == diverged
        assert right > 0
        assert (right_last == 0) == diverged
        alone = one_by_one(number, problem, data, payload)
        np.testing.assert_allclose(alone, [first, last, right, right_last], rtol=1e-4)


# -- as one by one --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case != "dropout"])
@pytest.mark.parametrize("batch_size", [16, 70])
def test_a_packed_probe_is_the_eager_one_but_for_rounding(case, batch_size):
    # 70 is more than what is left of the samples when a fifth is held out.
    payload = round_of(batch_size)
    found = losses_of(range(0, 16, 5), *CASES[case], payload)
    for number, losses in found.items():
        expected = one_by_one(number, *CASES[case], payload)
        np.testing.assert_allclose(np.frombuffer(losses), expected, rtol=2e-3)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_another_schedule_and_a_warm_up_are_the_same_in_packs_and_one_by_one(schedule):
    problem, data = CASES["adam"]
    payload = round_of(cycles=1, schedule=schedule, warmup=0.2)
    together = losses_of(range(0, 16, 3), problem, data, payload)
    for number, losses in together.items():
        assert losses_of([number], problem, data, payload)[number] == losses
        expected = one_by_one(number, problem, data, payload)
        np.testing.assert_allclose(np.frombuffer(losses), expected, rtol=2e-3)
    assert together[0] != losses_of([0], problem, data, round_of(cycles=1))[0]


def test_random_numbers_of_a_packed_probe_are_others_of_the_same_kind(known):
    together = np.stack([np.frombuffer(found) for found in known("dropout").values()])
    alone = np.stack([one_by_one(number, *CASES["dropout"]) for number in range(16)])
    assert not np.array_equal(together, alone)
    assert together.mean() == pytest.approx(alone.mean(), abs=0.05)


def test_data_that_is_loaded_as_it_goes_gives_the_same_probes():
    problem = problem_of(plain)
    held, loaded = (losses_of(range(4), problem, data_of(held=held)) for held in (True, False))
    assert held == loaded


@pytest.mark.parametrize("samples", [1, 2, 3, 10])
def test_small_data(samples):
    problem, data = problem_of(plain), data_of(samples)
    payload = round_of(min(8, samples))
    for number, losses in losses_of(range(0, 16, 5), problem, data, payload).items():
        expected = one_by_one(number, problem, data, payload)
        np.testing.assert_allclose(np.frombuffer(losses), expected, rtol=2e-3)


# -- streams --------------------------------------------------------------------------------------


def test_candidates_of_an_initialisation_share_what_is_held_out_and_their_weights(monkeypatch):
    """A rate that is nothing leaves the initial weights: their losses are those of the streams."""
    rates = [1e-30, 2e-30, 3e-30, 4e-30]
    payload = round_of(rates=rates)
    for case in ("dropout", "momentum and clipping"):
        problem, data = CASES[case]
        found = losses_of(range(16), problem, data, payload)
        groups = {}
        for probe in payload.probes():
            groups.setdefault(probe.stream, set()).add(found[probe.number])
        assert all(len(some) == 1 for some in groups.values())
        assert len(set.union(*groups.values())) == len(groups) == 4
        again = losses_of(range(16), problem, data, payload)
        assert again == found


def test_what_is_held_out_is_a_matter_of_the_streams_alone():
    data = data_of()
    parts = [
        held_out(data, streams_of(stream, LADDER))[1].tolist() for stream in (0, 0, 1, STREAMS)
    ]
    assert parts[0] == parts[1]
    assert len({tuple(part) for part in parts}) == 3
    later = held_out(data, streams_of(0, f"{LADDER}.1"))[1].tolist()
    assert later != parts[0], "another round has other splits"


def test_a_probe_trains_on_nothing_that_it_is_judged_by(monkeypatch):
    seen = []

    class Watched(HeldSet):
        def batches(self, indices):
            seen.extend(indices)
            return super().batches(indices)

    data = data_of()
    data = Data(Watched(data.train.x, data.train.y), data.val)
    kept, held = held_out(data, streams_of(0, LADDER))
    probe = round_of(steps=40, cycles=1).probes()[0]
    made = eager_probes.Probe.make(problem_of(plain), data, streams_of(0, LADDER), encode(()))
    eager_probes.run_ladder(made, probe, streams_of(0, LADDER))
    judged = np.concatenate(seen[40:])
    assert sorted(judged) == held.tolist()
    assert set(np.concatenate(seen[:40])) == set(kept)


def test_performance_is_that_of_the_held_out_samples():
    problem, data, streams = problem_of(plain), data_of(), streams_of(0, LADDER)
    _, held = held_out(data, streams)
    made = eager_probes.Probe.make(problem, data, streams, encode(()))
    judged = eager_probes.run_ladder(made, round_of(steps=40, cycles=1).probes()[-1], streams)
    with torch.no_grad():
        right = made.model.eval()(data.train.x[held]).argmax(1) == data.train.y[held]
    assert judged.performances == [pytest.approx(float(right.double().mean()))]
    assert 0.3 < judged.performances[0] < 1


def test_what_is_held_out_does_not_depend_on_whether_data_is_held():
    for samples in (10, 300):
        held, loaded = (data_of(samples, held=held) for held in (True, False))
        for stream in range(3):
            torch.manual_seed(stream)
            streams, before = streams_of(stream, LADDER), torch.get_rng_state()
            assert list(map(list, held_out(held, streams))) == list(
                map(list, held_out(loaded, streams))
            )
            assert torch.equal(torch.get_rng_state(), before)


def test_of_many_samples_a_random_fifth_is_held_out_and_none_is_read():
    class Unread(HeldSet):
        def read_labels(self):
            raise AssertionError("it was read")

    x = torch.zeros(STRATIFIED + 1, 1)
    kept, held = held_out(Data(Unread(x, x), Unread(x, x)), streams_of(0, LADDER))
    assert len(held) == len(x) // 5
    assert len(kept) + len(held) == len(x)


def test_classes_are_held_out_in_proportion_whatever_shape_labels_have():
    x = torch.randn(100, 3)
    labels = torch.arange(100) % 10 == 0
    for y in (labels.long(), labels.float()[:, None]):
        _, held = held_out(Data(HeldSet(x, y), HeldSet(x, y)), streams_of(0, LADDER))
        assert len(held) == 20
        assert int(labels[held].sum()) == 2
    several = torch.stack([labels, ~labels], 1).float()
    _, held = held_out(Data(HeldSet(x, several), HeldSet(x, several)), streams_of(0, LADDER))
    assert len(held) == 20


# -- what a constant prediction reaches -----------------------------------------------------------


def constant_of(y, model=None, loss=nn.CrossEntropyLoss):
    model = model or (lambda: nn.Linear(3, 2))
    x = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(0))
    data = Data(HeldSet(x, y), HeldSet(x, y))
    return constant_loss(problem_of(model, loss=loss), data, streams_of(0, LADDER), encode(()))


@pytest.mark.parametrize("counts", [(50, 50), (90, 10), (99, 1)])
def test_of_classes_it_is_the_entropy_of_their_frequencies(counts):
    y = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
    shares = np.array(counts) / sum(counts)
    assert constant_of(y) == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-4)


def test_of_a_class_that_never_occurs_nothing_is_expected():
    assert constant_of(torch.zeros(20, dtype=torch.int64)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_of_squares_it_is_the_variance_of_the_targets(scale):
    y = torch.randn(200, 2, generator=torch.Generator().manual_seed(1)) * scale + 3 * scale
    expected = y.double().var(dim=0, correction=0).mean()
    assert constant_of(y, loss=nn.MSELoss) == pytest.approx(float(expected), rel=1e-3)


def test_of_labels_it_is_the_mean_entropy_of_each():
    shares = np.array([0.5, 0.1, 0.02])
    y = torch.stack([(torch.arange(100) < 100 * share).float() for share in shares], 1)
    entropies = -(shares * np.log(shares) + (1 - shares) * np.log(1 - shares))
    found = constant_of(y, lambda: nn.Linear(3, 3), nn.BCEWithLogitsLoss)
    assert found == pytest.approx(entropies.mean(), rel=1e-3)


def test_of_large_data_it_is_found_from_some_samples():
    y = (torch.arange(20 * SAMPLES) % 4 == 0).long()
    assert constant_of(y) == pytest.approx(0.5623, abs=0.02)


class Named(nn.Module):
    """Its output is no tensor, and nothing that is made of them."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        return Answer(self.inner(x))


@dataclasses.dataclass
class Answer:
    value: torch.Tensor


class Summed(Named):
    """Its output has no row for each sample."""

    def forward(self, x):
        return self.inner(x).sum(0)


@pytest.mark.parametrize("model", [Named, Summed])
def test_of_outputs_that_are_odd_it_is_infinite(model):
    def loss(output, y):
        value = output.value if isinstance(output, Answer) else output
        return value.pow(2).mean() + 0 * y.sum()

    assert constant_of(torch.zeros(20), model, lambda: loss) == math.inf


def test_what_a_loss_raises_for_a_constant_is_no_failure():
    def loss(output, y):
        raise ValueError("not of such outputs")

    assert constant_of(torch.zeros(20), loss=lambda: loss) == math.inf


def test_finding_it_moves_no_weight():
    before = trial()
    constant_of(torch.arange(20) % 2)
    assert bits(trial().model) == bits(before.model)


# -- jobs -----------------------------------------------------------------------------------------

A, B = ({"lr_start": rate / 8, "lr_end": rate} for rate in (0.3, 0.01))


def test_a_packed_trial_has_the_settings_of_its_tuning():
    together = pack(range(5), tunings=[A, B], samples=5)
    for number, found in together.items():
        alike(found, pack([number], samples=5, **(A, B)[number % 2])[number])
    assert len({repr(one.metrics) for one in together.values()}) == 5
    for numbers in ([3], [4, 1], [2, 0, 3]):
        for number, found in pack(numbers, tunings=[A, B], samples=5).items():
            alike(found, together[number])


def test_trials_whose_settings_differ_in_more_than_rates_go_apart():
    rest = {"cycle_epochs": 1, "cycles": 1, "steps": 10}
    told = [
        {"lr_start": 0.1, "lr_end": 0.1, "batch_size": 8, **rest, "way": PACKED, "tape": "a"},
        {"lr_start": 0.1, "lr_end": 0.2, "batch_size": 8, **rest, "way": PACKED, "tape": "a"},
        {"lr_start": 0.1, "lr_end": 0.3, "batch_size": 32, **rest, "way": PACKED, "tape": "b"},
        {"lr_start": 0.1, "lr_end": 0.4, "batch_size": 32, **rest, "way": EAGER},
    ]
    told.append({**told[0], "options": {"momentum": 0.5}})
    payload = {**told[0], "tunings": told, "params": encode(()), "id": 3}
    job = Job(0, "p", "trial", TRIAL, tuple(range(9)), payload)
    task = Task.read(job)
    parts = by_settings(task, task.told)
    assert [part.numbers for part in parts] == [(0, 1, 5, 6), (2, 7), (3, 8), (4,)]
    for part in parts:
        for number in part.numbers:
            mine = part.told.of(number)
            assert mine.payload() == told[number % 5]
            assert part.options == (mine.options or {})
            assert part.told.first.batch_size == mine.batch_size
            assert part.mode == part.told.first.mode == mine.mode
    alone = Task.read(dataclasses.replace(job, payload={**told[0], "params": "", "id": 3}))
    assert by_settings(alone, alone.told) == [alone]


def test_probes_of_each_batch_size_go_apart_and_are_told_their_mode():
    candidates = [[[0.1, 8], [0.2, 8], [0.1, 32]], [[0.1, 32]]]
    modes = {"8": {"way": PACKED, "tape": "a"}, "32": {"way": EAGER, "because": "so"}}
    lengths = {"8": 30, "32": 20}
    payload = {"candidates": candidates, "inits": 2, "lengths": lengths, "cycles": 1, "ways": modes}
    payload |= {"schedule": "constant", "warmup": 0.0, "round": 1, "constant": 0.7, "steps": 30}
    payload |= {"params": encode(()), "id": 3}
    task = Task.read(Job(0, "p", "tuning", LADDER, (7, 0, 1, 2, 4, 5), payload))
    parts = probes_by_settings(task, task.told)
    assert [part.numbers for part in parts] == [(7, 4, 5), (0, 1, 2)]
    probes = task.told.probes()
    assert [{probes[n].batch_size for n in part.numbers} for part in parts] == [{32}, {8}]
    assert [part.mode.payload() for part in parts] == [modes["32"], modes["8"]]
    assert [part.told.probes() == probes for part in parts] == [True, True]


# -- whole sweeps ---------------------------------------------------------------------------------

KINDS = [nn.Tanh, nn.RReLU]
"""One that is packed, and one that is not."""


def grid(trials, kinds=KINDS):
    return sweeper.Grid(trials=trials, hidden=[3], nonlinearity=list(kinds))


def swept(folder, trials=5, kinds=KINDS, **options):
    return run(folder, grid(trials, kinds), hparams=QUICK_LADDER, **options)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return folder, swept(folder)


@pytest.mark.parametrize(
    "options",
    [{"pack": 1}, {"pack": 3, "backend": "local"}, {"backend": "local", "total_cores": 1}],
    ids=str,
)
def test_every_pack_and_every_number_of_cores_gives_the_same_bits(reference, tmp_path, options):
    folder, expected = reference
    assert_same_bits(expected, swept(tmp_path, **options))
    assert outcomes(tmp_path) == outcomes(folder)


def test_a_sweep_tunes_in_packs_and_gives_each_trial_its_tuning(reference):
    folder, result = reference
    assert "1 of 2 points in packs" in str(result.summary())
    with Store.read(Paths(folder).database) as store:
        steps = store.recorded("").steps
        stages = {found.stage for found in store.outcomes()}
    assert {LADDER, f"{LADDER}.1", f"{LADDER}.2"} <= stages
    for step in steps.values():
        tunings = step.payload["tunings"]
        assert len(tunings) == QUICK_LADDER.tunings
        assert {told["way"] for told in tunings} in ({PACKED}, {EAGER})
        assert math.isfinite(step.payload["constant"])


def test_an_eager_trial_has_the_settings_of_its_tuning(reference):
    folder, result = reference
    with Store.read(Paths(folder).database) as store:
        steps = store.recorded("").steps
    (signature,) = (sign for sign, step in steps.items() if step.payload["way"] == EAGER)
    params = encode({"hidden": 3, "nonlinearity": nn.RReLU})
    told = Trials.read(steps[signature].payload)
    assert len({one.lr_end for one in told.tunings}) == 2, "this test shows nothing"
    seed_globals(dataset_seed(0))
    data = Data(*(HeldSet(*part.tensors) for part in blobs.dataset()))
    for number in range(4):
        one = told.tunings[number % 2]
        streams = Streams(0, signature, TRIAL, number)
        problem = load_problem(find_ref("blobs"))
        found = train_trial(problem, data, streams, params, one, 0, None)
        for metric, value in found.metrics.items():
            assert getattr(result[1], metric)[number] == value


def test_fewer_trials_first_and_more_later_are_the_same_trials(reference, tmp_path):
    first = swept(tmp_path, 2)
    for few, many in zip(first, reference[1], strict=True):
        assert few.loss_val.tobytes() == many.loss_val[:2].tobytes()
    assert_same_bits(reference[1], swept(tmp_path, backend="local", total_cores=1))
    assert outcomes(tmp_path) == outcomes(reference[0])


@pytest.mark.parametrize("error", [ValueError("odd weights"), CannotPackError("an odd step")])
def test_a_probe_that_cannot_be_packed_costs_no_neighbour_its_result(
    reference, tmp_path, monkeypatch, error
):
    make = Member.make.__func__

    def spoilt(cls, problem, data, streams, *told):
        if streams.stage == LADDER and streams.number == STREAMS:
            raise error
        return make(cls, problem, data, streams, *told)

    monkeypatch.setattr(Member, "make", classmethod(spoilt))
    result = swept(tmp_path, 1, KINDS[:1])
    found, known = outcomes(tmp_path), outcomes(reference[0])
    found = {key: value for key, value in found.items() if key[1] == LADDER}
    with Store.read(Paths(tmp_path).database) as store:
        failed = {one.number for one in store.outcomes("stage = 'ladder'") if one.failure}
    rates = len(found) // QUICK_LADDER.tunings
    other = set(range(rates, 2 * rates))
    if isinstance(error, ValueError):
        assert failed == other
        (report,) = result.failures
        assert f"ladder {rates}: ValueError: odd weights" in report.message
    else:
        assert not failed
        assert not result.failures
    for key, value in found.items():
        if key[2] < rates:
            assert value == known[key]
