"""Floats of any kind are written as fp32, and a device's menu has its own in that place."""

import pytest

from search_spaces import FLOATS, as_written, device_menu, get_space


def test_floats_are_written_as_fp32_and_the_rest_as_itself() -> None:
    assert {as_written(name) for name in FLOATS} == {"fp32"}
    assert [as_written(name) for name in ("int8", "w4a8")] == ["int8", "w4a8"]


@pytest.mark.parametrize(
    ("written", "executed", "menu"),
    [
        (("fp32", "int8"), ("fp32", "int8"), ["fp32", "int8"]),
        (("fp32", "int8"), ("bf16", "int8"), ["bf16", "int8"]),
        (("int8", "fp32"), ("fp32", "bf16", "int8"), ["int8", "fp32", "bf16"]),
        (("int8",), ("bf16",), []),
        (("fp32", "int8"), ("w8a8", "w4a4"), []),
    ],
)
def test_a_menu_is_what_a_device_computes_of_what_is_written(
    written: tuple[str, ...], executed: tuple[str, ...], menu: list[str]
) -> None:
    assert device_menu(written, executed) == menu


def test_the_ends_of_a_space_are_in_the_first_precision_of_its_menu() -> None:
    space = get_space("fashion-mbv3", precisions=("bf16", "int8"))
    for row in (space.largest(), space.smallest()):
        assert set(space.candidate(row).precisions) == {"bf16"}
