"""Answers to the reproducibility questions of AAAI and NeurIPS, as far as a store can give them.

The questions are told in our words, in the order of the two checklists (AAAI's on data sets and computational experiments, NeurIPS's
numbered ones). What a store cannot know is left to the authors and says so. An answer is never better than what the rows show.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.choose import RULES, TIES
from analysis.labels import counted
from analysis.page.facts import Facts

YES, PARTIAL, NO, AUTHORS = "yes", "partial", "no", "authors"


@dataclass(frozen=True)
class Answer:
    """One question and its answer."""

    venue: str  # AAAI | NeurIPS
    topic: str
    question: str
    verdict: str  # yes | partial | no | authors (only they can answer)
    text: str


def answers(found: Facts) -> tuple[Answer, ...]:
    """All answers, AAAI's first."""
    said = {name: make(found) for name, make in _TEXTS.items()}
    return tuple(Answer(venue, topic, question, *said[name]) for venue, topic, question, name in _QUESTIONS)


def _data(found: Facts) -> tuple[str, str]:
    lacking = f"; not checked against published checksums: {', '.join(found.unverified)}" if found.unverified else ""
    return PARTIAL, (
        f"Data sets: {_list(found.datasets)}{lacking}. {found.sizes}. sap-report STORE cite writes their references; whether each may be "
        "shared is the authors' to say."
    )


def _search(found: Facts) -> tuple[str, str]:
    if not found.spaces:
        return AUTHORS, "The store holds no search of hyperparameters."
    tried = [(space, f" ({'; '.join(space.ranges)})" if space.ranges else "") for space in found.spaces]
    spaces = "; ".join(f"{space.label}: {counted(space.settings, 'setting')}{ranges}" for space, ranges in tried)
    return YES, f"{spaces}. Criterion: val_noisy, {RULES['val_noisy'].format(score='score')}. {TIES}"


def _code(found: Facts) -> tuple[str, str]:
    commits = _list(found.commits)
    if not found.commits:
        return NO, "No row says which code wrote it."
    if found.clean:
        return (
            YES,
            f"All rows were written by {counted(len(found.commits), 'commit')}: {commits}. Publishing the code is the authors' to do.",
        )
    return PARTIAL, f"Commits: {commits}; + marks rows written while tracked files differed from the commit."


def _seeds(found: Facts) -> tuple[str, str]:
    return YES, (
        f"Seeds {_list(found.seeds)}. Every draw is from a stream named by seed and purpose (noise, split, first weights, epoch); "
        "noise and split depend on neither network nor method, so that methods are paired. sap-sweep rerun STORE RUN_ID repeats one row."
    )


def _hardware(found: Facts) -> tuple[str, str]:
    memory = "" if found.peak_memory_bytes is None else f", at most {found.peak_memory_bytes / 2**20:,.0f} MiB held by a job"
    spent = "" if found.compute_seconds is None else f" {found.compute_seconds / 3600:.3g} compute hours over all jobs"
    shared = "" if found.alone else " (some shared their cores or GPU)"
    return PARTIAL, (
        f"Devices: {_list(found.devices)}; threads per job {_list(found.threads)}; {_list(found.precisions)}{memory};{spent}{shared}. "
        "Model of the processor, operating system and versions of libraries stand in no row: name them."
    )


def _metrics(found: Facts) -> tuple[str, str]:
    return YES, (
        "Accuracy (or R² for numbers) on the test set, evaluated once for the setting that the validation rule chose; the shares of wrong "
        "labels kept and repaired stand beside it. docs/store.md defines every column."
    )


def _runs(found: Facts) -> tuple[str, str]:
    verdict = YES if not found.missing and not found.failed else PARTIAL
    return verdict, (
        f"n = {counted(len(found.seeds), 'seed')} per result; {found.ok:,} of {found.planned:,} planned rows are ok, "
        f"{found.failed:,} failed and {found.missing:,} missing; failed settings count as tried."
    )


