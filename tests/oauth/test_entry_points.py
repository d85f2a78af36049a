"""The list that the sweeps go over is the map."""

from tests.oauth.entry_points import ENTRY_POINTS, mapped


def test_every_address_of_an_issuer_is_in_the_list_that_the_sweeps_go_over() -> None:
    listed = [one.path for one in ENTRY_POINTS]
    assert len(listed) == len(set(listed)) and set(listed) == mapped()
