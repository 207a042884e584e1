"""Fisher forgetting: adds noise to the weights, with a larger variance where a weight matters less to the retain samples.

Source: Golatkar, Achille and Soatto, "Eternal sunshine of the spotless net: selective forgetting in deep networks", CVPR 2020, in the
diagonal form of their code, which the SalUn and SSD papers' codes repeat. With F the diagonal of the Fisher information of the retain
samples, in evaluation mode and in expectation over the network's own label distribution,

    F = mean over samples x of sum over classes y of p(y | x) * (gradient of log p(y | x))^2
    v = `noise` * min(1 / (F + 1e-8), 1000)       (100 in the last layer), weights of two and more dimensions averaged over their second
    v = 10 * v                                     in the last layer and for parameters of one dimension (norms, biases)
    w = w + sqrt(v) * standard normal draws

(The paper's own noise falls with F^(1/4); the code's with F^(1/2).) Forget samples are not used. All values of `noise` share one F and the
same draws.

With `batch_size` 1, the default, x is one sample, as in SSD's code. SalUn's code takes batches of 32: the square is that of the gradient of
the batch's mean log p(y | x), and its weight is the batch's mean p(y | x). Gradients of different samples cancel, so F is smaller.

Deviations: the last layer is determined from the network, not from the shape of parameters; the step that resets a class to be forgotten
completely is omitted, because there is none; squares are summed in float64.

Frozen parameters (requires_grad=False) have no Fisher information and get no noise.

Shapes: B batch, C classes, K parameters that are not frozen (each of its own shape).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines import sample_sources
from baselines.last_layers import layer_names
from baselines.sample_sources import Source
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Need, Passes, Run, SampleCount, Samples, Sizes, Task, TaskType
from sap_core.errors import UserError, at_least
from sap_core.models.copies import copied
from sap_core.models.ensemble import Ensemble
from sap_core.models.modes import batch_statistics
from sap_core.seeding import stream
from trainers import optim

# Samples loaded at once where gradients are computed one sample at a time.
LOADED = 64


def fisher_information(model: nn.Module, samples: Samples, run: Run, batch_size: int = 1) -> list[Tensor]:
    """Returns F for each of the K parameters (float64); `model` must be in evaluation mode.

    Raises:
        UserError: all parameters are frozen.
    """
    parameters = optim.trainable(model.parameters())
    total_K = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    count = 0
    for batch in samples.batches(LOADED if batch_size == 1 else batch_size):
        for x in batch.inputs.split(1) if batch_size == 1 else (batch.inputs,):
            count += 1
            log_BC = model(x).log_softmax(1)
            p_C = log_BC.detach().exp().mean(0)
            # The expectation is over the network's own predictions, so the given label, which may be wrong, does not enter.
            for p, log in zip(p_C, log_BC.mean(0), strict=True):
                # The graph is kept for the sample's other classes. A parameter that no class depends on counts as zero and gets the capped
                # variance.
                gradients_K = torch.autograd.grad(log, parameters, retain_graph=True, materialize_grads=True)
                for total, gradient in zip(total_K, gradients_K, strict=True):
                    # In float64: squares of small gradients vanish in float32.
                    total += p * gradient.double() ** 2
            run.meter.count(forwards=len(x), backwards=len(x) * len(p_C))
    return [total / count for total in total_K]


def variances(model: nn.Module, information_K: Sequence[Tensor]) -> list[Tensor]:
    """Returns the variances v at noise 1 for each of the K parameters."""
    # With the dot, so that a layer `fc1` does not match the parameters of `fc10`.
    last = tuple(f"{name}." for name in _heads(model))
    found = []
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for (name, parameter), fisher in zip(named, information_K, strict=True):
        head = name.startswith(last)
        # The constants are those of the reference code: 1e-8 avoids a division by zero, and the cap bounds the noise of weights that F says
        # nothing about.
        v = (1 / (fisher + 1e-8)).clamp(max=100 if head else 1000)
        # All inputs of an output share one variance.
        if parameter.ndim > 1:
            v = v.mean(dim=1, keepdim=True).expand_as(parameter)
        found.append(10 * v if head or parameter.ndim == 1 else v)
    return found


def _heads(model: nn.Module) -> list[str]:
    """Returns the name of the last layer; for an ensemble, of each member's."""
    if isinstance(model, Ensemble):
        return [f"nets.{number}.{layer_names(net)[-1]}" for number, net in enumerate(model.nets)]
    return layer_names(model)[-1:]


