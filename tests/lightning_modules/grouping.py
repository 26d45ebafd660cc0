"""Flat settings for tests, put into the groups that a class takes."""

import inspect
from dataclasses import fields


def kinds_of(kind):
    """Group -> its dataclass, and the names of all parameters, from a class's constructors."""
    found, names = {}, set()
    for one in reversed(kind.__mro__):
        init = one.__dict__.get("__init__")
        for name, parameter in inspect.signature(init).parameters.items() if init is not None else ():
            names.add(name)
            for option in getattr(parameter.annotation, "__args__", ()):
                if hasattr(option, "__dataclass_fields__"):
                    found[name] = option
    return found, names


def flat(kind, **settings):
    """Keywords of a class; whatever is no field of one of its groups stays as it is."""
    kinds, names = kinds_of(kind)
    for group, of_group in reversed(kinds.items()):  # a class goes before its base
        own = {field.name for field in fields(of_group)} & set(settings) - names
        if own:
            settings[group] = of_group(**{name: settings.pop(name) for name in sorted(own)})
    return settings


def made(kind, *arguments, **settings):
    """An object of a class from flat settings."""
    return kind(*arguments, **flat(kind, **settings))
