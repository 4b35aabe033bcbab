"""The decoder: where its tokens lie and where the outcome is read."""

from __future__ import annotations

import pytest
import torch

from scd_wm import testing
from scd_wm.imagination import rollout
from scd_wm.model.layout import FrameLayout
from scd_wm.model.scd import SCDWorldModel


@pytest.mark.parametrize("context_mode", ["prefix", "token_concat"])
def test_context_and_noisy_tokens_share_their_places_and_the_query_has_none(
    context_mode: str,
) -> None:
    decoder = testing.model(context_mode=context_mode).decoder
    *tokens, query = torch.split(decoder.table, decoder.num_tokens, dim=1)
    place = decoder._place_table(FrameLayout(testing.image_spec(), decoder.config.patch_size))
    assert len(tokens) == (1 if context_mode == "prefix" else 2)
    assert all(torch.equal(part, place) for part in tokens)
    assert query.shape[1] == 1
    assert (query[0] == 1).all()  # cosines
    assert (query[1] == 0).all()  # sines


def test_the_outcome_is_read_at_the_query() -> None:
    """Closed gates leave a fresh model's query alone, so what it says is the same for every row."""
    model = SCDWorldModel(testing.image_spec(), testing.config())
    frames = rollout(model, testing.clip(model.spec, 3, 2), torch.randn(3, 2, 2))
    assert model.decoder.outcome is not None
    logit = model.decoder.outcome(model.decoder.final.norm(model.decoder.query))[0, 2]
    expected = logit.sigmoid().detach().expand(3, 2)
    torch.testing.assert_close(frames.outcome["success"], expected)
