import pytest

from tl_nla.cli.diff import chosen_sites, grid
from tl_nla.errors import InputError


@pytest.mark.parametrize(
    ("options", "sites"),
    [((None, None, None, None), None), ((1, None, None, None), ["blocks.1"]),
     ((1, "mlp", None, None), ["blocks.1.mlp"]),
     ((1, None, 3, None), ["blocks.1.attn.head.3"]),
     ((None, None, None, "1-2"), ["blocks.1.hook_resid_pre -> blocks.2.hook_resid_post"]),
     ((None, None, None, "hook_embed -> blocks.0.hook_resid_post"), ["hook_embed -> blocks.0.hook_resid_post"])],
)  # fmt: skip
def test_options_name_sites(options, sites):
    assert chosen_sites(*options) == sites


@pytest.mark.parametrize(
    ("options", "message"),
    [((1, None, None, "0-1"), "stands alone"), ((None, None, 2, None), "need --layer"),
     ((-1, None, None, None), "from 0"), ((0, "mlp", 1, None), "exclude")],
)  # fmt: skip
def test_contradictions_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        chosen_sites(*options)


def test_the_grid_has_a_cell_for_each_head():
    rows = [{"site": f"blocks.{layer}.attn.head.{head}", "text": f"It promotes w{layer}{head}; strength two"}
            for layer in range(2) for head in range(3)]  # fmt: skip
    table = grid(rows, " Tom", 4)
    assert table.row_count == 2
    assert [str(cell) for cell in table.columns[3].cells] == ["w02\n(two)", "w12\n(two)"]
