"""One Study: the whole loop from a target's DSN to a confirmed stack of changes. The target is only read.

The Study is saved after every step, so that a crash leaves what was found so far, and `perfloop recover`
removes the lab.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping

import msgspec

from perfloop.adapters.connection import safe_dsn
from perfloop.adapters.servers import PostgresBinaries
from perfloop.adapters.store import Journal, journal_path
from perfloop.analyze.checks import analyze
from perfloop.analyze.nothing import told_once
from perfloop.errors import InvalidInput, JournalDamaged
from perfloop.model.analysis import Analysis
from perfloop.model.outcome import Study, StudyState
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.workload import Workload
from perfloop.tune.advisor.advice import Advice, propose
from perfloop.tune.advisor.extend import SearchPolicy
from perfloop.tune.advisor.lab_rehearsal import rehearsal_beside
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.analysis import analyze_target
from perfloop.tune.lab.admission import admitted_binaries
from perfloop.tune.lab.lab import Lab
from perfloop.tune.lab.servers import LabServer, OwnServer, ScratchServer
from perfloop.tune.lab.settings import lab_settings
from perfloop.tune.observer import Observer
from perfloop.tune.rewrite_trials import RewriteTrials
from perfloop.tune.rewrites.rule import Rule
from perfloop.tune.rewrites.rules import RULES
from perfloop.tune.rounds import confirm_kept, recheck_all, try_all
from perfloop.tune.runnable import find_runnable
from perfloop.tune.study_plans import changed_plans, heaviest_draws, study_plans
from perfloop.tune.study_run import StudyOptions, StudyRun
from perfloop.tune.weighing import Weighing, weighed

__all__ = ["StudyOptions", "optimize"]

_MOST_REASONS = 3


def optimize(
    dsn: str,
    options: StudyOptions,
    journal: Journal,
    observer: Observer,
    *,
    rules: tuple[Rule, ...] = RULES,
) -> Study:
    """Run the loop against a target and return the finished Study; the target itself is not changed.

    `rules` are those by which statements are rewritten; without any, none is.

    Raises:
        TargetUnreachable, MissingRights, InvalidInput: the target cannot be read.
        LabRefused, ServerNotFound, ServerFailed: no lab can be had.
        KeyboardInterrupt: as given; the Study is saved as interrupted and the lab removed.
    """
    started_at_s = time.time()
    binaries = admitted_binaries(dsn, lab_dsn=options.lab_dsn, max_lab_bytes=options.max_lab_bytes)
    analysis = analyze_target(
        dsn,
        observer,
        workload_source=options.workload_source,
        log=options.log,
        log_line_prefix=options.log_line_prefix,
        window_s=options.window_s,
        seed=options.seed,
    )
    if analysis.workload is None:
        raise _without_workload(options.workload_source, analysis)
    run = StudyRun(_new_study(dsn, options, analysis, started_at_s), journal, observer, options, rules=rules)
    try:
        run.save()
        _run_in_lab(dsn, run, analysis, analysis.workload, binaries)
        run.save(state=StudyState.FINISHED, finished_at_s=time.time())
    except BaseException as error:  # however it ended, the study says so
        state = StudyState.INTERRUPTED if isinstance(error, KeyboardInterrupt) else StudyState.FAILED
        # Where the journal is what failed, its own error says so; `perfloop recover` closes the study.
        with contextlib.suppress(JournalDamaged):
            run.save(state=state, finished_at_s=time.time())
        raise
    return run.study


def _without_workload(source: str | None, analysis: Analysis) -> InvalidInput:
    if source is not None:
        told = "; ".join(analysis.unexplained[:_MOST_REASONS])
        return InvalidInput(f"no statement of {source} can be tried; perfloop analyze tells of all: {told}")
    reasons = "; ".join(f"{each.subject}: {each.reason}" for each in analysis.snapshot.limitations)
    return InvalidInput(
        "there is no workload to try changes on; give one with --workload FOLDER or FILE.sql"
        + (f" ({reasons})" if reasons else "")
    )


def _new_study(dsn: str, options: StudyOptions, analysis: Analysis, started_at_s: float) -> Study:
    assert analysis.workload is not None
    day = time.strftime("%Y%m%d", time.gmtime(started_at_s))
    return Study(
        study_id=f"{day}-{secrets.token_hex(3)}",
        target=safe_dsn(dsn),
        started_at_s=started_at_s,
        state=StudyState.RUNNING,
        seed=options.seed,
        fingerprint=analysis.snapshot.fingerprint,
        workload_origin=analysis.workload.origin,
        statements=tuple(each.statement for each in analysis.workload.operations),
        skipped=analysis.workload.skipped,
        findings=analysis.findings,
        limitations=analysis.snapshot.limitations,
        unexplained=analysis.unexplained,
    )


def _run_in_lab(
    dsn: str, run: StudyRun, analysis: Analysis, workload: Workload, binaries: PostgresBinaries
) -> None:
    snapshot = analysis.snapshot
    settings = lab_settings(snapshot)
    lab = Lab(
        _server(dsn, run, binaries, settings),
        settings=settings,
        snapshot=snapshot,
        target_dsn=dsn,
        binaries=binaries,
        tell=run.observer.phase,
    )
    with lab:
        run.save(lab_fingerprint=lab.fingerprint, notes=run.study.notes + lab.notes + _differences(run, lab))
        workload = _count_all(run, lab, snapshot, workload)
        run.observer.phase("searching for changes")
        rewrites = RewriteTrials.find(lab, workload, run.counts, snapshot, run.rules)
        advice = _advise(run, lab, snapshot, workload, rewrites)
        run.save(unexplained=run.study.unexplained + rewrites.untried)
        try_all(run, lab, workload, advice, rewrites)
        recheck_all(run, lab, workload)
        after = study_plans(snapshot, workload, run.counts, run.draws)
        run.save(plans_after=changed_plans(run.study.plans_before, after))
        confirm_kept(run, lab, workload)


def _server(dsn: str, run: StudyRun, binaries: PostgresBinaries, settings: Mapping[str, str]) -> LabServer:
    keep = run.options.keep_lab
    if run.options.lab_dsn is not None:
        server = ScratchServer(run.options.lab_dsn, target_dsn=dsn, settings=settings, keep=keep)
        if keep:
            note = f"the lab's databases are kept; their names begin {server.prefix}"
            run.save(notes=(*run.study.notes, note))
        return server
    folder = journal_path().parent / "labs" / run.study.study_id if keep else None
    if folder is not None:
        run.save(notes=(*run.study.notes, f"the lab's data are kept in {folder}; remove it when done"))
    return OwnServer(binaries, settings, data_dir=folder)


def _differences(run: StudyRun, lab: Lab) -> tuple[str, ...]:
    target = run.study.fingerprint
    notes = []
    if lab.fingerprint.major != target.major:
        notes.append(
            f"the lab runs PostgreSQL {lab.fingerprint.major}, the target {target.major}: "
            f"plans may differ; install PostgreSQL {target.major} here for verdicts that apply accepts"
        )
    notes += [
        f"the lab's build has no {each}: nothing is decided about it"
        for each in lab.fingerprint.lacks(target)
    ]
    return tuple(notes)


def _count_all(run: StudyRun, lab: Lab, snapshot: Snapshot, workload: Workload) -> Workload:
    """Count every operation once in the lab; what fails there leaves the workload, with the reason."""
    run.observer.phase("running the workload once in the lab")
    with lab.control_arm() as arm:
        runnable = find_runnable(arm, workload, snapshot)
    run.counts.update(runnable.counts)
    run.save(skipped=run.study.skipped + runnable.skipped)
    if run.options.weighing is Weighing.EQUAL:
        run.save(notes=(*run.study.notes, "every statement counts the same, however often it is called"))
    seconds = {query_id: counted.cpu_s for query_id, counted in runnable.counts.items()}
    return weighed(runnable.workload, seconds, run.options.weighing)


def _advise(
    run: StudyRun, lab: Lab, snapshot: Snapshot, workload: Workload, rewrites: RewriteTrials
) -> Advice:
    """Look again with the lab's measured plans, and search for changes that leave rewritings their seats."""
    measured = tuple(
        StatementPlan(query_id=each.statement.query_id, instance=instance, plan=plan)
        for each in workload.operations
        for instance, plan in zip(each.instances, run.counts[each.statement.query_id].plans, strict=True)
    )
    snapshot = msgspec.structs.replace(snapshot, plans=measured)
    run.draws.update(heaviest_draws(workload, run.counts))
    plans = study_plans(snapshot, workload, run.counts, run.draws)
    run.save(findings=analyze(snapshot), plans_before=plans)
    with lab.clone() as connection, open_what_if(connection, snapshot.tables) as what_if:
        policy = SearchPolicy(storage_bytes=run.options.max_index_bytes, weighing=run.options.weighing)
        most = run.options.most_trials
        advice = propose(
            snapshot,
            run.study.findings,
            workload,
            what_if,
            policy=policy,
            rehearsal=rehearsal_beside(connection, what_if),
            most_trials=most - rewrites.seats(most),
        )
    study = run.study
    sentences = told_once(study.unexplained, advice.unexplained, study.statements, study.findings)
    run.save(unexplained=sentences)
    return advice
