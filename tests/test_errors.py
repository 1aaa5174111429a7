from collections.abc import Iterator

import pytest

from service import errors
from service.errors import ServiceError
from service.process import EXIT_STATUS, exit_status_of
from service.web.answers import STATUS, status_of


def _all(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all(below)


EVERY = [kind for kind in _all(ServiceError) if kind is not ServiceError]


def _made(kind: type[ServiceError]) -> ServiceError:
    return kind("field", "value", "problem") if issubclass(kind, errors.InvalidValue) else kind("text")


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_has_a_status_that_somebody_chose(kind: type[ServiceError]) -> None:
    assert status_of(_made(kind))
    assert ServiceError not in STATUS


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_has_an_exit_status_other_than_success(kind: type[ServiceError]) -> None:
    assert exit_status_of(_made(kind)) in {1, 2}
    assert any(base in EXIT_STATUS for base in kind.__mro__)


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in EVERY]
    assert len(set(codes)) == len(codes)


def test_the_drawn_tree_names_every_error() -> None:
    assert errors.__doc__
    for kind in EVERY:
        assert kind.__name__ in errors.__doc__
