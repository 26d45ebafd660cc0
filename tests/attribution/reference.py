"""The plain computation: one ordinary run with hooks for each component and position."""

import torch

from tests import zoo
from tl_nla.model.facts import facts_of


def leave_out(model, tokens, component, position, attention_mask=None, replacement=0.0):
    """Logits with the component left out at ``position`` (an index, or a slice for all of them)."""
    prefix, seen = f"blocks.{component.layer}.", {}

    def put(value, new):
        value = value.clone()
        value[:, position] = new[:, position] if isinstance(new, torch.Tensor) else new
        return value

    def zero_head(z, hook):
        z = z.clone()
        z[:, position, component.head] = 0
        return z

    if component.kind in ("block", "span"):
        pairs = [
            (prefix + "hook_resid_pre", lambda value, hook: seen.update(before=value)),
            (
                f"blocks.{component.last}.hook_resid_post",
                lambda value, hook: put(value, seen["before"] + replacement),
            ),
        ]
    elif component.kind == "head":
        pairs = [(prefix + "attn.hook_z", zero_head)]
    else:
        points = facts_of(model).blocks[component.layer].points(component.kind)
        pairs = [(point, lambda value, hook: put(value, replacement)) for point in points]
    settings = {} if attention_mask is None else {"attention_mask": attention_mask}
    with torch.no_grad(), model.hooks(fwd_hooks=pairs):
        return model(tokens, **settings)


def left_padded(batch=2, pos=11, padding=3):
    """Tokens whose first row is padded on the left, and their mask."""
    tokens = zoo.tokens(batch, pos)
    mask = torch.ones_like(tokens)
    mask[0, :padding] = 0
    return tokens, mask
