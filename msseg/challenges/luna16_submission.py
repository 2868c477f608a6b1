"""LUNA16's submission: a list of candidates, each with the series it is in, its place in mm and its probability.

Source: https://luna16.grand-challenge.org/Evaluation/.
"""

from __future__ import annotations

from functools import partial

from msseg.challenges.candidates import CandidateList, check_candidates, recognise_candidates, write_candidates
from msseg.challenges.named_files import case_by

LUNA16_LIST = CandidateList(
    case_of=case_by(r"(?:.*/)?(?P<case>\d+(?:\.\d+){4,})"),
    example="1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860",
    label="nodule",
)
write = partial(write_candidates, LUNA16_LIST)
check = partial(check_candidates, LUNA16_LIST)
recognise = partial(recognise_candidates, LUNA16_LIST)
