"""python -m sap_core.data.prepare NAME --from DIR --to DIR: sorts the files of an extracted release into the folders that a data set reads.

Files are hard-linked if both folders are on one file system, and copied otherwise. The release is not changed. Existing files are skipped,
so an interrupted preparation can be continued. The numbers of images are printed and stored in `prepared.json`, with the published numbers.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sap_core.command_line import Parser, examples, path_argument, program, report_error
from sap_core.data.clothing1m import NUM_VAL, Clothing1M
from sap_core.data.csv_files import csv_bytes
from sap_core.data.imagenet import ImageNet
from sap_core.data.imagenette import Imagenette
from sap_core.data.mini_webvision import MiniWebVision
from sap_core.data.names import SUFFIXES, is_hidden, printable
from sap_core.data.published_images import PublishedImages
from sap_core.data.release_lists import labels_of, lines_of, words_of
from sap_core.data.tree_listing import images_below
from sap_core.data.webvision import WebVision
from sap_core.errors import UserError
from sap_core.files import replacing, save_json
from sap_core.location import version_line

Pair = tuple[Path, str]
"""A file of the release, and its path below the folder of the data set."""


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 after a user error."""
    try:
        options = parser().parse_args(arguments)
        # Counts are those found in the folders, also of an earlier, interrupted run, not those of the files linked now.
        counts = prepare(options.name, options.source, options.target)
    except (UserError, OSError) as error:
        return report_error(error)
    cls, published = SETS[options.name]
    dataset: PublishedImages = cls()  # type: ignore[call-arg]  # every subclass has its counts as defaults
    for part, count in counts.items():
        print(f"{dataset.folder}/{part}: {count} images{'' if count == published[part] else f' (published: {published[part]})'}")
    # `num_train` counts training and validation images together.
    own = counts.get(dataset.own_validation, 0) if dataset.own_validation else 0
    train, test = counts[dataset.parts[0]] + own, counts[dataset.parts[1]]
    # The exact options to set, because a data set refuses other numbers than those that it was given.
    if (train, test) != (dataset.num_train, dataset.num_test):
        print(f"this copy needs dataset.num_train={train} dataset.num_test={test}" + (f" dataset.validation={own}" if own else ""))
    return 0


def parser() -> Parser:
    """Return the argument parser of the command line; has no side effects."""
    built = Parser("python -m sap_core.data.prepare", "Sorts the files of an extracted release into the folders of a data set.")
    built.add_argument("--version", action="version", version=version_line(), help="print the version and the folder of the code")
    built.add_argument("name", choices=sorted(SETS), metavar="NAME", help=f"data set: {', '.join(sorted(SETS))}")
    built.add_argument("--from", dest="source", type=path_argument, required=True, metavar="DIR", help="folder of the extracted release")
    built.add_argument("--to", dest="target", type=path_argument, required=True, metavar="DIR", help="data folder (paths.data)")
    built.epilog = examples(
        "python -m sap_core.data.prepare mini_webvision --from /downloads/webvision --to data",
        note="Within a sweep: sap-sweep prepare experiment=table3 --from mini_webvision=/downloads/webvision",
    )
    return built


def prepare(name: str, source: Path, target: Path) -> dict[str, int]:
    """Create the folders of a data set below `target`.

    Args:
        name: name of the data set, a key of `SETS`.
        source: folder of the extracted release.
        target: data folder.

    Returns:
        The number of images of each part.

    Raises:
        UserError: a list or folder of the release is missing, or lists and images do not match.
    """
    cls, published = SETS[name]
    base = target / cls.folder
    missing: list[Path] = []
    # A lazy pass: lists of millions of images are never in memory as pairs.
    for file, relative in _PREPARERS[name](source, base):
        if file.is_file():
            _link_or_copy(file, base / relative)
        else:
            # Counted and not refused: the numbers found are printed beside the published ones.
            missing.append(file)
    counts = {part: sum(1 for _ in images_below(base / part)) for part in published}
    # A part without any image means a wrong folder, which is refused; single missing images are reported.
    empty = [part for part, count in counts.items() if count == 0]
    if empty:
        raise UserError(
            f"no images for {', '.join(empty)} of {name} were found below '{source}' ({len(missing)} listed images are missing); "
            f"set --from to the folder of the extracted release"
        )
    if missing:
        print(f"{len(missing)} listed images are missing below '{source}', the first: '{printable(missing[0])}'", file=sys.stderr)
    # Written last, when all files are in place.
    save_json(base / "prepared.json", {"images": counts, "published": dict(published), "listed_but_missing": len(missing)})
    return counts


def _link_or_copy(file: Path, target: Path) -> None:
    # Makes an interrupted preparation continue where it ended.
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A hard link costs no space and survives if the release's folder is removed.
        os.link(file, target)
    except OSError:  # another file system, or one without hard links
        try:
            shutil.copy2(file, target)
        except OSError as error:
            raise UserError(f"'{target}' cannot be written ({error.strerror}); free disk space or set --to to another folder") from error


