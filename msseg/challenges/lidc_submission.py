"""A list of candidates of LIDC-IDRI in LUNA16's columns, of scans that are named by their patients.

The collection has no challenge of its own: the columns are those that programs written for LUNA16 read.
"""

from __future__ import annotations

from functools import partial

from msseg.challenges.candidates import CandidateList, check_candidates, recognise_candidates, write_candidates
from msseg.challenges.named_files import case_by

LIDC_LIST = CandidateList(
    case_of=case_by(r"(?:.*/)?(?P<case>LIDC-IDRI-\d{4}(?:_\d+)?)"),
    example="LIDC-IDRI-0001",
    label="nodule",
)
write = partial(write_candidates, LIDC_LIST)
check = partial(check_candidates, LIDC_LIST)
recognise = partial(recognise_candidates, LIDC_LIST)
