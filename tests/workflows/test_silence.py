"""Which workers were silent for too long."""

from __future__ import annotations

import pytest

from workflows.silence import Silence


class Clock:
    """A clock that goes on when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def after(clock: Clock, silence: Silence, seconds: int, *running: str) -> list[str]:
    """Whoever is told of in the next seconds, asked about every one."""
    told: list[str] = []
    for _ in range(seconds):
        clock.now += 1
        told += silence.too_long(running)
    return told


def test_only_who_is_silent_for_longer_than_the_limit_is_told_of_and_once(clock: Clock) -> None:
    silence = Silence(5, clock)
    assert after(clock, silence, 5, "a", "b") == []
    silence.heard("b")
    assert after(clock, silence, 1, "a", "b") == ["a"]
    assert after(clock, silence, 4, "a", "b") == []
    assert after(clock, silence, 1, "a", "b") == ["b"]


def test_who_goes_on_being_silent_is_told_of_again(clock: Clock) -> None:
    assert after(clock, Silence(5, clock), 13, "a") == ["a", "a"]


def test_who_runs_again_begins_anew(clock: Clock) -> None:
    silence = Silence(5, clock)
    assert after(clock, silence, 4, "a") == []
    assert after(clock, silence, 1) == []
    assert after(clock, silence, 5, "a") == []
    assert after(clock, silence, 1, "a") == ["a"]


def test_an_hour_in_which_the_driver_itself_was_suspended_is_nobodys_silence(clock: Clock) -> None:
    silence = Silence(60, clock)
    assert after(clock, silence, 40, "a") == []
    clock.now += 3600
    assert silence.too_long(["a"]) == []
    silence.heard("a")
    assert after(clock, silence, 60, "a") == []
