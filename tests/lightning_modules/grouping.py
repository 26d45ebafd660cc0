"""Flat settings for tests, put into the groups that a class takes."""

import inspect
from dataclasses import fields

from tl_nla._grouped import homes_of


def kinds_of(kind):
    """Group -> its dataclass, from the annotations of a class's constructor."""
    found = {}
    for one in reversed(kind.__mro__):
        init = one.__dict__.get("__init__")
        for name, parameter in inspect.signature(init).parameters.items() if init is not None else ():
            for option in getattr(parameter.annotation, "__args__", ()):
                if hasattr(option, "__dataclass_fields__"):
                    found[name] = option
    return found


def flat(kind, **settings):
    """Keywords of a class; whatever is no field of one of its groups stays as it is."""
    kinds = kinds_of(kind)
    for group in {homes_of(kind)[name] for name in settings if name in homes_of(kind)}:
        own = {field.name for field in fields(kinds[group])}
        settings[group] = kinds[group](**{name: settings.pop(name) for name in list(settings) if name in own})
    return settings


def made(kind, *arguments, **settings):
    """An object of a class from flat settings."""
    return kind(*arguments, **flat(kind, **settings))
