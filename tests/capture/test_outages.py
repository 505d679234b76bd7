"""What is made of the states of an interface."""

from ecustream.capture.outages import Link, Sight


def test_up_and_down() -> None:
    """An interface that is there ails while it is down."""
    link = Link("eth1", 4)
    assert link.look(Sight(4, "eth1", True)) is None
    assert link.look(Sight(4, "eth1", False)) == "down"
    assert link.look(Sight(4, "eth1", True)) is None


def test_deleted_and_made_anew() -> None:
    """Another interface of the name is asked for; until it is captured on, that goes on."""
    link = Link("eth1", 4)
    assert link.look(Sight(None, None, False)) == "gone"
    assert link.look(Sight(5, None, False)) == "replaced"
    link.index = None
    assert link.look(Sight(None, None, False)) == "gone"
    assert link.look(Sight(6, None, False)) == "replaced"
    link.index = 6
    assert link.look(Sight(6, "eth1", True)) is None


def test_replaced_between_two_looks() -> None:
    """The old index is dead although an interface of that name is there and up."""
    assert Link("eth1", 4).look(Sight(5, None, False)) == "replaced"


def test_a_renamed_one_is_kept_until_another_has_the_name() -> None:
    """The name counts, but a name that nobody has is no reason to stop."""
    link = Link("eth1", 4)
    assert link.look(Sight(None, "lan0", True)) is None
    assert link.known_as == "lan0"
    assert link.look(Sight(None, "lan0", False)) == "down"
    assert link.look(Sight(7, "lan0", True)) == "replaced"
    assert link.known_as == "eth1"
