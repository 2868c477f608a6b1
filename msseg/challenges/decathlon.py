"""The Medical Segmentation Decathlon: ten tasks."""

from __future__ import annotations

from msseg.challenges.challenge import Challenge
from msseg.challenges.decathlon_submission import check, recognise, write
from msseg.challenges.described import list_decathlon

DECATHLON = Challenge(
    name="decathlon",
    title="Medical Segmentation Decathlon",
    url="http://medicaldecathlon.com",
    list_cases=list_decathlon,
    write=write,
    check=check,
    recognise=recognise,
)
