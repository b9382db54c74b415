"""Trials by sweeper, and by what a good engineer writes in an afternoon (`handwritten.py`).

    python benchmarks/vs_handwritten.py [--cases TITLE ...] [--trials N ...] [--rounds N]

Both train the same steps of the same models, with the same batch size, optimiser and rates, and
measure both sets whole at the end.  Nothing is tuned while the clock runs: a folder is tuned once,
the hand-written loop is told what was found, and sweeper goes on from a copy of the folder.  Each
run is a program of its own, in turn, and is timed from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

import handwritten
import swept
import turns
from recipe import Recipe
from swept import CASES, CORES, Tuned

TRIALS = (16, 64)
ROUNDS = 3
HAND, SWEEPER, COLD, KEEP = "by hand", "sweeper", "cold cache", "curves and models kept"


def by_hand(recipe: Recipe, trials: int) -> turns.Run:
    """The hand-written program, run."""
    given = json.dumps(asdict(recipe))
    return turns.run([sys.executable, __file__, "--recipe", given, "--trials", trials])


def compare(tuned: Tuned, case: str, trials: int, rounds: int) -> tuple[str, str]:
    """A line of the table of times, and one of the table of what came out."""
    tuned.run(trials)  # what it compiles is there from now on
    found = turns.in_turn(
        {
            HAND: lambda _: by_hand(tuned.recipe, trials),
            SWEEPER: lambda _: tuned.run(trials),
            COLD: lambda _: tuned.run(trials, cold=True),
            KEEP: lambda _: tuned.run(trials, keep=True),
        },
        rounds,
    )
    whole = {way: turns.seconds(runs) for way, runs in found.items()}
    alone = {way: [run.found["between"] for run in found[way]] for way in (HAND, SWEEPER)}
    times = turns.row(
        case,
        trials,
        turns.spread(whole[HAND]),
        turns.spread(whole[SWEEPER]),
        *(turns.spread(turns.ratios(whole[HAND], whole[way]), 2) for way in (SWEEPER, COLD, KEEP)),
        turns.spread(turns.ratios(alone[HAND], alone[SWEEPER]), 2),
    )
    came = [swept.mean(found[way][0].found["perf_val"]) for way in (HAND, SWEEPER)]
    return times, turns.row(case, trials, *came, tuned.found["way"], tuned.found["because"])


def main() -> None:
    """Print the tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--trials", nargs="+", type=int, default=list(TRIALS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--recipe", metavar="JSON", help="train by hand, in this process")
    options = parser.parse_args()
    if options.recipe:
        (trials,) = options.trials
        print(json.dumps(handwritten.run(Recipe(**json.loads(options.recipe)), trials, CORES)))
        return
    print("## Trials, against a hand-written loop\n")
    print(
        f"The same steps of the same models (batch size {swept.BATCH}, SGD, four triangular cycles "
        "of the rate, both sets measured whole at the end): an eager loop with tensors batched by "
        f"index, one thread a process, joblib over {CORES} cores; and a sweep in a folder that has "
        "been tuned. Whole programs, from start to end, imports and all; without curves and saved "
        f"models, which the loop has not either. Min / **median** / max of {options.rounds} runs "
        "of each, in turn; ratios are by hand over sweeper in the same round. *Warm*: what it "
        "compiles is there from an earlier run. *Kept*: warm, with 40 samples of curves and the "
        "model of each trial, as a sweep does by itself. *Trials alone*: from the first trial's "
        "start to the last one's end. Goals for 64 trials, warm: 8, 2.5, 1.3 and 2, from above; "
        "nowhere below 0.95.\n"
    )
    times = ["model", "trials", "by hand, s", "sweeper, s", "ratio, warm", "ratio, cold"]
    print(turns.head(*times, "ratio, kept", "ratio, trials alone"))
    came = []
    for case in options.cases:
        with swept.tuned(case) as tuned:
            for trials in options.trials:
                line, outcome = compare(tuned, case, trials, options.rounds)
                print(line, flush=True)
                came.append(outcome)
    print("\nValidation performance, mean ± standard deviation between trials:\n")
    print(turns.head("model", "trials", "by hand", "sweeper", "trained", "because"))
    print("\n".join(came))


if __name__ == "__main__":
    main()
