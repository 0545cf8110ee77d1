"""Hydra's and OmegaConf's errors in one sentence: what is wrong, the nearest valid name, how to list them all."""

from __future__ import annotations

import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from pipeline.errors import ConfigError
from pipeline.runner.discovery import stage_names, suggest

LIST_SETTINGS = "list all settings with: python -m pipeline stage=<name> --cfg job"


def explain(error: Exception) -> ConfigError | None:
    """The same error in words meant for the user; None when it is not an error of the configuration."""
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        place = "modules of pipeline/stages" if group == "stage" else f"files of conf/{group}"
        text = f"{group}={choice}: no such {group}; {suggest(choice, error.options or [])} ({place})"
    elif isinstance(error, OverrideParseException):
        text = f"{error.override}: expected key=value; quote special characters: 'key=\"...\"'"
    elif isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        text = f"{cause.full_key}: no such setting; {_nearest(cause)}"
    elif isinstance(cause, MissingMandatoryValue):
        text = f"{cause.full_key}: no value; set it with {cause.full_key}=..."
    elif isinstance(cause, OmegaConfBaseException):
        text = f"{cause.full_key}: {str(cause.msg or cause).splitlines()[0]}; {LIST_SETTINGS}"
    elif "You must specify 'stage'" in str(error):
        text = f"say what to make with stage=<name>: {', '.join(stage_names())}"
    elif isinstance(error, HydraException) or _is_bad_override(error):
        text = f"{str(error).splitlines()[0]}; {LIST_SETTINGS}"
    else:
        return None
    return ConfigError(text)


def _nearest(error: OmegaConfBaseException) -> str:
    """The nearest sibling of a mistyped key; OmegaConf hands over the node in which the key was looked up."""
    parent = error.parent_node
    prefix = str(error.full_key)[: -len(str(error.key))]
    names = [prefix + str(name) for name in parent if name != "hydra"] if isinstance(parent, DictConfig) else []
    return suggest(str(error.full_key), names) if names else LIST_SETTINGS


def _is_bad_override(error: Exception) -> bool:
    """Hydra raises a bare ValueError for a group set to something that is not a name."""
    return isinstance(error, ValueError) and re.match(r"Config group override", str(error)) is not None
