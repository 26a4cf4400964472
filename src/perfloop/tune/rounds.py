"""The rounds of a Study: try each proposal, try each kept change by leaving it out, confirm them together."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from perfloop.errors import ChangeFailed, UnsupportedStatement
from perfloop.model.advice import AlterSetting, Change, Proposal
from perfloop.model.outcome import LabKind, TrialRecord, Verdict
from perfloop.model.workload import StatementKind, Workload
from perfloop.tune.advisor.advice import Advice
from perfloop.tune.beyond_lab import why_beyond_lab
from perfloop.tune.confirm import confirm
from perfloop.tune.decision import KeepPolicy
from perfloop.tune.lab.lab import Lab
from perfloop.tune.measure import is_heavy
from perfloop.tune.rewrite_trials import RewriteTrials, is_superseded
from perfloop.tune.samples import Count
from perfloop.tune.study_run import StudyOptions, StudyRun
from perfloop.tune.trial import TrialResult, run_trial


def try_all(run: StudyRun, lab: Lab, workload: Workload, advice: Advice, rewrites: RewriteTrials) -> None:
    """Try each proposal on top of what is kept so far; every record is saved as it comes."""
    triable = tuple(each for each in _triable(run, lab, advice) if not _is_beyond_lab(run, lab, each))
    proposals = rewrites.among(triable, run.options.most_trials)
    run.save(unexplained=run.study.unexplained + rewrites.left_out(proposals))
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


def _settle(run: StudyRun, lab: Lab, result: TrialResult) -> None:
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


def _is_beyond_lab(run: StudyRun, lab: Lab, proposal: Proposal) -> bool:
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


def _triable(run: StudyRun, lab: Lab, advice: Advice) -> tuple[Proposal, ...]:
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


def recheck_all(run: StudyRun, lab: Lab, workload: Workload) -> None:
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


def _known_without(run: StudyRun, change: Change) -> Mapping[str, Count]:
    """Counts that hold where only this change is left out.

    Equal plans do equal work under equal settings, and a setting may have been kept since.
    """
    if any(isinstance(trial.proposal.change, AlterSetting) for trial in run.study.kept()):
        return {}
    return run.counts_before[change]


def confirm_kept(run: StudyRun, lab: Lab, workload: Workload) -> None:
    """Measure all that was kept against the original, in fresh pairs; nothing can be tried afterwards."""
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
