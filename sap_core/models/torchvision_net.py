"""Any classification network of torchvision, unchanged, so that state dicts can be exchanged with other code."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from sap_core.errors import UserError, unknown


class Torchvision(nn.Module):
    """Builds a network of torchvision with random weights; the instance is of torchvision's class, with its parameter names.

    Args:
        num_outputs: classes.
        input_shape: (C, H, W); most networks need three channels, some at least 63 pixels.
        network: a name of `torchvision.models.list_models`, such as resnet18.

    Raises:
        UserError: torchvision has no such network.
    """

    name: ClassVar[str] = "torchvision"
    version: ClassVar[int] = 1

    def __new__(cls, num_outputs: int, input_shape: tuple[int, ...], network: str = "resnet18") -> nn.Module:  # type: ignore[misc]
        """Return torchvision's network without a wrapper, so that parameter names do not change."""
        from torchvision import models

        # `module=models` leaves out detection, segmentation and video networks, which do not classify images.
        known = models.list_models(module=models)
        if network not in known:
            raise unknown("network", network, known, "model")
        try:
            found: nn.Module = models.get_model(network, weights=None, num_classes=num_outputs)
        # Some networks take no `num_classes`, or refuse the number.
        except (TypeError, ValueError) as error:
            raise UserError(f"torchvision cannot build model.network={network} ({error}); choose another network") from error
        return found

    @staticmethod
    def usual_size(network: str = "resnet18") -> int | None:
        """Return the side in pixels of the images that torchvision's own weights of a network were trained on; None if it has none."""
        from torchvision import models

        try:
            return int(models.get_model_weights(network).DEFAULT.transforms().crop_size[0])
        except (ValueError, AttributeError, KeyError):
            return None

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], network: str = "resnet18") -> None:
        """Never called, because `__new__` returns another class; the signature declares the types of the options."""
