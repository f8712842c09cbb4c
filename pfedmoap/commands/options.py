"""The settings of experiments and methods as command-line options: a new field is a new option."""

import dataclasses
import inspect
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import click
from typer.core import TyperOption

from pfedmoap import experiments
from pfedmoap.data import HUB
from pfedmoap.errors import UserError, recognise
from pfedmoap.experiments import Experiment, build_method, dataset_names
from pfedmoap.methods import METHODS, Method
from pfedmoap.released import Protocol, parse_protocol

BY_HAND = ("dataset", "method", "seed")  # `pfedmoap run` has options of its own for these
ALL = "all"
TITLES = {method.title: name for name, method in METHODS.items()}


def setting_options() -> list[TyperOption]:
    """One option per setting of `Experiment` and of every method; one that is not given is left to the profile."""
    options = [
        _option(item.name, hint, item.metadata["panel"], f"{item.metadata['help']} {_profile_values(item.name)}")
        for item, hint in _settings(Experiment)
        if item.name not in BY_HAND
    ]
    taken = {option.name for option in options}
    for method in METHODS.values():
        texts = attribute_texts(method)
        for item, hint in _settings(method):
            if item.name not in taken:
                help = f"{texts.get(item.name, '')} [default: {_as_text(item.default)}]"
                options.append(_option(item.name, hint, f"Settings of {method.title}", help))
                taken.add(item.name)
    return options


def build_experiments(
    dataset: str, methods: Sequence[str], seeds: Sequence[str], profile: str, given: Mapping[str, Any],
    base: Mapping[str, Any] = {},
) -> list[Experiment]:
    """The experiments of one command line, method by method and seed by seed, each once.

    Args:
        methods: names; "all" stands for all of them.
        seeds: whole numbers as text.
        given: the settings that were given, of `Experiment` and of methods together.
        base: settings in place of the profile's, such as those that your own pictures suggest.

    Raises:
        UserError: an unknown name, or a setting that is out of range or that none of the methods has.
    """
    own = {item.name for item in dataclasses.fields(Experiment)}
    overrides = {name: value for name, value in given.items() if name in own}
    settings = {name: value for name, value in given.items() if name not in own}
    if not methods or not seeds:
        raise UserError("Name at least one method and one seed.")
    if ALL in [method.lower() for method in methods]:
        methods = list(METHODS)
    dataset, profile = known_dataset(dataset), recognise(profile, experiments.PROFILES, "profile")
    numbers = [parse(seed, int, "seed") for seed in seeds]
    built = [
        experiments.from_profile(dataset, method, profile, base, seed=seed, **overrides)
        for method in build_methods(methods, settings)
        for seed in numbers
    ]
    return list(dict.fromkeys(built))


def build_methods(names: Sequence[str], settings: Mapping[str, Any]) -> list[Method]:
    """Each named method with those of the settings that it has; a setting that none of them has is refused."""
    names = [recognise(name, [*METHODS, ALL], "method", TITLES) for name in names]
    owned = {name: {item.name for item in dataclasses.fields(method)} for name, method in METHODS.items()}
    for setting in settings:
        if not any(setting in owned[name] for name in names):
            owners = [name for name in METHODS if setting in owned[name]]
            raise UserError(
                f"{' and '.join(names)} has no setting {_flag(setting)}: it belongs to {', '.join(owners)}."
            )
    return [
        build_method(name, **{setting: value for setting, value in settings.items() if setting in owned[name]})
        for name in names
    ]


def known_dataset(name: str) -> str:
    """The data set that a name means: "Animals" is animals; validation draws keep their ending, `hf:...` all of it."""
    if name.startswith(HUB):
        return name
    stem, ending, _ = name.partition("-validation")
    return recognise(stem, dataset_names(), "data set") + ending


def parse(text: str, hint: Any, name: str) -> Any:
    """A setting's value from text: whole number, number, word, comma-separated list, 'none' where allowed, or protocol.

    Raises:
        UserError: the text is none of what the type allows.
    """
    for kind in _alternatives(hint):
        try:
            if kind is types.NoneType:
                if text.lower() == "none":
                    return None
            elif get_origin(kind) is tuple:
                return tuple(get_args(kind)[0](part) for part in text.split(","))
            elif kind is Protocol:
                return parse_protocol(text)
            else:
                return kind(text)
        except ValueError:
            continue
    raise UserError(f"{name} must be {_wanted(hint)}, not {text!r}.")


def attribute_texts(method: type[Method]) -> dict[str, str]:
    """What the docstring of a method says about each of its settings, under "Attributes:"."""
    section = (inspect.getdoc(method) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.+(?:\n     +.+)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


class SettingType(click.ParamType):
    """Click's view on `parse`."""

    def __init__(self, hint: Any):
        self.hint, self.name = hint, _wanted(hint)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        return parse(value, self.hint, param.name if param else "value") if isinstance(value, str) else value


def _option(name: str, hint: Any, panel: str, help: str) -> TyperOption:
    # Square brackets would be read as markup.
    common = dict(default=None, help=help.replace("[", r"\["), rich_help_panel=panel)
    if hint is bool:
        return TyperOption(param_decls=[name, f"{_flag(name)}/{_flag('no_' + name)}"], is_flag=True, **common)
    return TyperOption(param_decls=[name, _flag(name)], type=SettingType(hint), metavar=_metavar(hint), **common)


def _settings(owner: type) -> list[tuple[dataclasses.Field, Any]]:
    hints = get_type_hints(owner)
    return [(item, hints[item.name]) for item in dataclasses.fields(owner)]


def _profile_values(name: str) -> str:
    method = METHODS["pfedmoap"]()
    settings = {profile: experiments.from_profile("nature", method, profile) for profile in experiments.PROFILES}
    values = {profile: _as_text(getattr(own, name)) for profile, own in settings.items()}
    if len(set(values.values())) == 1:
        return f"[default: {values['quick']}]"
    return f"[{', '.join(f'{profile}: {value}' for profile, value in values.items())}]"


def _alternatives(hint: Any) -> tuple:
    """The types of a union, None first and str last, as 'none' is a word and every text is a str."""
    return tuple(sorted(_declared(hint), key=lambda kind: (kind is not types.NoneType, kind is str)))


def _declared(hint: Any) -> tuple:
    return get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _wanted(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a word", types.NoneType: "'none'", Protocol: "a protocol"}
    return " or ".join(words.get(kind, "a list such as 3,3,2") for kind in _declared(hint))


def _metavar(hint: Any) -> str:
    words = {int: "INT", float: "FLOAT", str: "TEXT", types.NoneType: "none", Protocol: "paper|released|SWITCH,..."}
    return "|".join(words.get(kind, "LIST") for kind in _declared(hint))


def _as_text(value: Any) -> str:
    words = {None: "none", True: "on", False: "off"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
