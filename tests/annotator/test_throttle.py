"""Failures are counted by address for a minute."""

import pytest

from annotator.throttle import Throttle


class Hand:
    """A clock that only a test moves."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def throttle(hand: Hand) -> Throttle:
    return Throttle(most=3, window_s=60.0, clock=hand)


def test_after_enough_failures_the_oldest_must_be_a_minute_old(
    throttle: Throttle, hand: Hand
) -> None:
    for _ in range(3):
        assert throttle.wait_s("10.0.0.1") == 0
        throttle.failed("10.0.0.1")
        hand.seconds += 10
    assert throttle.wait_s("10.0.0.1") == 30
    hand.seconds += 29.5
    assert throttle.wait_s("10.0.0.1") == 1
    hand.seconds += 0.5
    assert throttle.wait_s("10.0.0.1") == 0
    throttle.failed("10.0.0.1")
    assert throttle.wait_s("10.0.0.1") == 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("10.0.0.1", "10.0.0.2", False, id="neighbours"),
        pytest.param("2001:db8::1", "2001:db8::2", True, id="one customer's IPv6"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="another's IPv6"),
        pytest.param("", "testclient", False, id="no address"),
    ],
)
def test_an_address_waits_for_its_own_failures(
    throttle: Throttle, one: str, other: str, same: bool
) -> None:
    for _ in range(3):
        throttle.failed(one)
    assert throttle.wait_s(one) > 0
    assert (throttle.wait_s(other) > 0) is same


def test_many_addresses_cost_little_memory(throttle: Throttle) -> None:
    for number in range(10_050):
        throttle.failed(f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._failed) == 10_000
