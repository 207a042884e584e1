"""Which weights SAP corrects in networks of torchvision and timm, and whether the result is right: writes docs/networks.md.

`python -m benchmarks.networks [--only PATTERN] [--quick]`; half an hour on one core, without downloads. Each network has random weights
(float64) and sees two random images. Right means: the corrected network's outputs equal those of the unmodified network in which the
*inputs* of every corrected weight are projected instead (`benchmarks.projected_inputs`). A network whose weights are refused, or whose
outputs differ, counts as one that does not work.
"""

from __future__ import annotations

import argparse
import fnmatch
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.projected_inputs import projected_outputs
from sap_core import sap_project
from sap_core.sap.weights import classify

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
ALPHA = 20.0
TOLERANCE = 1e-6
"""Largest deviation of an output, relative to the largest output of the unmodified network; correct networks reach 1e-9."""


@dataclass(frozen=True)
class Network:
    """A family and its smallest member."""

    library: str
    family: str
    name: str
    size: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return the network with random weights, in float64 and evaluation mode."""
        torch.manual_seed(0)
        if self.library == "torchvision":
            from torchvision.models import get_model

            model: nn.Module = get_model(self.name, weights=None, num_classes=10, **self.options)
        else:
            import timm

            model = timm.create_model(self.name, pretrained=False, num_classes=10, **self.options)
        for parameter in model.parameters():
            # Heads that start at zero, scales of residual branches and norms: with these the layers behind them have no effect.
            if parameter.numel() > 1 and parameter.std() == 0:
                parameter.data += 0.1 * torch.randn(parameter.shape)
        return model.double().eval()

    def images(self) -> Tensor:
        """Return two random images."""
        return torch.randn(2, 3, self.size, self.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _torchvision() -> list[Network]:
    image = {"image_size": 64}
    rows = [
        ("AlexNet", "alexnet"), ("ConvNeXt", "convnext_tiny"), ("DenseNet", "densenet121"), ("EfficientNet", "efficientnet_b0"),
        ("EfficientNetV2", "efficientnet_v2_s"), ("GoogLeNet", "googlenet", 64, {"init_weights": False}),
        ("Inception v3", "inception_v3", 75, {"init_weights": False}), ("MaxVit", "maxvit_t", 224), ("MNASNet", "mnasnet0_5"),
        ("MobileNetV2", "mobilenet_v2"), ("MobileNetV3", "mobilenet_v3_small"), ("RegNetX", "regnet_x_400mf"),
        ("RegNetY", "regnet_y_400mf"), ("ResNet", "resnet18"), ("ResNeXt", "resnext50_32x4d"), ("ShuffleNetV2", "shufflenet_v2_x0_5"),
        ("SqueezeNet", "squeezenet1_1"), ("Swin", "swin_t"), ("Swin v2", "swin_v2_t"), ("VGG", "vgg11"), ("VGG with batch norm", "vgg11_bn"),
        ("ViT", "vit_b_32", 64, image), ("Wide ResNet", "wide_resnet50_2"),
    ]  # fmt: skip
    return [Network("torchvision", *row) for row in rows]


def _timm() -> list[Network]:
    image = {"img_size": 64}
    rows = [
        ("BEiT", "beit_base_patch16_224", 64, image), ("BotNet", "botnet26t_256", 256), ("CaiT", "cait_xxs24_224", 64, image),
        ("CoaT", "coat_lite_tiny", 64, image), ("ConvMixer", "convmixer_768_32"), ("ConvNeXtV2", "convnextv2_atto"),
        ("CrossViT", "crossvit_tiny_240", 240), ("CSPNet", "cspresnet50"), ("DaViT", "davit_tiny", 64), ("DeiT", "deit_tiny_distilled_patch16_224", 64, image),
        ("DLA", "dla46_c"), ("DPN", "dpn48b"), ("EdgeNeXt", "edgenext_xx_small"), ("EfficientFormer", "efficientformer_l1", 224),
        ("EfficientFormerV2", "efficientformerv2_s0", 224), ("EfficientNet-Lite, TensorFlow padding", "tf_efficientnet_lite0"),
        ("EfficientViT (MIT)", "efficientvit_b0"), ("EfficientViT (MSRA)", "efficientvit_m0", 224), ("EVA-02", "eva02_tiny_patch14_224", 56, {"img_size": 56}),
        ("FastViT", "fastvit_t8"), ("FocalNet", "focalnet_tiny_srf"), ("GC ViT", "gcvit_xxtiny", 224), ("GENet", "gernet_s"),
        ("GhostNet", "ghostnet_050"), ("gMLP", "gmlp_ti16_224", 224), ("HaloNet", "halonet26t", 256), ("HGNet", "hgnetv2_b0"),
        ("Hiera", "hiera_tiny_224", 224), ("HRNet", "hrnet_w18_small"), ("Inception-ResNet", "inception_resnet_v2", 75),
        ("InceptionNeXt", "inception_next_atto", 224), ("LambdaNet", "lambda_resnet26rpt_256", 256), ("LeViT", "levit_128s", 224), ("MambaOut", "mambaout_femto"),
        ("CoAtNet", "coatnet_pico_rw_224", 224), ("MetaFormer", "poolformerv2_s12"), ("MLP-Mixer", "mixer_s32_224", 224),
        ("MobileNetV4", "mobilenetv4_conv_small_035"), ("MobileOne", "mobileone_s0"), ("MobileViT", "mobilevit_xxs"), ("MobileViTv2", "mobilevitv2_050"),
        ("Next-ViT", "nextvit_small", 64), ("NFNet", "eca_nfnet_l0"), ("PiT", "pit_ti_224", 224), ("PVT v2", "pvt_v2_b0"), ("RegNetZ", "regnetz_005"),
        ("Res2Net", "res2net50_48w_2s"), ("ResMLP", "resmlp_12_224", 224), ("ResNeSt", "resnest14d"), ("ResNetV2 (BiT)", "resnetv2_50x1_bit"), ("ReXNet", "rexnet_100"), ("RepVGG", "repvgg_a0"),
        ("RepViT", "repvit_m0_9"), ("SelecSLS", "selecsls42"), ("Sequencer", "sequencer2d_s", 224), ("SKNet", "skresnet18"), ("StarNet", "starnet_s1"), ("SwiftFormer", "swiftformer_xs", 224),
        ("Swin", "swin_tiny_patch4_window7_224", 224), ("Swin v2", "swinv2_tiny_window8_256", 256), ("TinyViT", "tiny_vit_5m_224", 224), ("TNT", "tnt_s_legacy_patch16_224", 224),
        ("Twins", "twins_svt_small", 64), ("ViT", "vit_tiny_patch16_224", 64, image), ("ViT, average pooling and registers", "vit_medium_patch16_reg4_gap_256", 64, image),
        ("ViT, attention pooling (SigLIP)", "vit_base_patch16_siglip_224", 64, image), ("ViT, relative positions", "vit_relpos_small_patch16_224", 64, image), ("VOLO", "volo_d1_224", 224), ("VoVNet", "ese_vovnet19b_slim"),
        ("Xception", "xception41"), ("XCiT", "xcit_nano_12_p16_224"),
    ]  # fmt: skip
    return [Network("timm", *row) for row in rows]


NETWORKS = [*_torchvision(), *_timm()]


@dataclass(frozen=True)
class Outcome:
    """What SAP does with a network. Counts are of parameters (weights of attention that share one count one by one)."""

    network: Network
    corrected: int
    left: int
    unreached: int
    refused: int
    reason: str = ""
    deviation: float | None = None  # of the outputs, relative to the largest

    @property
    def works(self) -> bool:
        """Whether nothing is refused and the outputs are right."""
        return self.refused == 0 and self.deviation is not None and self.deviation < TOLERANCE


@torch.no_grad()
def examine(network: Network) -> Outcome:
    """Classify the weights of a network, correct it, and compare it with projected inputs."""
    model, images = network.build(), network.images()
    found = classify(model, images)
    counts = len(found.sites), len(found.left), len(found.unreached), len(found.refused)
    if found.refused:
        reasons = Counter(found.refused.values()).most_common()
        return Outcome(network, *counts, "; ".join(f"{reason} ({count})" for reason, count in reasons))
    vanilla = model(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corrected = sap_project(model, images, ALPHA)(images)
    expected = projected_outputs(model, images, {site.region.parameter for site in found.sites.values()}, ALPHA)
    scale = vanilla.abs().max()
    deviation = float((corrected - expected).abs().max() / scale)
    changed = float((corrected - vanilla).abs().max() / scale)
    reason = "" if changed > 100 * deviation else "the correction changes no output"
    return Outcome(network, *counts, reason, deviation if not reason else None)


def page(outcomes: Sequence[Outcome]) -> str:
    """The text of docs/networks.md."""
    import timm
    import torchvision

    versions = {"torchvision": torchvision.__version__.split("+")[0], "timm": timm.__version__}
    lines = [
        "# Networks", "",
        "Which weights SAP corrects in the smallest network of each family, and which it leaves. Written by",
        "`python -m benchmarks.networks`: random weights, two random images. *checked*: the largest difference between the outputs of the",
        "corrected network and those of the unmodified network in which the inputs of every corrected weight are projected instead, relative",
        "to the largest output. *corrected* counts weights, the other columns parameters of two or more dimensions: *left* are added,",
        "multiplied element by element or meet constants only, *not reached* belong to layers that no pass in evaluation mode reaches, and",
        "*refused* need `leave` (see [adding.md](adding.md)).", "",
        *(summary(library, versions[library], outcomes) for library in versions), "",
    ]  # fmt: skip
    for library in versions:
        lines += [f"## {library}", ""]
        lines += [
            "| family | network | side | corrected | left | not reached | refused | checked |",
            "| :-- | :-- | --: | --: | --: | --: | --: | --: |",
        ]
        for each in outcomes:
            if each.network.library == library:
                checked = "—" if each.deviation is None else f"{each.deviation:.0e}"
                counts = f"{each.corrected} | {each.left} | {each.unreached} | {each.refused}"
                lines.append(f"| {each.network.family} | {each.network.name} | {each.network.size} | {counts} | {each.reason or checked} |")
        lines.append("")
    return "\n".join(lines)


def summary(library: str, version: str, outcomes: Sequence[Outcome]) -> str:
    """One line: how many networks of a library work."""
    own = [each for each in outcomes if each.network.library == library]
    works = sum(each.works for each in own)
    return f"- {library} {version}: {works} of {len(own)} families work ({works / max(1, len(own)):.0%})."


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="pattern of names of networks; the page is not written")
    parser.add_argument("--quick", action="store_true", help="one small network, to check that it runs")
    options = parser.parse_args(arguments)
    pattern = "shufflenet_v2_x0_5" if options.quick else options.only
    torch.set_num_threads(1)
    outcomes = []
    for network in (each for each in NETWORKS if fnmatch.fnmatch(each.name, pattern)):
        start = time.perf_counter()
        outcomes.append(examine(network))
        print(f"{time.perf_counter() - start:5.1f} s  {outcomes[-1]}", flush=True)
    if pattern == "*":
        PAGE.write_text(page(outcomes))


if __name__ == "__main__":
    main()
