"""Loaded by schemathesis in its own process: tells which of its findings are no faults."""

import re
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

_REJECTED_THOUGH_VALID, _ACCEPTED_THOUGH_INVALID = "ST202", "ST201"
_UNSAYABLE = (
    r"task_index: \d+ is outside 0 … \d+ \(task_count is \d+\)",
    r"task_(index|count): \d+\.0 is wrong: Input should be a valid integer",
    r"since: '.*' is in the future",
    r"timestamp: '(0000\d{4}|\d{4}(02(29|3\d)|(04|06|09|11)31))T\d\dZ' is not an hour",
    r"\w+: .* is not what the run '.*' was planned with",
    r"\w+: '.*' is longer than the 1024 bytes",
    r"source: '' is missing",
    r"thumbnail: '.*' is given beside 'source'",
    r"max_dollars: .* (does not pay for|is less than what|would be passed by) ",
)
"""Reasons why a request is refused though it fits the description. OpenAPI has no words for them."""


@schemathesis.hook
def filter_failure(_: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Return false for a finding that is no fault."""
    if failure.code == _REJECTED_THOUGH_VALID and response.status_code == 422:
        return not any(re.match(reason, response.json()["reason"], re.DOTALL) for reason in _UNSAYABLE)
    if failure.code == _ACCEPTED_THOUGH_INVALID and case.operation.label == "POST /events":
        # An envelope that cannot be used is acknowledged: any other answer would have it delivered again for a day.
        answers = response.json()
        outcomes = {answer["outcome"] for answer in (answers if isinstance(answers, list) else [answers])}
        return not (response.status_code == 200 and outcomes <= {"rejected", "ignored"})
    return True
