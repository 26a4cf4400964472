"""One Study: the whole loop from a target's DSN to a confirmed stack of changes. The target is only read.

The Study is saved after every step, so that a crash leaves what was found so far, and `perfloop recover`
removes the lab.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from perfloop.adapters.connection import safe_dsn
from perfloop.adapters.servers import PostgresBinaries, find_postgres
from perfloop.adapters.store import Journal, journal_path
from perfloop.analyze.checks import analyze
from perfloop.analyze.nothing import told_once
from perfloop.errors import ChangeFailed, InvalidInput, JournalDamaged, UnsupportedStatement
from perfloop.model.advice import AlterSetting, Change, Proposal
from perfloop.model.analysis import Analysis
from perfloop.model.outcome import LabKind, Study, StudyState, TrialRecord, Verdict
from perfloop.model.snapshot import Snapshot, StatementPlan
from perfloop.model.value import Value
from perfloop.model.workload import StatementKind, Workload
from perfloop.tune.advisor.advice import Advice, propose
from perfloop.tune.advisor.extend import SearchPolicy
from perfloop.tune.advisor.lab_rehearsal import rehearsal_beside
from perfloop.tune.advisor.lab_what_if import open_what_if
from perfloop.tune.analysis import analyze_target
from perfloop.tune.beyond_lab import why_beyond_lab
from perfloop.tune.confirm import confirm
from perfloop.tune.decision import STANDARD_KEEP_POLICY, KeepPolicy
from perfloop.tune.lab.fill import refuse_old_tools, refuse_unless_it_fits
from perfloop.tune.lab.lab import Lab
from perfloop.tune.lab.servers import LabServer, OwnServer, ScratchServer
from perfloop.tune.lab.settings import lab_settings
from perfloop.tune.measure import is_heavy
from perfloop.tune.observer import Observer
from perfloop.tune.rewrite_trials import RewriteTrials, is_superseded
from perfloop.tune.rewrites.rule import Rule
from perfloop.tune.rewrites.rules import RULES
from perfloop.tune.runnable import find_runnable
from perfloop.tune.samples import Count
from perfloop.tune.study_plans import changed_plans, heaviest_draws, study_plans
from perfloop.tune.trial import TrialResult, run_trial
from perfloop.tune.weighing import Weighing, weighed


class StudyOptions(Value, frozen=True, kw_only=True):
    """What a user may choose of a Study."""

    workload_source: str | None = None
    """A log, a folder of logs or of .sql files, or a pgbench script; None for pg_stat_statements."""
    log: str | None = None
    """A log whose real parameters stand in for `$n`."""
    log_line_prefix: str | None = None
    window_s: float | None = None
    lab_dsn: str | None = None
    """A scratch server of the user's own, with the right to create databases; None for one of perfloop's."""
    keep_lab: bool = False
    """Leave the lab's data for a look; the study's notes say where."""
    max_lab_bytes: int = 20 * 1024**3
    max_index_bytes: int | None = None
    """For all new indexes together; None for half of what the tables take."""
    weighing: Weighing = Weighing.TIME
    """What the statements count by, in the search and in the trials."""
    most_trials: int = 24
    seed: int = 1
    policy: KeepPolicy = STANDARD_KEEP_POLICY


@dataclass(slots=True)
class _Run:
    """A Study under way."""

    study: Study
    journal: Journal
    observer: Observer
    options: StudyOptions
    counts: dict[str, Count] = field(default_factory=dict)
    """Of every operation, with all that is kept so far."""
    counts_before: dict[Change, Mapping[str, Count]] = field(default_factory=dict)
    """Of what a kept change may reach, in the control arm of its trial."""
    kept_bytes: int = 0
    draws: dict[str, int] = field(default_factory=dict)
    """Of each statement, the instance whose plan the study keeps."""
    rules: tuple[Rule, ...] = RULES

    def save(self, **changes: object) -> None:
        self.study = msgspec.structs.replace(self.study, **changes)
        self.journal.save_study(self.study)


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
        reasons = [f"{each.subject}: {each.reason}" for each in analysis.snapshot.limitations]
        raise InvalidInput(
            "there is no workload to try changes on; give one with --workload FOLDER or FILE.sql"
            + (f" ({'; '.join(reasons)})" if reasons else "")
        )
    run = _Run(_new_study(dsn, options, analysis, started_at_s), journal, observer, options, rules=rules)
    run.save()
    try:
        _run_in_lab(dsn, run, analysis, analysis.workload)
    except BaseException as error:  # however it ended, the study says so
        state = StudyState.INTERRUPTED if isinstance(error, KeyboardInterrupt) else StudyState.FAILED
        # Where the journal is what failed, its own error says so; `perfloop recover` closes the study.
        with contextlib.suppress(JournalDamaged):
            run.save(state=state, finished_at_s=time.time())
        raise
    run.save(state=StudyState.FINISHED, finished_at_s=time.time())
    return run.study


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


def _run_in_lab(dsn: str, run: _Run, analysis: Analysis, workload: Workload) -> None:
    snapshot = analysis.snapshot
    binaries = find_postgres(prefer_major=snapshot.fingerprint.major)
    refuse_old_tools(binaries, snapshot.fingerprint.major)
    limit_bytes = run.options.max_lab_bytes if run.options.lab_dsn is None else None
    refuse_unless_it_fits(snapshot.activity.database_bytes, limit_bytes=limit_bytes)
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
        advice = _advise(run, lab, snapshot, workload)
        rewrites = RewriteTrials.find(lab, workload, run.counts, snapshot, run.rules)
        run.save(unexplained=run.study.unexplained + rewrites.untried)
        _try_all(run, lab, workload, advice, rewrites)
        _recheck_all(run, lab, workload)
        after = study_plans(snapshot, workload, run.counts, run.draws)
        run.save(plans_after=changed_plans(run.study.plans_before, after))
        _confirm(run, lab, workload)


def _server(dsn: str, run: _Run, binaries: PostgresBinaries, settings: Mapping[str, str]) -> LabServer:
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


def _differences(run: _Run, lab: Lab) -> tuple[str, ...]:
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


def _count_all(run: _Run, lab: Lab, snapshot: Snapshot, workload: Workload) -> Workload:
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


def _advise(run: _Run, lab: Lab, snapshot: Snapshot, workload: Workload) -> Advice:
    """Look again with the lab's measured plans, and search for changes."""
    run.observer.phase("searching for changes")
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
        rehearsal = rehearsal_beside(connection, what_if)
        advice = propose(snapshot, run.study.findings, workload, what_if, policy=policy, rehearsal=rehearsal)
    study = run.study
    sentences = told_once(study.unexplained, advice.unexplained, study.statements, study.findings)
    run.save(unexplained=sentences)
    return advice


