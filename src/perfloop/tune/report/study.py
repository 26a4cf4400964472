"""A Study as one HTML page, as Markdown, as JSON, and as the SQL of its kept changes.

Every figure comes from the Study, which is what the journal holds.
"""

from __future__ import annotations

import msgspec

from perfloop.model.outcome import Study
from perfloop.model.value import to_json
from perfloop.tune.report.page import render
from perfloop.tune.report.scripts import apply_sql, undo_sql
from perfloop.tune.report.story import StudyStory, result_sentence

__all__ = ["STUDY_FORMAT", "apply_sql", "study_html", "study_json", "study_markdown", "undo_sql"]

STUDY_FORMAT = "perfloop-study-1"


def study_html(study: Study) -> str:
    """One self-contained page: no network, no script, light and dark, for screens and for paper."""
    return _render("study.html.j2", study)


def study_markdown(study: Study) -> str:
    """The same in short, for a pull request or a ticket."""
    return _render("study.md.j2", study)


def study_json(study: Study) -> str:
    """The whole Study as JSON, which `from_json(text, Study)` reads back.

    Top-level keys are the fields of `Study` under their own names (study_id, target, started_at_s,
    finished_at_s, state, seed, fingerprint, lab_fingerprint, workload_origin, statements, skipped,
    findings, limitations, unexplained, trials, rechecks, confirmation, notes, plans_before,
    plans_after) and besides:

    * format: "perfloop-study-1"; a key is never renamed or removed under the same format.
    * result: the one-sentence result.
    * kept: titles of the changes in the final stack, in order.
    * apply_sql, undo_sql: the two scripts.
    """
    document = {
        "format": STUDY_FORMAT,
        "result": result_sentence(study),
        "kept": [trial.proposal.change.title for trial in study.kept()],
        **msgspec.to_builtins(study),
        "apply_sql": apply_sql(study),
        "undo_sql": undo_sql(study),
    }
    return msgspec.json.format(to_json(document), indent=2).decode() + "\n"


def _render(template: str, study: Study) -> str:
    return render(
        template,
        study=study,
        story=StudyStory(study),
        apply_sql=apply_sql(study),
        undo_sql=undo_sql(study),
    )
