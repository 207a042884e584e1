"""Plans the jobs of checked cells. A pure function of the configuration: no data are read, and parents precede their children.

The id of a job or row is the hash of what determines its result (docs/ids.md): job type, components by kind, name and version,
the name of the search space, the seed, and the ids of parents. Import paths, commits, backends, devices, threads and experiments are not
part of it, so that sweeps share baselines and a moved class changes no id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sap_core.api import Corrector, Passes, Sizes
from sap_core.data.source import DeclaresValidationLabels, Fingerprint, InputNoise, audit_file
from sap_core.evaluation.evaluator import PROBE_SIZE
from sap_core.identity import canonical_json, content_id
from sap_core.records import VANILLA, Planned
from sweeper.config.schema import Config
from sweeper.jobs.context import information_of
from sweeper.jobs.job import Job, PlannedRun
from sweeper.plan.cell import PREPROCESS, Cell, GridSearch
from sweeper.plan.flops import Flops, flops_of
from sweeper.search.cost_bound import upper_bound_passes
from sweeper.search.trial_search import TrialSearch
from trainers.speed import training_speed

NOT_IN_IDS = ("verify", "download", "duplicates")
"""Fields of data sets that change no result, given a verified copy of the data; what `duplicates` drops changes the fingerprint."""


@dataclass(frozen=True)
class Plan:
    """The jobs in the order in which they should start, one record per row that they will write, and what was reported about the data."""

    jobs: tuple[Job, ...]
    rows: tuple[Planned, ...]
    data_report: tuple[str, ...] = ()


def make_plan(config: Config, cells: Sequence[Cell], fingerprints: Mapping[str, Fingerprint]) -> Plan:
    """Plan every cell. The first seed of every cell comes before the second seed of any, so that tables fill evenly.

    Args:
        config: the checked configuration.
        cells: the checked cells.
        fingerprints: fingerprint of each data set by `dataset_key`; a missing one (in a dry run, which reads no data) counts as verified.
    """
    jobs: dict[str, Job] = {}
    rows: dict[str, Planned] = {}
    # Seed by seed: after the first pass every cell has one complete result.
    for seed in seeds_of(config):
        for number, cell in enumerate(cells):
            for job, planned in _cell_jobs(config, cell, seed, fingerprints.get(dataset_key(cell), Fingerprint(True, ""))):
                known = jobs.get(job.job_id, job)
                # A warmup network of one cell may also be the baseline of another; then it is labelled as a baseline.
                if known.labels["stage"] and not job.labels["stage"]:
                    known = replace(job, cells=known.cells)
                    rows.update({row.run_id: row for row in planned})
                # A baseline that several cells or sweeps need has one id and is trained once; it lists every cell, so that orders by cell
                # can find it.
                jobs[job.job_id] = replace(known, cells=(*known.cells, number))
                for row in planned:
                    # The first cell labels a shared row; reports find it from the other cells by its baseline id.
                    rows.setdefault(row.run_id, row)
    return Plan(tuple(jobs.values()), tuple(rows.values()))


def seeds_of(config: Config) -> list[int]:
    """The seeds to run; a smoke run takes the first ones."""
    return config.seeds[: config.debug.seeds] if config.debug.name else config.seeds


def dataset_key(cell: Cell) -> str:
    """A string that identifies a data set with its options."""
    return canonical_json(cell.dataset.entry)


def _cell_jobs(config: Config, cell: Cell, seed: int, fingerprint: Fingerprint) -> Iterator[tuple[Job, list[Planned]]]:
    """The chain of one cell and seed: [train the warmup network -> select ->] train -> tune or search."""
    # The FLOPs of a pass depend on network and input shape only, so every job of the cell is forecast from counts of passes.
    planner = _CellPlanner(config, cell, seed, fingerprint, flops_of(cell.model, cell.dataset))
    select = None
    # Each stage is a job with an id of its own: all selections share a warmup network, and all trainers a selection.
    if cell.pruner:
        # The warmup is planned as a cell of its own, so that it may be the baseline of another cell.
        warmup = replace(planner, cell=cell.warmup_cell()).train(None)
        select = planner.select(warmup[0])
        yield warmup
        yield select
    train = planner.train(select[0] if select else None)
    yield train
    for search in cell.searches:
        yield from planner.tune(train[0], search)
    for sampled in cell.trial_searches:
        yield planner.search(train[0], sampled)


@dataclass(frozen=True)
class _CellPlanner:
    """Makes the jobs of one cell and seed."""

    config: Config
    cell: Cell
    seed: int
    fingerprint: Fingerprint
    flops: Flops

    def _baseline_columns(self, method: Corrector, baseline: Job) -> dict[str, Any]:
        """Columns of the information that a method uses, and of the pruning of its baseline."""
        # Samples verified by a user are a weaker assumption than the true labels of a benchmark, so rows tell them apart.
        by_file = bool(audit_file(self.cell.dataset.instance))
        pruned = {key: baseline.labels[key] for key in ("pruner", "keep_fraction", "warmup_trainer")}
        return {"information": information_of(method, by_file), **pruned}

    def train(self, select: Job | None) -> tuple[Job, list[Planned]]:
        """The job that trains the baseline, on all training samples or on those that a select job kept."""
        cell, spec = self.cell, self._spec(select)
        job_id = content_id(self._baseline_identity(select))
        kept = None if select is None else cell.keep_fraction
        # A baseline trains on what the pruner kept. The last term is the pass that measures the accuracy on the given training labels.
        num_train = round(cell.sizes[0] * (kept or 1.0))
        passes = cell.trainer.instance.forecast(Sizes(num_train, cell.sizes[1])) + self._scoring(1) + Passes(num_train)
        labels = self._labels(VANILLA, None, job_id, cell.trainer.version) | {
            "information": "none", "pruner": cell.pruner.name if select and cell.pruner else None, "keep_fraction": kept,
            "warmup_trainer": select.labels["warmup_trainer"] if select else None,
        }  # fmt: skip
        run = PlannedRun(job_id, 0, cell.trainer.columns)
        return self._job(job_id, "train", spec, (run,), labels, (select.job_id,) if select else (), passes, [0])

    def select(self, warmup: Job) -> tuple[Job, list[Planned]]:
        """The job that selects training samples by the warmup network, which was trained on all of them."""
        cell = self.cell
        assert cell.pruner is not None
        # The keys of identities are part of every id: renaming one would retrain all stored results.
        identity = {"kind": "select", "baseline": warmup.job_id, "pruner": cell.pruner.identity(), "keep": cell.keep_fraction}
        job_id = content_id(identity)
        spec = {"baseline": warmup.spec, "pruner": cell.pruner.entry, "keep_fraction": cell.keep_fraction}
        labels = self._labels(cell.pruner.name, None, warmup.job_id, cell.pruner.version)
        labels |= {"information": "scored", "pruner": cell.pruner.name, "keep_fraction": cell.keep_fraction}
        # The row of a selection names the trainer that it depends on, which is the warmup's.
        labels |= {"trainer": warmup.labels["trainer"], "warmup_trainer": warmup.labels["trainer"]}
        run = PlannedRun(job_id, 0, cell.pruner.columns)
        return self._job(job_id, "select", spec, (run,), labels, (warmup.job_id,), Passes(cell.sizes[0]), [0])

    def tune(self, baseline: Job, search: GridSearch) -> Iterator[tuple[Job, list[Planned]]]:
        """The jobs of a grid search, one per family of settings."""
        # One job per family: its settings share work, and several families can run at once.
        identities = search.identities
        for positions in search.families:
            chosen = [search.settings[position] for position in positions]
            runs = tuple(
                PlannedRun(self._run_id(baseline, search, identities[position]), position, setting.columns, setting.entry)
                for position, setting in zip(positions, chosen, strict=True)
            )
            # The id follows from the settings of the family, so a family that grew is a new job and runs completely, while the others keep
            # theirs. A job split into old and new settings could not say which work they shared.
            job_id = content_id({"kind": "tune", "runs": [run.run_id for run in runs]})
            instances = [setting.instance for setting in chosen]
            passes = type(instances[0]).forecast(instances, self._sizes()) + self._scoring(len(runs))
            labels = self._labels(search.method, search, baseline.job_id, chosen[0].version)
            labels |= self._baseline_columns(instances[0], baseline)
            spec = {"baseline": baseline.spec}
            numbers = [search.computation_ids[position] for position in positions]
            yield self._job(job_id, "tune", spec, runs, labels, (baseline.job_id,), passes, numbers)

    def search(self, baseline: Job, search: TrialSearch) -> tuple[Job, list[Planned]]:
        """The job of a sampled search. Its settings are not known in advance, so its rows are identified by the numbers of their trials."""
        job_id = content_id({"kind": "search", "baseline": baseline.job_id, **search.identity})
        # The settings are chosen while the search runs, but their number is known: no trial is left out later, so every planned id gets a
        # row.
        runs = tuple(
            PlannedRun(content_id({"kind": "search", "job": job_id, "trial": number}), number, {}) for number in range(search.trials)
        )
        base = search.target.base
        labels = self._labels(search.method, search, baseline.job_id, base.version) | {
            **self._baseline_columns(base.instance, baseline),
            "search": search.name, "search_budget": search.budget, "search_seed": search.seed,
        }  # fmt: skip
        # The forecast of a sampled search is an upper bound, because its settings are unknown.
        passes = upper_bound_passes(search, self._sizes()) + self._scoring(len(runs))
        spec = {"baseline": baseline.spec, "search": search.spec}
        return self._job(job_id, "search", spec, runs, labels, (baseline.job_id,), passes, range(len(runs)))

    def _job(
        self, job_id: str, job_type: str, spec: dict[str, Any], runs: tuple[PlannedRun, ...], labels: dict[str, Any],
        parents: tuple[str, ...], passes: Passes, computations: Sequence[int],
    ) -> tuple[Job, list[Planned]]:  # fmt: skip
        backend = self.config.backend
        flops = self.flops.total(passes)
        # As Ray counts them; no id contains them.
        resources = {"cpus": float(backend.threads), "gpus": backend.gpus_per_job}
        job = Job(
            job_id, job_type, spec, runs, labels, parents, resources, backend.timeout_seconds, backend.threads, backend.reproducible, flops
        )
        planned = [
            Planned(
                run_id=run.run_id, job_id=job_id, job_type=job_type, parents=",".join(parents), cell=self.cell.name,
                dataset=labels["dataset"], noise=labels["noise"], noise_rate=labels["noise_rate"], network=labels["network"],
                trainer=labels["trainer"], method=labels["method"], space=labels["space"], space_hash=labels["space_hash"],
                position=run.position, settings=canonical_json(run.settings), computation_id=number, seed=self.seed,
                baseline_id=labels["baseline_id"], forecast_flops=None if flops is None else flops / len(runs), search=labels["search"],
                search_budget=labels["search_budget"], search_seed=labels["search_seed"],
            )
            for run, number in zip(runs, computations, strict=True)
        ]  # fmt: skip
        return job, planned

    def _spec(self, select: Job | None) -> dict[str, Any]:
        """Plain data from which any machine can build the baseline's data and network."""
        cell = self.cell
        return {
            "dataset": cell.dataset.entry, "noise": cell.noise.entry, "model": cell.model.entry, "trainer": cell.trainer.entry,
            "preprocess": cell.preprocess, "seed": self.seed, "limit": cell.limit, "selection": {"job": select.job_id} if select else None,
        }  # fmt: skip

    def _baseline_identity(self, select: Job | None) -> dict[str, Any]:
        cell = self.cell
        # As for components, only what differs from the defaults enters the id.
        preprocess = {key: value for key, value in cell.preprocess.items() if value != PREPROCESS.get(key)}
        identity = {
            "kind": "train", "dataset": cell.dataset.identity(NOT_IN_IDS), "noise": cell.noise.identity(), "model": cell.model.identity(),
            "trainer": cell.trainer.identity(), "preprocess": preprocess, "seed": self.seed,
        }  # fmt: skip
        # An unverified copy of the data counts by its content, so that two different copies never share a baseline.
        if not self.fingerprint.verified:
            identity["fingerprint"] = self.fingerprint.digest
        if cell.limit:
            identity["limit"] = cell.limit
        if select:
            identity["selection"] = select.job_id
        return identity

    def _run_id(self, baseline: Job, search: GridSearch, setting: Mapping[str, Any]) -> str:
        # The name of the space is part of the id because a setting's cost depends on the settings it shares work with, so the same setting
        # in two spaces is two rows. Its hash is not part of it: a widened space keeps the rows that it has.
        return content_id({"kind": "tune", "baseline": baseline.job_id, "method": setting, "space": search.space})

    def _labels(self, method: str, search: GridSearch | TrialSearch | None, baseline_id: str, version: int) -> dict[str, Any]:
        cell = self.cell
        return {
            "experiment": self.config.name, "debug": self.config.debug.name, "dataset": cell.dataset.name,
            "dataset_verified": self.fingerprint.verified, "noise": cell.noise.name, "noise_rate": cell.noise_rate,
            "network": cell.model.name, "trainer": cell.trainer.name, "pruner": None, "keep_fraction": None, "warmup_trainer": None,
            "stage": cell.stage,
            "baseline_id": baseline_id, "seed": self.seed, "method": method,
            "space": search.space if search else None, "space_hash": search.space_hash if search else None,
            "val_labels": _val_labels(cell),
            **speed_columns(cell.trainer.instance), "component_version": version,
            "search": None, "search_budget": None, "search_seed": None,
        }  # fmt: skip

    def _sizes(self) -> Sizes:
        train, val, _ = self.cell.sizes
        return Sizes(train, val, self.cell.dataset.instance.classes.num, round(train * self.cell.mislabelled_fraction))

    def _scoring(self, settings: int) -> Passes:
        """Forward passes that score `settings` models: on validation, test and a probe of mislabelled samples."""
        _, val, test = self.cell.sizes
        # Noise that changes inputs (a trigger patch) scores the test set twice: as it is, and with the change applied.
        test *= 2 if isinstance(self.cell.noise.instance, InputNoise) else 1
        # The number of mislabelled samples is an expectation here: labels are not drawn while planning.
        wrong = min(PROBE_SIZE, round(self.cell.sizes[0] * self.cell.mislabelled_fraction))
        return Passes(forwards=settings * (val + test + wrong))


def speed_columns(trainer: object) -> dict[str, Any]:
    """The columns of a trainer's speed options (precision, compile, ...)."""
    speed = training_speed(trainer)
    return asdict(speed) if speed else {"precision": "float32"}


def _val_labels(cell: Cell) -> str:
    """The column `val_labels`: clean if all given labels of the validation set are true, else noisy."""
    dataset = cell.dataset.instance
    # A data set may have clean validation labels of its own (Clothing1M); otherwise validation samples are part of the noisy training set.
    own = dataset.validation_is_clean if isinstance(dataset, DeclaresValidationLabels) else dataset.truth_known
    clean = own and not cell.mislabelled_fraction
    return "clean" if clean else "noisy"