def _try_all(run: _Run, lab: Lab, workload: Workload, advice: Advice, rewrites: RewriteTrials) -> None:
    triable = tuple(each for each in _triable(run, lab, advice) if not _is_beyond_lab(run, lab, each))
    proposals = rewrites.among(triable, run.options.most_trials)
    database_bytes = lab.database_bytes()
    policy = _keep_policy(run.options, database_bytes)
    for number, proposal in enumerate(proposals, start=1):
        if is_superseded(proposal, run.study.trials):
            continue
        run.observer.trial_started(proposal, number, len(proposals))
        same_rows = rewrites.compare(lab, proposal.change, run.counts, run.options.seed)
        try:
            if same_rows is not None and same_rows.difference is not None:
                raise ChangeFailed(f"it does not keep the rows: {same_rows.difference}")
            with lab.arms(proposal.change) as arms:
                growth_bytes = run.kept_bytes + arms.size_bytes
                result = run_trial(
                    proposal,
                    arms,
                    workload,
                    run.counts,
                    policy,
                    seed=run.options.seed + number,
                    growth_ratio=max(0.0, growth_bytes / database_bytes),
                    known=run.counts,
                )
        except ChangeFailed as error:
            record = _not_made(proposal, lab, error)
        else:
            record = result.record
            _settle(run, lab, result)
        record = msgspec.structs.replace(record, same_rows=same_rows)
        run.save(trials=(*run.study.trials, record))
        run.observer.trial_finished(record)


def _keep_policy(options: StudyOptions, database_bytes: int) -> KeepPolicy:
    """The user's policy, in which space that was given for indexes takes the place of the usual limit."""
    if options.max_index_bytes is None:
        return options.policy
    return msgspec.structs.replace(
        options.policy, max_growth_ratio=options.max_index_bytes / max(database_bytes, 1)
    )


