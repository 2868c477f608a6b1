"""The race of a training iteration, augmentation included."""

from __future__ import annotations

from contest import Figure, Race, Stage
from nnunet_peer import CONFIGURATION
from race_preparing import small_dataset

_ITERATIONS, _QUICK_ITERATIONS = 8, 3


def prepare_both(race: Race) -> None:
    """The small volumes planned and preprocessed by both, unless they are."""
    dataset = small_dataset(race)
    if not (race.root / "preprocessed" / dataset / "plan.json").exists():
        arguments = ["--root", str(race.root), "--network", "plain_unet", "--quiet"]
        race.ours("plan_and_preprocess", str(race.raw(dataset)), *arguments)
    if not (race.peer / "preprocessed" / dataset / "nnUNetPlans.json").exists():
        number = str(int(dataset[len("Dataset") :].split("_")[0]))
        race.theirs("nnUNetv2_plan_and_preprocess", "-d", number, "-c", CONFIGURATION)


def iteration(race: Race) -> list[Figure]:
    """Iterations at nnU-Net's network, patch and batch, by nnU-Net's recipe; the share of them that is waiting."""
    dataset, iterations = small_dataset(race), str(_QUICK_ITERATIONS if race.quick else _ITERATIONS)
    ours, mine = race.our_script("iteration", str(race.root), dataset, iterations)
    theirs, peers = race.peer_script("train", str(race.peer), dataset, iterations)
    return [
        Figure("an iteration", "s", mine["seconds_per_iteration"], peers["seconds_per_iteration"]),
        Figure("share of waiting", "", mine["waiting_share"], peers["waiting_share"]),
        Figure("peak memory", "GB", ours.peak_bytes / 1e9, theirs.peak_bytes / 1e9),
    ]


STAGES = {"iteration": Stage(prepare_both, iteration)}
