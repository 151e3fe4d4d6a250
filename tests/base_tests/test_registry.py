"""Registries refuse to guess, and import nothing until it is asked for."""

import sys

import pytest

from nas.errors import UsageError
from nas.registry import Registry, unknown_name


@pytest.fixture
def animals() -> Registry:
    registry = Registry("animal")
    registry.register("zebra", "nas.errors:NasError", "striped")
    registry.register("Ant", "nas_has_no_such_module:Ant", "small")
    return registry


def test_an_unknown_name_lists_what_there_is_and_suggests_the_nearest(animals: Registry) -> None:
    with pytest.raises(UsageError, match=r"^unknown animal 'zebar'; there is: Ant, zebra\. Did you mean 'zebra'\?$"):
        animals.get("zebar")


def test_a_name_in_other_letters_is_recognised_but_not_accepted(animals: Registry) -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'Ant'\?"):
        animals.get("ANT")


def test_a_name_far_from_all_gets_no_suggestion(animals: Registry) -> None:
    with pytest.raises(UsageError, match=r"there is: Ant, zebra\.$"):
        animals.get("qqqq")


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(UsageError, match=r"unknown animal 'x'; there is: none\.$"):
        Registry("animal").get("x")


def test_allowed_names_may_come_from_a_generator() -> None:
    assert "there is: a, b." in str(unknown_name("letter", "zzz", (name for name in "ba")))


def test_names_and_summaries_are_listed_without_an_import(animals: Registry) -> None:
    assert animals.names() == ["zebra", "Ant"]
    assert [entry.summary for entry in animals.entries.values()] == ["striped", "small"]
    assert "nas_has_no_such_module" not in sys.modules


def test_get_returns_the_thing_itself(animals: Registry) -> None:
    from nas.errors import NasError

    assert animals.get("zebra") is NasError


def test_a_name_is_registered_once(animals: Registry) -> None:
    with pytest.raises(ValueError, match="animal 'zebra' is registered twice"):
        animals.register("zebra", "nas.errors:UsageError", "again")
