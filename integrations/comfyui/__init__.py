"""TSD-SR for ComfyUI: two nodes, and `mini` for the stock nodes of upscaling models."""

import logging

from tsdsr.errors import MissingDependencyError

from .nodes import comfy_entrypoint

try:
    from tsdsr.integrations.spandrel import register

    register()
except MissingDependencyError as error:  # spandrel is optional in ComfyUI, too
    logging.warning("TSD-SR: 'Load Upscale Model' will not take mini: %s", error)

__all__ = ["comfy_entrypoint"]