def _variation(found: Facts) -> tuple[str, str]:
    if len(found.seeds) < 2:
        return NO, "One seed: there is no spread to tell."
    return (
        YES,
        f"Means stand with their sample standard deviation (n - 1) over {counted(len(found.seeds), 'seed')}; raw rows are in the store.",
    )


def _significance(found: Facts) -> tuple[str, str]:
    if len(found.seeds) < 2:
        return NO, "One seed cannot be tested over seeds."
    return PARTIAL, (
        f"With {counted(len(found.seeds), 'seed')} per cell a small difference cannot be shown; name the test and the correction for "
        "several comparisons wherever one method is called better."
    )


def _parameters(found: Facts) -> tuple[str, str]:
    return YES, "Every row holds its whole setting as JSON; sap-report STORE table chosen lists the chosen ones, seed by seed."


def _setting(found: Facts) -> tuple[str, str]:
    noise = "; ".join(f"{one.dataset}, {one.noise}: {one.asked} asked, {one.measured} measured" for one in found.noises)
    return YES, (
        f"Networks {_list(found.networks)}, trained by {_list(found.trainers)} on {found.sizes}. Noise: {noise or 'not known yet'}. "
        f"Information used by methods: {_list(found.information)}."
    )


def _authors(found: Facts) -> tuple[str, str]:
    return AUTHORS, "For the authors: a store says nothing about it."


def _list(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values)) or "not known"


_TEXTS = {
    "data": _data, "search": _search, "code": _code, "seeds": _seeds, "hardware": _hardware, "metrics": _metrics, "runs": _runs,
    "variation": _variation, "significance": _significance, "parameters": _parameters, "setting": _setting, "authors": _authors,
}  # fmt: skip

_QUESTIONS = (
    ("AAAI", "Method", "Is the method outlined or given as pseudocode, and are facts kept apart from opinion?", "authors"),
    ("AAAI", "Data sets", "Are the data sets motivated, cited and public?", "data"),
    (
        "AAAI",
        "Hyperparameters tried",
        "How many values of each hyperparameter were tried, in which range, and how was one chosen?",
        "search",
    ),
    ("AAAI", "Code", "Is all code for preparing data, running and analysing the experiments given, under a free licence?", "code"),
    ("AAAI", "Randomness", "Is it said how seeds are set, well enough to repeat the results?", "seeds"),
    ("AAAI", "Infrastructure", "Are hardware and software named?", "hardware"),
    ("AAAI", "Metrics", "Are the evaluation metrics defined and motivated?", "metrics"),
    ("AAAI", "Number of runs", "How many runs stand behind each result?", "runs"),
    ("AAAI", "Variation", "Does the analysis show spread, not averages alone?", "variation"),
    ("AAAI", "Significance", "Are differences judged by suitable statistical tests?", "significance"),
    ("AAAI", "Final hyperparameters", "Are the final hyperparameters of every method listed?", "parameters"),
    ("NeurIPS", "1 Claims", "Do abstract and introduction say what the results show?", "authors"),
    ("NeurIPS", "2 Limitations", "Are the limitations discussed?", "authors"),
    ("NeurIPS", "3 Theory", "Are assumptions and proofs given?", "authors"),
    ("NeurIPS", "4 Reproducibility", "Can the main results be repeated from what is told?", "seeds"),
    ("NeurIPS", "5 Data and code", "Are data and code open, with instructions?", "code"),
    ("NeurIPS", "6 Settings", "Are splits, hyperparameters, how they were chosen, and optimisers told?", "setting"),
    ("NeurIPS", "7 Statistical significance", "Are error bars given and explained?", "variation"),
    ("NeurIPS", "8 Compute", "Are the kind of machine, memory and time told for each experiment?", "hardware"),
    ("NeurIPS", "9-11 Ethics, impact, safeguards", "Does the work keep to the code of ethics, and are its effects discussed?", "authors"),
    ("NeurIPS", "12 Existing assets", "Are data, code and models cited, with their licences?", "data"),
    (
        "NeurIPS",
        "13-16 New assets, people, language models",
        "Are new assets documented, and people and language models declared?",
        "authors",
    ),
)
