"""More transfers at once than the unit's limits allow: whom it costs what, and that nothing of it lasts."""

from __future__ import annotations

from collections import Counter

import pytest

REQUEST = b"GET /file digest=sha256"


@pytest.fixture
def crowd(hold):
    """``crowd(count)``: so many requests at once, from peers enough that none has too many."""
    return lambda count: [hold(REQUEST, f"127.0.1.{number // 50 + 1}") for number in range(count)]


def recovered(service, load, main: str) -> bool:
    clients = load(16, retries=30)
    clients.wait_for_more(32)
    clients.stop()
    return service.show("MainPID") == main


@pytest.mark.usefixtures("narrow")
def test_where_no_more_tasks_are_allowed_clients_wait_or_are_told_so(service, drop_in, crowd, load) -> None:
    drop_in("TasksMax=20\n")
    service.run("systemctl", "restart", "forkserver.service")
    main, began = service.show("MainPID"), service.now()
    requests = crowd(40)
    service.wait_until(lambda: 'reason="fork failed' in service.journal(began), "the limit")
    assert len(service.pids()) == 20
    told = Counter(each.outcome() for each in requests)
    assert told["whole"] >= 18
    assert told["busy"] >= 1
    assert told["cut"] == 0
    assert recovered(service, load, main)
    assert service.journal(began, "--grep=^(died|master-died) ") == ""


@pytest.mark.usefixtures("narrow")
def test_where_memory_ends_children_pay_and_the_service_goes_on(service, drop_in, crowd, load) -> None:
    drop_in("MemoryMax=64M\n")
    service.run("systemctl", "restart", "forkserver.service")
    main, began = service.show("MainPID"), service.now()
    requests = crowd(100)
    service.wait_until(lambda: service.oom_kills() > 0, "the limit")
    told = Counter(each.outcome() for each in requests)
    assert told["whole"] >= 1
    # Each process that was ended costs one connection; a master, that which it had in its hand.
    assert told["cut"] <= service.oom_kills()
    assert recovered(service, load, main)
    assert "Main process exited" not in service.journal(began)