def _settle(run: _Run, lab: Lab, result: TrialResult) -> None:
    """Keep or revert in the lab, as the verdict says."""
    record = result.record
    change = record.proposal.change
    diverged = _wrote_differently(record)
    if record.verdict is not Verdict.KEEP:
        lab.revert(change, diverged=diverged)
        # The stack is as it was: what heavy statements cost there need not be measured for the next trial.
        run.counts.update({key: each for key, each in result.control_counts.items() if is_heavy(each)})
        return
    lab.keep(change, diverged=diverged)
    run.kept_bytes += record.size_bytes
    run.counts.update(result.counts)
    run.counts_before[change] = result.control_counts


def _not_made(proposal: Proposal, lab: Lab, error: ChangeFailed) -> TrialRecord:
    """The record of a change that the lab's server refused: it would be refused on the target, too."""
    return TrialRecord(
        proposal=proposal,
        lab=lab.kind_for(proposal.change),
        verdict=Verdict.REVERT,
        reason=str(error),
        started_at_s=time.time(),
    )


def _is_beyond_lab(run: _Run, lab: Lab, proposal: Proposal) -> bool:
    """Whether no trial could decide; then it is recorded as unclear, for people to do."""
    reason = why_beyond_lab(proposal.change)
    if reason is None:
        return False
    record = TrialRecord(
        proposal=proposal,
        lab=lab.kind_for(proposal.change),
        verdict=Verdict.UNCLEAR,
        reason=reason,
        started_at_s=time.time(),
    )
    run.save(trials=(*run.study.trials, record))
    return True


def _triable(run: _Run, lab: Lab, advice: Advice) -> tuple[Proposal, ...]:
    """The proposals that this lab can try; the others are named."""
    out = [
        each
        for each in advice.proposals
        if lab.kind_for(each.change) is LabKind.INSTANCES and not lab.server.can_restart
    ]
    if out:
        sentences = tuple(f"{each.change.title}: not tried, since --lab is never restarted" for each in out)
        run.save(unexplained=run.study.unexplained + sentences)
    return tuple(each for each in advice.proposals if each not in out)


def _wrote_differently(record: TrialRecord) -> bool:
    return any(each.statement.kind is StatementKind.WRITE for each in record.statements)


def _recheck_all(run: _Run, lab: Lab, workload: Workload) -> None:
    """Try each kept change once more by leaving it out: a later one may have made it useless."""
    kept = [trial.proposal for trial in run.study.kept()]
    if len(kept) < 2:
        return
    run.observer.phase("trying each kept change once more by leaving it out")
    for number, proposal in enumerate(kept, start=1):
        run.observer.trial_started(proposal, number, len(kept))
        with lab.arms_without(proposal.change) as arms:
            result = run_trial(
                proposal,
                arms,
                workload,
                run.counts,
                run.options.policy,
                seed=run.options.seed + 1000 + number,
                known=_known_without(run, proposal.change),
            )
        if result.record.verdict is Verdict.KEEP:
            lab.restore()
        else:
            lab.withdraw(proposal.change)
            run.counts.update(result.control_counts)
        run.save(rechecks=(*run.study.rechecks, result.record))
        run.observer.trial_finished(result.record)


def _known_without(run: _Run, change: Change) -> Mapping[str, Count]:
    """Counts that hold where only this change is left out.

    Equal plans do equal work under equal settings, and a setting may have been kept since.
    """
    if any(isinstance(trial.proposal.change, AlterSetting) for trial in run.study.kept()):
        return {}
    return run.counts_before[change]


def _confirm(run: _Run, lab: Lab, workload: Workload) -> None:
    kept: list[Change] = [trial.proposal.change for trial in run.study.kept()]
    if not kept:
        return
    run.observer.phase("confirming the kept changes together against the original")
    with lab.arms_of_stack(kept) as arms:
        try:
            confirmation = confirm(arms, workload, seed=run.options.seed + 2000)
        except UnsupportedStatement as error:
            run.save(notes=(*run.study.notes, f"the kept changes are not confirmed: {error}"))
        else:
            run.save(confirmation=confirmation)