@dataclass(frozen=True)
class Fisher:
    """See the module's docstring. All values of `noise` share one Fisher information."""

    name: ClassVar[str] = "fisher"
    version: ClassVar[int] = 1

    noise: float = 1.0e-6
    batch_size: int = 1  # samples whose mean gradient is squared: 1 in SSD's code, 32 in SalUn's
    num_retain: int = field(default=1000, metadata=RETAIN_COUNT)
    source: Source = "oracle"
    num_forget: SampleCount = field(default=None, metadata=FORGET_COUNT)  # source=identified: number of known wrong samples to leave out

    def __post_init__(self) -> None:
        sample_sources.check_counts("fisher", self.source, self.num_retain, self.num_forget, forgets=False)
        at_least("fisher", 0, noise=self.noise)
        at_least("fisher", 1, batch_size=self.batch_size)

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task, and for a network without trainable parameters or in which samples interact."""
        sample_sources.check_classes("fisher", kind, "takes expectations over classes")
        optim.refuse_frozen(network.parameters())
        if layer := batch_statistics(network):
            raise UserError(
                f"method 'fisher' needs the gradient of each sample on its own, but batch norm '{layer}' has no running statistics, so "
                "that a sample's outputs depend on its batch; leave 'fisher' out of methods, or use a network that tracks them"
            )

    def family(self) -> Hashable:
        """All fields that the Fisher information depends on."""
        return ("fisher", self.batch_size, self.num_retain, self.num_forget, self.source)

    def computation(self) -> Hashable:
        return (self.family(), self.noise)

    @classmethod
    def correct(cls, settings: Sequence[Fisher], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Computes the Fisher information once, then yields one noisy copy per setting in the given order (all cost the same)."""
        first = settings[0]
        first.refuse(task.kind, model)
        retain = sample_sources.retain_samples(first, model, task, run)
        with run.meter("collect"):
            # On a copy in evaluation mode: the given network stays as it is, and its running statistics do not move.
            frozen = copied(model).eval()
            variance_K = variances(frozen, fisher_information(frozen, retain, run, first.batch_size))
            generator = stream(task.seed, "correct", "noise").generator()
            # One set of draws for all values of `noise`, so that these differ by a factor only. Drawn on the CPU, so that devices agree.
            # For frozen parameters as well, which do not use theirs, so that no draw depends on what is frozen.
            draws = [(parameter, torch.randn(parameter.shape, generator=generator)) for parameter in frozen.parameters()]
            draws_K = [drawn.to(task.device) for parameter, drawn in draws if parameter.requires_grad]
        for position, setting in enumerate(settings):
            with run.meter("correct", used_by=[position]), torch.no_grad():
                corrected = copied(frozen)
                for parameter, variance, drawn in zip(optim.trainable(corrected.parameters()), variance_K, draws_K, strict=True):
                    # The variances are float64; the noise is rounded once, to the type of the weights.
                    parameter.add_(((setting.noise * variance).sqrt() * drawn).to(parameter.dtype))
            yield position, corrected

    @classmethod
    def forecast(cls, settings: Sequence[Fisher], sizes: Sizes) -> Passes:
        """One forward pass over the retain samples, and one backward pass for each class."""
        count = sample_sources.expected_counts(settings[0], sizes, forgets=False)[0]
        return sample_sources.scoring_passes(settings[0], sizes) + Passes(forwards=count, backwards=count * sizes.outputs)
