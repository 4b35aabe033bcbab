import torch
from einops import rearrange

from scd_wm.evaluation.colour_cells import NUM_COLOURS, fit_colour_cells


def pictures(size: int) -> torch.Tensor:
    return torch.randint(256, (2, 3, size, size, 3), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )


def test_shares_are_means_over_the_pixels_of_a_cell() -> None:
    images = pictures(16)
    cells = fit_colour_cells({"top": images}, seed=0)
    table, shares = cells.tables["top"], cells({"top": images}, 4)
    assert shares.shape == (2, 3, 16 * NUM_COLOURS)
    for row, column in ((0, 0), (1, 3), (3, 2)):
        total = torch.zeros(NUM_COLOURS)
        for y in range(4 * row, 4 * row + 4):
            for x in range(4 * column, 4 * column + 4):
                red, green, blue = (int(v) // 8 for v in images[1, 2, y, x])
                total += table[red * 1024 + green * 32 + blue]
        start = (4 * row + column) * NUM_COLOURS
        torch.testing.assert_close(shares[1, 2, start : start + NUM_COLOURS], total / 16)


def test_the_colours_of_a_cell_sum_to_1_at_any_size() -> None:
    for size in (6, 30, 64, 200):
        images = pictures(size)
        shares = fit_colour_cells({"top": images}, seed=0)({"top": images})
        sums = rearrange(shares, "b t (g k) -> b t g k", k=NUM_COLOURS).sum(dim=-1)
        torch.testing.assert_close(sums, torch.ones(2, 3, 64))


def test_equal_seeds_choose_equal_colours_and_few_colours_are_enough() -> None:
    images = torch.zeros(1, 2, 16, 16, 3, dtype=torch.uint8)
    one, other = (fit_colour_cells({"top": images}, seed=3) for _ in range(2))
    assert one.tables["top"].equal(other.tables["top"])
    assert one({"top": images}).isfinite().all()