def _folders(source: Path, base: Path) -> Iterator[Pair]:
    """Imagenette and ImageNet: train/SYNSET and val/SYNSET, in `source` or in a folder below it."""
    # Archives differ in whether they have a folder of their own around train and val.
    inside = [source, *(path for path in sorted(_entries(source)) if path.is_dir())]
    root = next((folder for folder in inside if (folder / "train").is_dir() and (folder / "val").is_dir()), None)
    if root is None:
        raise UserError(
            f"'{source}' contains no folders train and val; extract the release there "
            f"(torchvision.datasets.ImageNet creates them from the archives of ILSVRC)"
        )
    for part in ("train", "val"):
        for folder in sorted(path for path in _entries(root / part) if path.is_dir() and not is_hidden(path.name)):
            for file in _images(folder):
                yield file, f"{part}/{folder.name}/{file.name}"


def _webvision(source: Path, base: Path) -> Iterator[Pair]:
    return _web(source, ("google", "flickr"), 1000)


def _mini_webvision(source: Path, base: Path) -> Iterator[Pair]:
    return _web(source, ("google",), 50)


def _web(source: Path, engines: Iterable[str], num_classes: int) -> Iterator[Pair]:
    """WebVision, by its lists: order of classes, query -> class (from 1), validation image -> class (from 0). First classes only."""
    info = source / "info"
    # The mini set is the first 50 classes of the same list.
    synsets = [line[0] for line in words_of(info / "synsets.txt", 1)][:num_classes]
    # The release numbers classes from 1 in this list and from 0 in the validation list.
    of_query = {int(query.lstrip("q")): int(label) - 1 for query, label in words_of(info / "queries_synsets_map.txt", 2)}
    for engine in engines:
        folder = next((source / name for name in (f"{engine}_resized_256", engine) if (source / name).is_dir()), None)
        if folder is None:
            raise UserError(f"'{source}' contains no folder {engine}_resized_256 or {engine}; extract WebVision's archives there")
        for query, label in sorted(of_query.items()):
            if label < len(synsets) and (folder / f"q{query:04d}").is_dir():
                for file in _images(folder / f"q{query:04d}"):
                    # Engine and query become part of the name, so that files of equal names from two queries stay apart.
                    yield file, f"train/{synsets[label]}/{engine}_q{query:04d}_{file.name}"
    for name, text in labels_of(info / "val_filelist.txt"):
        if int(text) < len(synsets):
            yield source / "val_images_256" / name, f"val/{synsets[int(text)]}/{name}"


def _clothing1m(source: Path, base: Path) -> Iterator[Pair]:
    """Clothing1M, by its lists. Noisy images that are also verified validation or test images are removed.

    Noisy training images whose labels people verified are listed in verified.csv.
    """
    # Keys are paths, which may contain spaces.
    noisy, clean = (dict(labels_of(source / f"{kind}_label_kv.txt")) for kind in ("noisy", "clean"))
    keys = {part: [key for _, key in lines_of(source / f"{part}_key_list.txt")] for part in ("noisy_train", "clean_val", "clean_test")}
    # An image must not be both in the noisy training part and in a verified part, or scores would be on training images.
    checked = {*keys["clean_val"], *keys["clean_test"]}
    audit = []
    for key in keys["noisy_train"]:
        if key not in checked:
            relative = f"noisy_train/{_query(noisy, key)}/{_flat(key)}"
            # A noisy image with a verified label: its own label stays the given one, and the audit names the true one.
            if key in clean:
                audit.append((relative, _query(clean, key)))
            yield source / key, relative
    for part, name in (("clean_val", "val"), ("clean_test", "test")):
        for key in keys[part]:
            yield source / key, f"{name}/{_query(clean, key)}/{_flat(key)}"
    base.mkdir(parents=True, exist_ok=True)
    # After the last image, because the generator collects the audit on its way.
    with replacing(base / "verified.csv") as temporary:
        temporary.write_bytes(csv_bytes(("path", "true_label"), audit))


def _query(labels: Mapping[str, str], key: str) -> str:
    """Return the folder of an image's class."""
    if key not in labels:
        raise UserError(f"image '{key}' is in a list of Clothing1M but has no label; extract the release again")
    return f"q{int(labels[key]):04d}"


def _flat(key: str) -> str:
    # The release's subfolders become part of the name, so that images of equal names stay apart.
    return key.removeprefix("images/").replace("/", "_")


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if path.suffix.lower() in SUFFIXES and not is_hidden(path.name))


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise UserError(
            f"there is no readable folder '{folder}' ({error.strerror}); set --from to the folder of the extracted release"
        ) from error


_PREPARERS: Mapping[str, Callable[[Path, Path], Iterator[Pair]]] = {
    "imagenette": _folders, "imagenet": _folders, "webvision": _webvision, "mini_webvision": _mini_webvision, "clothing1m": _clothing1m,
}  # fmt: skip

SETS: Mapping[str, tuple[type[PublishedImages], Mapping[str, int]]] = {
    "imagenette": (Imagenette, {"train": 9_469, "val": 3_925}),
    "imagenet": (ImageNet, {"train": 1_281_167, "val": 50_000}),
    "webvision": (WebVision, {"train": 2_439_574, "val": 50_000}),
    "mini_webvision": (MiniWebVision, {"train": 65_944, "val": 2_500}),
    "clothing1m": (Clothing1M, {"noisy_train": 1_000_000, "val": NUM_VAL, "test": 10_526}),
}
"""Name -> class, and the published number of images of each part."""

if __name__ == "__main__":
    sys.exit(main())
