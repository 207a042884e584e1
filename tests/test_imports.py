"""Who may import what: the library stays light, tables need no torch, methods reach no true label, workers need neither Ray nor Hydra."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
LIBRARY = ("sap_core", "trainers", "baselines")
HEAVY = (
    "ray",
    "hydra",
    "omegaconf",
    "pyarrow",
    "pandas",
    "matplotlib",
    "sklearn",
    "torchvision",
    "wandb",
    "rich",
    "scipy",
    "PIL",
    "optuna",
    "timm",
)
TORCH_FREE = (
    "sap_core",
    "sap_core.records",
    "sap_core.identity",
    "sap_core.errors",
    "sap_core.files",
    "sap_core.guard",
    "sap_core.construct",
    "sap_core.mcnemar",
)

SUBSTRATE = ("api", "errors", "seeding", "cost", "roles", "run", "models", "im2col", "float64", "mcnemar", "data.samples")
"""What SAP, trainers and correctors may import of sap_core, in addition to sap_core.sap."""

FORBIDDEN_TEXTS = ("sap_core.data.verified", "sap_core.data.assemble", "sap_core.evaluation.evaluator")

IMPORT_ALL = """
import importlib, sys
forbidden = sys.argv[1].split(",")
for name in sys.argv[2:]:
    importlib.import_module(name)
    loaded = sorted(top for top in forbidden if top in sys.modules)
    assert not loaded, f"importing {name} loads {loaded}"
"""

BLOCK = """
import sys, runpy
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ray", "hydra", "omegaconf", "wandb", "optuna", "pandas", "matplotlib"):
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Block())
sys.argv = ["sweeper.execute", *sys.argv[1:]]
runpy.run_module("sweeper.execute", run_name="__main__")
"""


def modules(*packages: str) -> dict[str, Path]:
    """Dotted name -> file of every module of the packages."""
    found = {}
    for package in packages:
        for path in sorted((HOME / package).rglob("*.py")):
            parts = path.relative_to(HOME).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Every module and name that a file imports, anywhere in it: "a.b" for `import a.b`, "a", "a.b" for `from a import b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def importers(target: str) -> set[str]:
    everything = modules("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm", "examples")
    return {name for name, path in everything.items() if target in imports(path)}


def is_method(name: str) -> bool:
    top = name.partition(".")[0]
    return top in ("trainers", "baselines") or name == "examples.refit_head" or name == "sap_core.im2col" or name.startswith("sap_core.sap")


def fresh(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", *words], cwd=HOME, capture_output=True, text=True, timeout=120)


def test_the_library_needs_only_torch_and_numpy():
    done = fresh(IMPORT_ALL, ",".join(HEAVY), *modules(*LIBRARY))
    assert done.returncode == 0, done.stderr


def test_records_and_the_analysis_need_no_torch():
    for names in (TORCH_FREE, [name for name in modules("analysis") if not name.endswith("__main__")]):
        done = fresh(IMPORT_ALL, "torch,ray,hydra,omegaconf,sweeper,trainers,baselines", *names)
        assert done.returncode == 0, done.stderr


def test_planning_a_held_store_needs_neither_torch_nor_ray():
    done = fresh(
        IMPORT_ALL,
        "torch,ray",
        "sweeper.commands.run",
        "sweeper.config.compose",
        "sweeper.store.store",
        "sweeper.plan.job_filter",
        "sweeper.store.provenance",
        "slurm.script",
    )
    assert done.returncode == 0, done.stderr


def test_workers_run_where_ray_and_hydra_are_not():
    done = fresh(BLOCK, "--help")
    assert done.returncode == 0, done.stderr
    assert "Runs a file of jobs" in done.stdout


def test_true_labels_are_read_in_few_places():
    assert importers("sap_core.data.verified") == {"sap_core.data.assemble"}
    assert importers("sap_core.data.assemble") == {
        "sap_core.evaluation.evaluator",
        "sweeper.plan.feasibility", "sweeper.jobs.job_types", "sweeper.jobs.search_job", "sweeper.jobs.context",
    }  # fmt: skip
    assert importers("sap_core.evaluation.evaluator") == {
        "sap_core.evaluation.decision_boundary",
        "sweeper.jobs.job_types", "sweeper.plan.plan", "sweeper.jobs.search_job", "sweeper.jobs.context",
    }  # fmt: skip
    assert importers("sap_core.evaluation.decision_boundary") == {"sweeper.jobs.job_types"}
    assert importers("sap_core.data.noise") == set()  # named in conf/noise alone


def ways_to_true_labels(path: Path) -> set[str]:
    """Imports outside what methods may use, attributes past `Task.verified`, and dotted paths in strings."""
    within = {"sap_core." + part for part in (*SUBSTRATE, "sap")}
    ours = {found for found in imports(path) if found.startswith("sap_core.") and found != "sap_core.data"}
    ways = {found for found in ours if not any(found == part or found.startswith(part + ".") for part in within)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            ways |= {node.attr} & {"verified_source", "truth", "test_labels", "import_module"}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            ways |= {node.value} if node.value.startswith(FORBIDDEN_TEXTS) else set()
    return ways


def test_no_method_reaches_true_labels_or_data_sets():
    files = {name: path for name, path in modules("sap_core", "trainers", "baselines", "examples").items() if is_method(name)}
    assert len(files) > 50
    assert {name: ways for name, path in files.items() if (ways := ways_to_true_labels(path))} == {}


def test_ray_is_imported_by_its_backend_alone():
    files = modules("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm")
    found = {name for name, path in files.items() if any(imported.split(".")[0] == "ray" for imported in imports(path))}
    assert found == {"sweeper.backends.ray_backend"}


def test_nothing_is_pickled_and_two_kinds_of_files_are_unpickled():
    """CIFAR's files and checkpoints with other objects are pickles, and are read by restricted unpicklers."""
    where = {
        name
        for name, path in modules("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm").items()
        if {found.split(".")[0] for found in imports(path)} & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    }
    assert where == {"sap_core.data.unpickle", "sap_core.models.inert_pickle"}
    for name in where:
        uses = {
            node.attr
            for node in ast.walk(ast.parse(modules("sap_core")[name].read_text()))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
        }
        assert uses <= {"Unpickler", "UnpicklingError"}, name


@pytest.mark.parametrize("package", LIBRARY)
def test_packages_are_layers(package):
    order = ("sap_core", "trainers", "baselines", "sweeper", "slurm")
    above = {*order[order.index(package) + 1 :], "analysis"}
    for name, path in modules(package).items():
        assert not {found.split(".")[0] for found in imports(path)} & above, name


def test_files_stay_readable():
    """Nobody reads a file of 400 lines to its end."""
    for path in modules("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm").values():
        assert len(path.read_text().splitlines()) <= 400, path
