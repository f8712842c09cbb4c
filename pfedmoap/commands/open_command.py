"""Commands whose options are not all in a signature, such as those that take every setting of an experiment."""

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource
from typer.core import TyperCommand, TyperOption


class OpenCommand(TyperCommand):
    """A command with options that no signature states; those that were given come as `context.obj`, by name."""

    more_options: Callable[[], list[click.Option]]  # a method of every subclass

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not hasattr(self, "_more"):
            self._more = self.more_options()
        *declared, help_option = super().get_params(ctx)
        return [*declared, *self._more, help_option]

    def invoke(self, ctx: click.Context) -> Any:
        values = {option.name: ctx.params.pop(option.name) for option in self._more}
        given = ParameterSource.COMMANDLINE
        ctx.obj = {name: value for name, value in values.items() if ctx.get_parameter_source(name) is given}
        return super().invoke(ctx)


class RunCommand(OpenCommand):
    def more_options(self) -> list[TyperOption]:
        from pfedmoap.commands.options import setting_options

        return setting_options()
