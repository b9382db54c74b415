"""The frozen records that cross folders.

Nothing here computes: a record is checked when it is made and never changes.  Times are seconds
since the epoch, durations are seconds.  All are imported from here; the files divide them by what
they are about.
"""

from sweeper.records.decisions import (
    SPARE,
    Asked,
    Decision,
    GaveUp,
    Planned,
    Recorded,
    RecordedTrials,
    Refused,
    Spared,
    Told,
)
from sweeper.records.events import (
    Event,
    Finished,
    Interrupted,
    Lost,
    Started,
    Tick,
)
from sweeper.records.files import (
    ADDED,
    ARTIFACTS,
    ARTIFACTS_SHA256,
    CORRECT,
    PRINTED,
    PROFILE,
    PROFILE_COLUMNS,
    RAISED,
)
from sweeper.records.jobs import (
    ROOT,
    Job,
    Kind,
    Start,
    Target,
    Work,
)
from sweeper.records.metrics import (
    CLASSIC,
    DIRECTIONS,
    METRICS,
    SHARES,
    KFold,
    Metric,
)
from sweeper.records.outcomes import (
    NOT_ITS_FAULT,
    RETRYABLE,
    USAGE,
    Died,
    Failure,
    Message,
    Outcome,
    Result,
    Usage,
    give_up,
)
from sweeper.records.points import (
    FINAL,
    LABELS,
    Alias,
    Params,
    Parent,
    Point,
    Reference,
)
from sweeper.records.progress import (
    Best,
    FolderProgress,
    Progress,
    Status,
)
from sweeper.records.stages import (
    CHECK,
    CHOOSE_MODE,
    COMPILED,
    DESCRIBE,
    EAGER,
    NUMERICS,
    PACKED,
    REFUSED,
    TRIAL,
    UNTRAINED,
    budget_of,
    descend,
    file_suffix,
    generation_of,
    is_trial,
    lineage_of,
    trial_stage,
)
from sweeper.records.tuning import (
    Rejected,
    Running,
    State,
    Step,
    Tuned,
    TunedSettings,
)

__all__ = [
    "ADDED",
    "ARTIFACTS",
    "ARTIFACTS_SHA256",
    "CHECK",
    "CHOOSE_MODE",
    "CLASSIC",
    "COMPILED",
    "CORRECT",
    "DESCRIBE",
    "DIRECTIONS",
    "EAGER",
    "FINAL",
    "LABELS",
    "METRICS",
    "NOT_ITS_FAULT",
    "NUMERICS",
    "PACKED",
    "PRINTED",
    "PROFILE",
    "PROFILE_COLUMNS",
    "RAISED",
    "REFUSED",
    "RETRYABLE",
    "ROOT",
    "SHARES",
    "SPARE",
    "TRIAL",
    "UNTRAINED",
    "USAGE",
    "Alias",
    "Asked",
    "Best",
    "Decision",
    "Died",
    "Event",
    "Failure",
    "Finished",
    "FolderProgress",
    "GaveUp",
    "Interrupted",
    "Job",
    "KFold",
    "Kind",
    "Lost",
    "Message",
    "Metric",
    "Outcome",
    "Params",
    "Parent",
    "Planned",
    "Point",
    "Progress",
    "Recorded",
    "RecordedTrials",
    "Reference",
    "Refused",
    "Rejected",
    "Result",
    "Running",
    "Spared",
    "Start",
    "Started",
    "State",
    "Status",
    "Step",
    "Target",
    "Tick",
    "Told",
    "Tuned",
    "TunedSettings",
    "Usage",
    "Work",
    "budget_of",
    "descend",
    "file_suffix",
    "generation_of",
    "give_up",
    "is_trial",
    "lineage_of",
    "trial_stage",
]


def _keep_stored_names() -> None:
    """Give every record the module that folders know.

    An objective without a file is identified by the names of what it uses, and a parameter that is
    a class by its name: a record has the same one, whichever file of this package it is in.
    """
    for name in __all__:
        found = globals()[name]
        if isinstance(found, type):
            found.__module__ = __name__


_keep_stored_names()
