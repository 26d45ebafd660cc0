"""Settings of training by reward for tests: flat ones, put into their groups."""

from dataclasses import fields

from lightning_modules.training.policy_config import PolicyConfig, RateConfig


def rewarded(**flat):
    """Keywords of ``NLATraining``; whatever is no field of a group stays as it is."""
    groups = {"rates": RateConfig, "policy": PolicyConfig}
    for name, kind in groups.items():
        own = {field.name: flat.pop(field.name) for field in fields(kind) if field.name in flat}
        flat[name] = kind(**own)
    return flat
