import pytest
import torch

from scd_wm.evaluation.locate import (
    TrackedColour,
    colours_from_metadata,
    found,
    last_known,
    locate,
    parse_colours,
    typical_mass,
)
from tests.evaluation.moving_disc import BLUE, draw


def test_a_disc_is_located_to_a_fifth_of_a_pixel() -> None:
    truth = 8 + 16 * torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(0))
    sighting = locate(draw(truth), BLUE)
    assert (sighting.position - truth).norm(dim=-1).max() < 0.2


def test_another_object_beside_it_does_not_pull() -> None:
    truth = torch.tensor([[[10.3, 20.6]]])
    image = draw(truth)
    image[..., 2:8, 20:30, :] = torch.tensor([120, 120, 120], dtype=torch.uint8)
    assert (locate(image, BLUE).position - truth).norm() < 0.2


def test_it_is_found_where_enough_of_it_is_seen() -> None:
    real = draw(torch.full((1, 3, 2), 16.0))
    typical = typical_mass(locate(real, BLUE))
    imagined = real.clone()
    imagined[0, 1, :16] = 255  # the upper half is hidden
    imagined[0, 2] = 255  # gone
    assert found(locate(imagined, BLUE), typical).tolist() == [[True, True, False]]


def test_a_faded_object_is_not_found() -> None:
    real = draw(torch.full((1, 1, 2), 16.0))
    faded = (255 - (255 - real.float()) * 0.5).to(torch.uint8)
    assert not found(locate(faded, BLUE), typical_mass(locate(real, BLUE))).any()


def test_an_object_that_is_never_there_is_never_found() -> None:
    empty = torch.full((1, 2, 16, 16, 3), 255, dtype=torch.uint8)
    sighting = locate(empty, BLUE)
    assert sighting.position.isnan().all()
    assert not found(sighting, typical_mass(sighting)).any()


def test_the_last_known_position_stays_until_it_is_seen_again() -> None:
    position = torch.arange(10.0).reshape(1, 5, 2)
    seen = torch.tensor([[False, True, False, False, True]])
    known = last_known(position, seen)
    assert known[0, 0].isnan().all()
    assert known[0, 1:].tolist() == [[2, 3], [2, 3], [2, 3], [8, 9]]


def test_colours_are_read_from_text_and_from_metadata() -> None:
    assert parse_colours(["pusher=40,60,230", "block=1,2,3,9.5"]) == {
        "pusher": TrackedColour((40, 60, 230)),
        "block": TrackedColour((1, 2, 3), 9.5),
    }
    metadata = {"scd_wm": {"tracked_colours": {"pusher": {"rgb": [40, 60, 230], "tolerance": 60}}}}
    assert colours_from_metadata(metadata) == {"pusher": BLUE}
    assert colours_from_metadata({}) == {}


@pytest.mark.parametrize("text", ["pusher", "=1,2,3", "pusher=1,2", "pusher=red", "a=1,2,3,4,5"])
def test_a_text_that_is_no_colour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=R,G,B"):
        parse_colours([text])


def test_a_colour_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 255"):
        parse_colours(["pusher=40,60,300"])
    with pytest.raises(ValueError, match="above 0"):
        parse_colours(["pusher=40,60,30,0"])
