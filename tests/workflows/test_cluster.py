"""What fits where: requests, slots, and what is refused because no node can ever give it."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.errors import InfrastructureError
from workflows.cluster import Cluster, Node, Request, connect
from workflows.config import ResourcesConfig


def cluster(*nodes: tuple[float, float]) -> Cluster:
    return Cluster(tuple(Node(f"10.0.0.{index}", *node, f"node-{index}") for index, node in enumerate(nodes)))


def test_without_a_wish_a_trial_gets_one_gpu_where_there_are_any() -> None:
    assert cluster((8, 2)).request(ResourcesConfig()) == Request(1, 1.0)
    assert cluster((8, 0)).request(ResourcesConfig()) == Request(1, 0.0)
    assert cluster((8, 2)).request(ResourcesConfig(gpus_per_trial=0.0)) == Request(1, 0.0)
    assert cluster((8, 2)).request(ResourcesConfig(gpus_per_trial=0.25)) == Request(1, 0.25)


@pytest.mark.parametrize(
    ("nodes", "request_", "limit", "slots"),
    [
        ([(2, 0)], Request(1, 0), None, 2),
        ([(8, 0)], Request(3, 0), None, 2),
        ([(8, 0), (4, 0)], Request(3, 0), None, 3),
        ([(8, 0)], Request(1, 0), 3, 3),
        ([(2, 0)], Request(1, 0), 30, 2),
        ([(16, 2)], Request(1, 1), None, 2),
        ([(16, 2)], Request(1, 0.25), None, 8),
        ([(4, 2)], Request(1, 0.25), None, 4),
        ([(16, 1)], Request(1, 0.1), None, 10),
        ([(16, 4), (16, 0)], Request(2, 2), None, 2),
    ],
)
def test_slots_are_what_fits_on_the_nodes(
    nodes: list[tuple[float, float]], request_: Request, limit: int | None, slots: int
) -> None:
    assert cluster(*nodes).slots(request_, limit) == slots


@pytest.mark.parametrize("asked", [{"cpus_per_trial": 5}, {"gpus_per_trial": 2.0}, {"gpus_per_trial": 0.5}])
def test_what_no_node_can_give_is_refused_naming_request_and_nodes(asked: dict[str, float]) -> None:
    # Four CPUs are there twice, but no node has five.
    with pytest.raises(InfrastructureError, match=r"no node has that \(10\.0\.0\.0: 4 CPUs, 0 GPUs; 10\.0\.0\.1"):
        cluster((4, 0), (4, 0)).request(ResourcesConfig.model_validate(asked))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ConnectionError, Exception])
def test_a_ray_that_does_not_start_is_a_fault_of_the_infrastructure(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine that is too busy raises is an Exception and nothing more."""
    import ray

    def start(**_: Any) -> None:
        raise kind("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(InfrastructureError, match="this machine cannot be reached: The current node timed out"),
        connect(),
    ):
        pass
